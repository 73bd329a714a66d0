"""What tests of faults share: the helpers of the command line's tests; no notes."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))  # the tests of the command line lend what they have


@pytest.fixture(autouse=True)
def notes_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does not look at is not shown."""
    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: None)
