"""What tests of studies share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sartor.cli.main import main


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give a study words that it must refuse, in one line and before it writes anything; return that line."""

    def give(name: str, *words: str) -> str:
        monkeypatch.chdir(tmp_path)
        assert main(["study", name, *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir())
        return error

    return give
