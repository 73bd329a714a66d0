"""kill -9 and power cuts, at every change of a file: the run goes on and ends bit for bit as if unbroken."""

import signal
from functools import partial
from pathlib import Path

import pytest
from meddling import kill_at, meddled, nothing, spread
from power import PowerCut
from tiny import covers, fit, in_child, outcome, unbroken

PARTS = 12
"""So many tests share the moments, so that they can run side by side."""


def count_changes(folder: Path) -> int:
    with meddled(folder, nothing) as seen:
        fit(folder)
    assert {change.kind for change in seen} == {"open", "write", "fsync", "replace", "mkdir", "unlink"}
    return len(seen)


def killed_at(folder: Path, number: int) -> None:
    with meddled(folder, kill_at(number)):
        fit(folder)


def goes_on_after_a_kill(folder: Path, number: int) -> None:
    assert in_child(partial(killed_at, folder, number)) == -signal.SIGKILL
    fit(folder)
    assert outcome(folder) == unbroken(), f"killed at change {number}"
    assert not list(folder.rglob("*.tmp"))


@covers("killed (kill -9)")
def test_killed_at_a_spread_of_changes(tmp_path: Path) -> None:
    for number in spread(count_changes(tmp_path / "whole"), 8):
        goes_on_after_a_kill(tmp_path / str(number), number)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_change(tmp_path: Path, part: int) -> None:
    for number in range(part, count_changes(tmp_path / "whole"), PARTS):
        goes_on_after_a_kill(tmp_path / str(number), number)


@covers("killed (kill -9)")
def test_killed_again_and_again(tmp_path: Path) -> None:
    """Each start comes a few changes further than the one before it."""
    folder = tmp_path / "run"
    for number in (3, 20, 40, 60, 60, 41, 60):
        in_child(partial(killed_at, folder, number))
    fit(folder)
    assert outcome(folder) == unbroken()


def recorded(place: Path) -> PowerCut:
    with PowerCut.recording(place / "whole") as record:
        fit(place / "whole")
    return record


def goes_on_after_a_power_cut(record: PowerCut, folder: Path, number: int, kept: str) -> None:
    record.build(folder, number, kept)
    fit(folder)
    assert outcome(folder) == unbroken(), f"power cut at change {number}, of what was not synced {kept} was kept"


@covers("power cut")
def test_power_cuts_at_a_spread_of_changes(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    for place, number in enumerate(spread(len(record), 9)):
        goes_on_after_a_power_cut(record, tmp_path / str(number), number, ("nothing", "names", "some")[place % 3])


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["nothing", "names", "some"])
@pytest.mark.parametrize("part", range(PARTS))
def test_power_cuts_at_every_change(tmp_path: Path, part: int, kept: str) -> None:
    record = recorded(tmp_path)
    for number in range(part, len(record), PARTS):
        goes_on_after_a_power_cut(record, tmp_path / str(number), number, kept)


@covers("power cut")
def test_what_a_checkpoint_or_the_results_rest_on_is_on_the_disk(tmp_path: Path) -> None:
    """After a power cut no step is lost that a checkpoint had saved, and results never stand there alone."""
    record = recorded(tmp_path)
    saves = [number for number, name in record.renamed() if name == "checkpoints/last.pt"]
    assert len(saves) > 15
    for number in range(len(record) + 1):
        there = record.after(number, "nothing")
        if "results.json" in there:
            assert {"model.safetensors", "masks.safetensors", "metrics.jsonl", "SHA256SUMS"} <= set(there)
        elif number > saves[2]:
            assert "checkpoints/previous.pt" in there, "it goes last of all"
    for number in saves:  # the rename, and then the sync of the folder
        assert (
            record.after(number + 2, "nothing")["checkpoints/last.pt"]
            == record.after(number + 2, "all")["checkpoints/last.pt"]
        )
