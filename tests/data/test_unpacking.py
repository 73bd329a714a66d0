import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sartor.data import unpacking
from sartor.data.unpacking import unpack
from sartor.errors import DataError

EVIL = [
    "/etc/sartor",
    "../outside",
    "set/../../outside",
    "set/..",
    "C:/outside",
    "C:outside",
    "\\outside",
    "set\\..\\out",
]


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_files_come_to_where_they_belong(tmp_path: Path, kind: str) -> None:
    members = {"set/a": b"1", "set/b/c.txt": b"22", "./set/b/d": b"", "set/e/": b"", "__MACOSX/set/a": b"?"}
    if kind == "tar":
        members.pop("set/e/")
        folder = tarfile.TarInfo("set/e")
        folder.type = tarfile.DIRTYPE
        archive = tar_of(tmp_path / "x.tar.gz", {**members, "set/e": folder})
    else:
        archive = zip_of(tmp_path / "x.zip", members)
    unpack(archive, tmp_path / "set")
    assert files_of(tmp_path / "set") == {"a": b"1", "b/c.txt": b"22", "b/d": b""}
    assert (tmp_path / "set" / "e").is_dir()
    assert names(tmp_path) == ["set", archive.name]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", EVIL)
def test_nothing_leads_out(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    members = {"set/a": b"1", name: b"evil"}
    archive = (tar_of if kind == "tar" else zip_of)(tmp_path / "in" / "x", members)
    with pytest.raises(DataError, match="leads out of its folder"):
        unpack(archive, tmp_path / "in" / "set")
    assert names(tmp_path) == ["in"]
    assert names(tmp_path / "in") == ["x"]
    assert not Path("/etc/sartor").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("set/link")
    member.type, member.linkname = kind, "/etc/passwd"
    archive = tar_of(tmp_path / "x.tar", {"set/a": b"1", "set/link": member}, "w")
    with pytest.raises(DataError, match="'set/link', a link or a device"):
        unpack(archive, tmp_path / "set")
    assert names(tmp_path) == ["x.tar"]


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo("set/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'set/link', a link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "set")
    assert names(tmp_path) == ["x.zip"]


def test_rights_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    member = tarfile.TarInfo("set/a")
    member.mode, member.uid, member.mtime = 0o6777, 12345, 0
    unpack(tar_of(tmp_path / "x.tar", {"set/a": member}, "w"), tmp_path / "set")
    found = os.stat(tmp_path / "set" / "a")
    assert not found.st_mode & 0o7111
    assert (found.st_uid, found.st_mtime > 0) == (os.getuid(), True)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, damage) for kind in ("tar", "zip") for damage in ("cut", "empty", "text")] + [("zip", "flipped")],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, kind: str, damage: str) -> None:
    members = {f"set/{number}": os.urandom(3000) for number in range(5)}
    archive = (tar_of if kind == "tar" else zip_of)(tmp_path / "x", members)
    whole = archive.read_bytes()
    flipped = whole[:5000] + bytes(byte ^ 0x55 for byte in whole[5000:5200]) + whole[5200:]
    contents = {"cut": whole[:5000], "empty": b"", "text": b"<html>" * 100, "flipped": flipped}
    archive.write_bytes(contents[damage])
    with pytest.raises(DataError, match=r"x is damaged|x cannot be unpacked"):
        unpack(archive, tmp_path / "set")
    assert names(tmp_path) == ["x"]


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("set/a"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar", tmp_path / "set")
    assert names(tmp_path) == ["x.tar"]


def test_an_archive_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no folder set"):
        unpack(zip_of(tmp_path / "x.zip", {"other/a": b"1"}), tmp_path / "set")
    assert names(tmp_path) == ["x.zip"]


def test_a_full_disk_keeps_the_archive_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    archive = zip_of(tmp_path / "x.zip", {"set/a": b"1"})
    monkeypatch.setattr(unpacking.shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"\(No space left on device\); the archive is kept; .*free some space"):
        unpack(archive, tmp_path / "set")
    assert names(tmp_path) == ["x.zip"]
    monkeypatch.undo()
    unpack(archive, tmp_path / "set")
    assert files_of(tmp_path / "set") == {"a": b"1"}


def test_an_interruption_leaves_nothing_and_its_remains_are_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(source: object, target: object) -> None:
        raise KeyboardInterrupt

    archive = zip_of(tmp_path / "x.zip", {"set/a": b"1"})
    monkeypatch.setattr(unpacking.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "set")
    assert names(tmp_path) == ["x.zip"]
    monkeypatch.undo()
    (tmp_path / ".set.unpacking").mkdir()
    (tmp_path / ".set.unpacking" / "a").write_bytes(b"half")  # what a killed program leaves
    unpack(archive, tmp_path / "set")
    assert files_of(tmp_path / "set") == {"a": b"1"}


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"set/a": b"1"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_bytes(b"mine")
    with pytest.raises(DataError, match="cannot be unpacked into"):
        unpack(archive, tmp_path / "set")
    assert files_of(tmp_path / "set") == {"mine": b"mine"}
    assert names(tmp_path) == ["set", "x.zip"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["set", "..", ".", "", "a", "b", "/", "\\", "C:", "~"]), min_size=1, max_size=5))
def test_whatever_a_name_says_files_lie_in_the_folder_or_nowhere(tmp_path: Path, parts: list[str]) -> None:
    place = tmp_path / "in" / "deep"
    place.mkdir(parents=True, exist_ok=True)
    before = set(tmp_path.rglob("*")) | {place / "x.tar", place / "set"}
    archive = tar_of(place / "x.tar", {"/".join(parts): b"content"}, "w")
    try:
        unpack(archive, place / "set")
        assert set((place / "set").rglob("*"))
    except DataError:
        assert not (place / "set").exists()
    strangers = {path for path in tmp_path.rglob("*") if place / "set" not in path.parents} - before
    assert not strangers
    for path in sorted((place / "set").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if (place / "set").exists():
        (place / "set").rmdir()
