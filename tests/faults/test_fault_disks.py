"""Disks that are full, failing or read-only: one line says so, the last checkpoint is good, the command goes on."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import DENSE, call, write_images
from meddling import Change, meddled, nothing, refuse_from, spread
from tiny import covers, fit, notes, one_line, outcome, stop_after, unbroken

from sartor.errors import SartorError
from sartor.run_folder import read_checkpoint

CURES = {
    errno.ENOSPC: "Free some space, then give the same command again.",
    errno.EDQUOT: "Free some of your quota, then give the same command again.",
    errno.EIO: "Look at the disk, or copy the folder to another one and give that as --out, then",
    errno.EROFS: "Make it writable, or choose another --out, then give the same command again.",
    errno.EACCES: "Make it writable, or choose another --out, then give the same command again.",
}
PARTS = 10


def changes(folder: Path) -> list[str]:
    with meddled(folder, nothing) as seen:
        fit(folder)
    return [change.kind for change in seen]


def goes_on_after(folder: Path, number: int, code: int, *, only_one: bool) -> None:
    """Refuse a change, look at the message and at the checkpoint, then go on."""
    with pytest.raises(SartorError) as caught, meddled(folder, refuse_from(number, code, only_one=only_one)):
        fit(folder)
    text = one_line(caught.value)
    assert f"({os.strerror(code)})" in text
    assert str(folder) in text
    assert CURES[code] in text
    saved = [folder / "checkpoints" / name for name in ("last.pt", "previous.pt")]
    for path in saved:
        if path.exists():
            read_checkpoint(path)
    with notes() as lines:
        fit(folder)
    assert lines == [], "nothing was damaged"
    assert outcome(folder) == unbroken(), f"refused from change {number}"


@covers("disk full", "quota used up", "disk failing (EIO)", "folder made read-only meanwhile")
@pytest.mark.parametrize(
    "code",
    [
        errno.ENOSPC,
        errno.EROFS,
        *(pytest.param(each, marks=pytest.mark.slow) for each in list(CURES)[1:3] + list(CURES)[4:]),
    ],
    ids=errno.errorcode.get,
)
def test_refused_at_a_spread_of_changes(tmp_path: Path, code: int) -> None:
    kinds = changes(tmp_path / "whole")
    offset = list(CURES).index(code)
    for number in spread(len(kinds) - 8, 3):
        number += offset
        while kinds[number] == "unlink":
            number += 1
        goes_on_after(tmp_path / str(number), number, code, only_one=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("only_one", [True, False])
@pytest.mark.parametrize("part", range(PARTS))
def test_refused_at_every_change(tmp_path: Path, part: int, only_one: bool) -> None:
    kinds = changes(tmp_path / "whole")
    for number in range(part, len(kinds), PARTS):
        if kinds[number] != "unlink":
            goes_on_after(tmp_path / str(number), number, errno.ENOSPC, only_one=only_one)


@covers("disk failing (EIO)")
def test_a_run_is_finished_where_the_older_checkpoint_cannot_be_deleted(tmp_path: Path) -> None:
    refused = []

    def refuse(change: Change) -> None:
        if change.kind == "unlink":
            refused.append(change.path.name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with meddled(tmp_path / "kept", refuse):
        fit(tmp_path / "kept")
    fit(tmp_path / "run")
    assert refused == ["previous.pt"]
    assert {path.name for path in (tmp_path / "kept" / "checkpoints").iterdir()} == {"last.pt", "previous.pt"}
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"last.pt"}
    assert outcome(tmp_path / "kept") == outcome(tmp_path / "run") == unbroken()


@covers("folder read-only from the start")
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_place_that_cannot_be_written(tmp_path: Path, code: int) -> None:
    folder = tmp_path / "run"
    refused = pytest.raises(SartorError, match=r"run cannot be made \(.+\); .*choose another --out")
    with refused as caught, meddled(folder, refuse_from(0, code)):
        fit(folder)
    one_line(caught.value)
    assert not folder.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True, capture_output=True)


@covers("disk full")
def test_a_small_disk_that_is_really_full(small_disk: Path) -> None:
    folder = small_disk / "run"
    stop_after(folder, 3)
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    last = (folder / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(SartorError, match=r"cannot be written \(No space left on device\).*Free some space") as caught:
        fit(folder)
    one_line(caught.value)
    assert (folder / "checkpoints" / "last.pt").read_bytes() == last
    filler.unlink()
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("folder made read-only meanwhile", "finished run on a read-only disk")
def test_a_disk_that_is_really_read_only(small_disk: Path) -> None:
    folder = small_disk / "run"
    stop_after(folder, 3)
    remount(small_disk, "ro")
    with pytest.raises(SartorError, match=r"cannot be written \(Read-only file system\).*Make it writable"):
        fit(folder)
    remount(small_disk, "rw")
    done = fit(folder)
    assert outcome(folder) == unbroken()
    remount(small_disk, "ro")
    again = fit(folder)
    assert again.results == done.results
    with pytest.raises(SartorError, match=r"other cannot be made \(Read-only file system\)"):
        fit(small_disk / "other")
    remount(small_disk, "rw")


@covers("a disk that was full, copied elsewhere")
def test_a_run_may_be_copied_elsewhere_and_go_on_there(tmp_path: Path) -> None:
    stop_after(tmp_path / "run", 7)
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "run", ignore=shutil.ignore_patterns(".lock"))
    fit(tmp_path / "elsewhere" / "run")
    assert outcome(tmp_path / "elsewhere" / "run") == unbroken()


@covers("disk full")
def test_a_full_disk_in_the_shell_is_one_line_and_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    with meddled(tmp_path / "run", refuse_from(40, errno.ENOSPC)):
        ended = call(*DENSE, "--out", "run", "--save-every", "0")
    assert ended.code == 2
    assert "cannot be written (No space left on device); what was saved before is untouched." in ended.message
    ended = call(*DENSE, "--out", "run", "--save-every", "0")
    assert ended.code == 0
    assert "going on from run/checkpoints/last.pt: 0 epochs and" in ended.out


@covers("the report cannot be written")
def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    assert call(*DENSE, "--out", "runs/a").code == 0
    assert call("report", "runs").code == 0
    before = (tmp_path / "runs" / "report.html").read_bytes()
    for number in (0, 3, 20):
        with meddled(tmp_path / "runs", refuse_from(number, errno.ENOSPC)):
            ended = call("report", "runs")
        assert ended.code == 2
        assert "cannot be written (No space left on device)" in ended.message
        assert (tmp_path / "runs" / "report.html").read_bytes() == before


@covers("sartor report over one run")
def test_a_report_over_one_run_does_not_write_over_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are called results.json."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    assert call(*DENSE, "--out", "run").code == 0
    before = (tmp_path / "run" / "results.json").read_bytes()
    ended = call("report", "run")
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "report" / "report.html").exists()
    assert "a run's own folder" in call("report", "run", "--out", "run").message
    assert (tmp_path / "run" / "results.json").read_bytes() == before
    assert call("report", ".", "--out", "all").code == 0, "the report in the run's folder is taken for no run"
