import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import SartorError
from sartor.files import (
    changed,
    make_folder,
    read_json,
    read_object,
    read_sums,
    set_aside,
    sha256,
    write_atomic,
    write_json,
    write_sums,
    writing,
)

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


def test_the_old_file_may_be_kept(tmp_path: Path) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    write_atomic(path, "1", keep=before)
    assert names(tmp_path) == ["last"]
    write_atomic(path, "2", keep=before)
    write_atomic(path, "3", keep=before)
    assert (path.read_text(), before.read_text()) == ("3", "2")


def test_a_full_disk_changes_neither_the_file_nor_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "last", tmp_path / "previous"
    write_atomic(path, "1")
    write_atomic(path, "2", keep=before)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SartorError, match="No space left"):
        write_atomic(path, "3", keep=before)
    assert (path.read_text(), before.read_text()) == ("2", "1")
    assert names(tmp_path) == ["last", "previous"]


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.ENOSPC, "Free some space, then"),
        (errno.EDQUOT, "Free some of your quota, then"),
        (errno.EACCES, "Make it writable, or choose another --out, then"),
        (errno.ENAMETOOLONG, "Mend that or choose another --out, then"),
    ],
)
def test_what_the_system_says_and_what_to_do(tmp_path: Path, code: int, cure: str) -> None:
    refused = pytest.raises(SartorError, match=rf"a cannot be written \(.+\); .* {cure} give the same command")
    with refused as caught, writing(tmp_path / "a"):
        raise OSError(code, os.strerror(code))
    assert os.strerror(code) in str(caught.value)


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SartorError, match=r"file/c cannot be made \(Not a directory\)"):
        make_folder(tmp_path / "file" / "c")


def test_sums_tell_what_was_changed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    contents = {"a": "1", "sub/b": "2", "name with  spaces": "3"}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    sums = {name: sha256(text) for name, text in contents.items()}
    write_sums(tmp_path, sums)
    assert read_sums(tmp_path) == sums
    assert changed(tmp_path, sums) == []
    (tmp_path / "sub" / "b").write_text("4")
    (tmp_path / "a").unlink()
    assert changed(tmp_path, sums) == ["a", "sub/b"]
    assert changed(tmp_path, sums, ["sub/b", "unknown"]) == ["sub/b"]
    (tmp_path / "SHA256SUMS").write_bytes(b"\xff")
    assert read_sums(tmp_path) == read_sums(tmp_path / "nowhere") == {}


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    for text in ("1", "2"):
        (tmp_path / "a.pt").write_text(text)
        set_aside(tmp_path / "a.pt")
    assert names(tmp_path) == ["a.pt.damaged"]
    assert (tmp_path / "a.pt.damaged").read_text() == "2"


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_an_object_is_asked_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SartorError, match=r"a\.json holds no JSON object; delete it or restore it"):
        read_object(tmp_path / "a.json")
