import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import SartorError
from sartor.files import read_json, write_atomic, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["", "text, ünïcode\n", b"\x00\xff bytes"])
def test_files_are_written_and_replaced_whole(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before, and longer than what follows")
    write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"what was saved"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, before: bytes | None
) -> None:
    path = tmp_path / "a.json"
    if before is not None:
        path.write_bytes(before)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(SartorError, match=r"a\.json cannot be written \(No space left on device\)") as caught:
        write_atomic(path, "new")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ([] if before is None else ["a.json"])
    assert before is None or path.read_bytes() == before


def test_a_full_disk_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """The kernel itself refuses: /dev/full takes no byte."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "a.json"
    path.write_text("old")
    (tmp_path / f".a.json.{os.getpid()}.tmp").symlink_to(full)
    with pytest.raises(SartorError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_an_interrupt_in_the_middle_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(file: int) -> None:
        order.append(("fsync", os.fstat(file).st_size))
        fsync(file)

    def watched_replace(source: Path, target: Path) -> None:
        order.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_atomic(path, "12345")
    assert order[:2] == [("fsync", 5), ("replace", "a.txt")]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SartorError, match="choose another --out"):
        write_atomic(tmp_path / "nowhere" / "a.txt", "x")
    assert names(tmp_path) == []


@given(value=VALUES)
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text().endswith("\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_is_no_json_is_refused_before_anything_is_touched(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SartorError, match=r"broken\.json cannot be read") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
