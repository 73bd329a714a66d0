"""Folders in memory, where the system has such: thousands of syncs cost nothing there."""

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))  # the tests of the command line lend what they have
MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def notes_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does not look at is not shown."""
    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: None)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    place = Path(tempfile.mkdtemp(prefix="sartor-", dir=MEMORY))
    yield place
    shutil.rmtree(place, ignore_errors=True)
