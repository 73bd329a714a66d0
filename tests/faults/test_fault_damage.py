"""Files that were cut short, altered or deleted: named and mended, or refused with what to do; never used unseen."""

import functools
import json
import os
import re
import shutil
import signal
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from meddling import Change, meddled
from tiny import SELECTIONS, content, covers, fit, in_child, notes, one_line, outcome, stop_after, unbroken

from sartor.errors import DataError, ResumeError
from sartor.report.collect import collect

CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/previous.pt")
UNFINISHED = ("config.json", "metrics.jsonl", "noise.json", "machine.json", *SELECTIONS[:2], *CHECKPOINTS, ".lock")
FINISHED = ("config.json", "metrics.jsonl", "noise.json", "machine.json", *SELECTIONS, CHECKPOINTS[0], ".lock")
FINISHED += ("ledger.json", "results.json", "SHA256SUMS", "model.safetensors", "masks.safetensors")
ABSENT_IS_FINE = (".lock", "checkpoints/previous.pt")
STOP = 14
"""Ends of steps and epochs after which the unfinished run was killed: in the third of four epochs."""


def flipped(raw: bytes) -> bytes:
    """Alter a byte in each tenth of a file, so that whatever it holds is hit."""
    altered = bytearray(raw)
    for place in range(len(raw) // 20, len(raw), max(1, len(raw) // 10)):
        altered[place] ^= 0x15
    return bytes(altered)


def wrong_types(raw: bytes) -> bytes:
    """Turn every number, word and list of a JSON object into something else."""
    try:
        found = json.loads(raw)
    except ValueError:
        return b'{"format": "one", "tracked": 3, "kind": []}\n'
    return json.dumps({key: [str(value)] for key, value in found.items()}).encode()


def other_format(raw: bytes) -> bytes:
    try:
        return json.dumps({**json.loads(raw), "format": 99}).encode()
    except (ValueError, TypeError):
        return b'{"format": 99}\n'


WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda raw: None,
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "one byte short": lambda raw: raw[:-1],
    "altered": flipped,
    "another list": lambda raw: b"[]\n",
    "an empty object": lambda raw: b"{}\n",
    "wrong types": wrong_types,
    "another format": other_format,
}


@functools.cache
def kept(finished: bool) -> Path:
    """A run that is finished, or one that was killed in its third epoch."""
    folder = Path(tempfile.mkdtemp(prefix="sartor-kept-")) / "run"
    fit(folder) if finished else stop_after(folder, STOP)
    return folder


def damaged(tmp_path: Path, finished: bool, *names: str, way: str) -> Path:
    """A copy of a run in which some files were damaged."""
    folder = tmp_path / "run"
    shutil.copytree(kept(finished), folder)
    for name in names:
        altered = WAYS[way]((folder / name).read_bytes() or b"x")
        (folder / name).unlink()
        if altered is not None:
            (folder / name).write_bytes(altered)
    return folder


def without(found: dict, name: str) -> dict:
    """What a run leaves, but for a file that is lost."""
    return {key: value for key, value in found.items() if key != name}


def check_mended(folder: Path, name: str, way: str, *, lost: bool) -> None:
    """Go on, and compare with the run that nothing has disturbed; what was damaged has to be named."""
    with notes() as lines:
        fit(folder)
    assert outcome(folder) == (without(unbroken(), name) if lost else unbroken())
    told = [line for line in lines if name in line or name == "SHA256SUMS"]
    if name not in ABSENT_IS_FINE and (name, way) not in UNSEEN:
        assert told, f"{name} was damaged and nobody said so: {lines}"
        assert all(line.endswith(".") and "\n" not in line for line in lines)
    if name == "checkpoints/last.pt" and way != "missing":
        assert re.search(r"last\.pt is damaged \(.+\); going on from .*previous\.pt\.", told[0])
    with notes() as lines:
        fit(folder)
    assert lines == [], "what is mended is in order"


UNSEEN = {("checkpoints/last.pt", "missing"), ("results.json", "missing"), ("SHA256SUMS", "one byte short")}
"""Not to be told from a run that was killed, or of no consequence (the last end of line)."""


def damages(names: tuple[str, ...]) -> list[Any]:
    """All files in all ways; those that are slow to try, all but one or two for each file, are marked so."""
    pairs = [(name, way) for name in names for way in WAYS]
    quick = {(name, ("altered", "half", "missing")[place % 3]) for place, name in enumerate(names)}
    quick |= {
        (name, "altered") for name in names if name.startswith(("checkpoints/last", "results", "model", "metrics"))
    }
    return [pair if pair in quick else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]


@covers(
    "config.json damaged", "metrics.jsonl damaged or cut short", "noise.json, machine.json damaged", "last.pt damaged"
)
@covers("an earlier subset damaged", "previous.pt damaged", ".lock left behind or damaged")
@pytest.mark.parametrize(("name", "way"), damages(UNFINISHED))
def test_a_damaged_file_of_an_unfinished_run(tmp_path: Path, name: str, way: str) -> None:
    check_mended(damaged(tmp_path, False, name, way=way), name, way, lost=name == SELECTIONS[0])


@covers("results.json, SHA256SUMS or ledger.json damaged", "model.safetensors or masks.safetensors damaged")
@covers("last.pt damaged", "config.json damaged", "metrics.jsonl damaged or cut short")
@pytest.mark.parametrize(("name", "way"), damages(FINISHED))
def test_a_damaged_file_of_a_finished_run(tmp_path: Path, name: str, way: str) -> None:
    folder = damaged(tmp_path, True, name, way=way)
    if name in (*CHECKPOINTS, ".lock"):  # it is finished: they are not needed
        with notes() as lines:
            fit(folder)
        assert lines == []
        assert outcome(folder) == unbroken()
        return
    check_mended(folder, name, way, lost=name in SELECTIONS[:2])


@covers("last.pt damaged")
def test_every_byte_of_a_checkpoint_is_looked_at(tmp_path: Path) -> None:
    """torch.load alone takes altered weights without a word."""
    folder = damaged(tmp_path, False, way="half")
    last = folder / "checkpoints" / "last.pt"
    raw = last.read_bytes()
    with zipfile.ZipFile(last) as archive:
        tensors = [info for info in archive.infolist() if "/data/" in info.filename]
    largest = max(tensors, key=lambda info: info.file_size)
    names = sum(struct.unpack_from("<HH", raw, largest.header_offset + 26))
    place = largest.header_offset + 30 + names + largest.file_size // 2
    altered = bytearray(raw)
    altered[place] ^= 1
    last.write_bytes(altered)
    assert torch.load(last, weights_only=True)["format"] == 2
    with notes() as lines:
        fit(folder)
    assert re.search(r"last\.pt is damaged \(.* has another checksum\); going on from .*previous\.pt\.", lines[0])
    assert outcome(folder) == unbroken()
    assert (folder / "checkpoints" / "last.pt.damaged").read_bytes() == altered


@covers("last.pt damaged")
def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one(tmp_path: Path) -> None:
    """Killed at the first save after it went on, when names change: the good one is still there."""

    def kill(change: Change) -> None:
        if change.kind == "replace" and change.target is not None and change.target.name == "last.pt":
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(folder: Path) -> None:
        with meddled(folder, kill):
            fit(folder)

    folder = damaged(tmp_path, False, "checkpoints/last.pt", way="altered")
    for _ in range(3):
        assert in_child(functools.partial(begin, folder)) == -signal.SIGKILL
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("all checkpoints damaged")
@pytest.mark.parametrize("way", ["half", "altered", "wrong types"])
def test_no_checkpoint_that_can_be_read(tmp_path: Path, way: str) -> None:
    folder = damaged(tmp_path, False, *CHECKPOINTS, way=way)
    before = content(folder)
    with pytest.raises(ResumeError) as caught:
        fit(folder)
    text = one_line(caught.value)
    assert "last.pt: " in text
    assert "previous.pt: " in text
    assert text.endswith("checkpoints to train from the start.")
    assert content(folder) == before
    shutil.rmtree(folder / "checkpoints")
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("checkpoint of another format")
@pytest.mark.parametrize("number", [1, 99])
def test_a_checkpoint_of_another_format(tmp_path: Path, number: int) -> None:
    folder = damaged(tmp_path, False, way="half")
    torch.save({"format": number}, folder / "checkpoints" / "last.pt")
    before = content(folder)
    with pytest.raises(ResumeError, match=f"last.pt has format {number}; this version reads 2"):
        fit(folder)
    assert content(folder) == before


@covers("checkpoint of another program")
def test_a_state_that_does_not_fit_the_program(tmp_path: Path) -> None:
    folder = damaged(tmp_path, False, way="half")
    last = folder / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    state["tracked"]["model"].pop(next(iter(state["tracked"]["model"])))
    torch.save(state, last)
    with pytest.raises(ResumeError, match=r"last\.pt does not fit this program: model cannot be restored") as caught:
        fit(folder)
    one_line(caught.value)


@covers("a finished run damaged, its checkpoints deleted")
@pytest.mark.parametrize("name", ["model.safetensors", "masks.safetensors", "metrics.jsonl", "config.json"])
@pytest.mark.parametrize("way", ["missing", "altered"])
def test_wrong_weights_are_never_handed_out(tmp_path: Path, name: str, way: str) -> None:
    folder = damaged(tmp_path, True, name, way=way)
    shutil.rmtree(folder / "checkpoints")
    before = content(folder)
    with pytest.raises(ResumeError) as caught:
        fit(folder)
    assert name in one_line(caught.value)
    assert content(folder) == before


@covers("a finished run damaged, its checkpoints deleted")
def test_what_to_do_then(tmp_path: Path) -> None:
    """Delete results.json, as the message says: the run is made anew."""
    folder = damaged(tmp_path, True, "model.safetensors", way="altered")
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ResumeError, match=r"restore it from a copy, or delete results\.json to train again\."):
        fit(folder)
    (folder / "results.json").unlink()
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("a finished run without its checkpoints, or without SHA256SUMS")
def test_a_finished_run_needs_no_checkpoint_and_no_sums(tmp_path: Path) -> None:
    folder = damaged(tmp_path, True, way="half")
    shutil.rmtree(folder / "checkpoints")
    with notes() as lines:
        fit(folder)
    assert lines == []
    (folder / "SHA256SUMS").unlink()
    with notes() as lines:
        fit(folder)
    assert lines == [f"{folder} has no SHA256SUMS: its files are taken as they are, unchecked."]
    assert outcome(folder) == unbroken()


@covers("a finished run without its checkpoints, or without SHA256SUMS")
def test_a_run_that_an_earlier_version_finished(tmp_path: Path) -> None:
    """It has no sums, and checkpoints of another format, which it does not need."""
    folder = damaged(tmp_path, True, "SHA256SUMS", way="missing")
    for path in folder.glob("checkpoints/*.pt"):
        torch.save({"format": 1, "metrics": 7}, path)
    with notes() as lines:
        fit(folder)
    assert lines == [f"{folder} has no SHA256SUMS: its files are taken as they are, unchecked."]
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        ResumeError, match=r"the weights in .*run are not those of its results\.json; restore"
    ) as caught:
        fit(folder)
    one_line(caught.value)
    (folder / "metrics.jsonl").write_text("{}\n{")
    with pytest.raises(ResumeError, match=r"metrics\.jsonl is damaged \(.*\); restore it from a copy"):
        fit(folder)


@covers("a finished run damaged, its checkpoints deleted")
def test_the_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    import hashlib

    folder = damaged(tmp_path, True, way="half")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in content(folder)}
    told = dict(reversed(line.split("  ")) for line in lines)
    assert told == {name: found[name] for name in told}
    assert set(found) - set(told) == {".lock", "SHA256SUMS", CHECKPOINTS[0]}


@covers("folder of something else")
@pytest.mark.parametrize("stranger", ["model of another library", "run of another library", "thesis", "a file"])
def test_what_is_no_run_folder_is_not_touched(tmp_path: Path, stranger: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    if stranger == "model of another library":
        (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
        (folder / "model.safetensors").write_bytes(b"weights")
    elif stranger == "run of another library":
        (folder / "checkpoints").mkdir()
        (folder / "metrics.jsonl").write_text("{}\n")
        torch.save({"epoch": 3}, folder / "checkpoints" / "last.pt")
    elif stranger == "thesis":
        (folder / "thesis.txt").write_text("do not lose me")
    else:
        folder.rmdir()
        folder.write_text("do not lose me")
    before = content(tmp_path)
    with pytest.raises(ResumeError, match="exists and is no run folder; choose another --out or empty it"):
        fit(folder)
    assert content(tmp_path) == before


@covers("an earlier start that came to no checkpoint")
def test_what_an_earlier_start_left_does_not_get_into_the_next(tmp_path: Path) -> None:
    """It was killed after its selection was written and before it was saved; it had other options."""
    folder = tmp_path / "run"
    stop_after(folder, STOP)
    (folder / "subsets" / "epoch-0009.json").write_text("{}")
    (folder / "ledger.json").write_text("{}")
    shutil.rmtree(folder / "checkpoints")
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("results.json, SHA256SUMS or ledger.json damaged", "metrics.jsonl damaged or cut short")
@pytest.mark.parametrize("way", WAYS)
def test_a_report_leaves_out_what_is_damaged_and_says_so(tmp_path: Path, way: str) -> None:
    for seed in (0, 1):
        shutil.copytree(kept(True), tmp_path / "runs" / f"seed-{seed}")
        results = tmp_path / "runs" / f"seed-{seed}" / "results.json"
        sums = results.with_name("SHA256SUMS")
        changed = json.loads(results.read_text()) | {"seed": seed}
        results.write_text(json.dumps(changed))
        sums.unlink()
    shutil.rmtree(tmp_path / "runs" / "seed-1")
    shutil.copytree(kept(True), tmp_path / "runs" / "seed-1")
    broken = tmp_path / "runs" / "seed-1" / "results.json"
    altered = WAYS[way](broken.read_bytes())
    broken.unlink()
    if altered is not None:
        broken.write_bytes(altered)
    found = collect([tmp_path / "runs"])
    assert [run.folder.name for run in found.runs] == ["seed-0"]
    assert len(found.warnings) == 1
    assert "seed-1" in found.warnings[0]
    broken.with_name("results.json").unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "runs" / "seed-0")
    with pytest.raises(DataError, match="no finished run was found"):
        collect([tmp_path / "runs"])


@covers("metrics.jsonl damaged or cut short")
def test_a_report_says_where_curves_may_be_wrong(tmp_path: Path) -> None:
    shutil.copytree(kept(True), tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 7'))
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert found.warnings == (f"{path} was changed after the run had ended; its curves may be wrong.",)
