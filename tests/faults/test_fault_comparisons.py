"""A comparison, killed or refused at any change of its files: the same command ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import COMPARE, call, write_images
from meddling import Change, Meddle, kill_at, meddled, nothing, refuse_from, spread
from tiny import covers, in_child, outcome

from sartor.report import Report

COMMAND = (*COMPARE, "--arms", "dense", "swast-cut", "--seeds", "1", "--out", "all")


def compared(place: Path) -> dict[str, Any]:
    """What a comparison leaves: the list of its runs, and of each run all but its seconds."""
    found = {str(path.parent.relative_to(place)): outcome_of(path.parent) for path in place.rglob("SHA256SUMS")}
    assert len(found) == 2
    return found | {"compare.json": (place / "compare.json").read_bytes()}


def outcome_of(folder: Path) -> dict[str, Any]:
    """As `outcome`, for runs that have neither noise nor, some of them, masks."""
    for name in ("noise.json", "masks.safetensors"):
        if not (folder / name).exists():
            (folder / name).touch()
    found = outcome(folder)
    for name in ("noise.json", "masks.safetensors"):
        if not (folder / name).stat().st_size:
            (folder / name).unlink()
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images; no report is drawn."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    monkeypatch.setattr("sartor.cli.compare.write_report", lambda *_: Report([], "verdict", []))
    return tmp_path


def run(place: Path, meddle: Meddle = nothing) -> tuple[list[Change], Any]:
    with meddled(place / "all", meddle) as seen:
        ended = call(*COMMAND)
    return seen, ended


@covers("a comparison killed, or its disk full")
def test_killed_at_a_spread_of_changes(place: Path) -> None:
    seen, ended = run(place)
    assert ended.code == 0
    whole = compared(place / "all")
    for number in spread(len(seen), 4):
        (place / "all").rename(place / f"before-{number}")
        assert in_child(lambda number=number: run(place, kill_at(number))) == -signal.SIGKILL
        assert call(*COMMAND).code == 0
        assert compared(place / "all") == whole, number


@covers("a comparison killed, or its disk full")
def test_refused_at_a_spread_of_changes(place: Path) -> None:
    import errno

    seen, _ = run(place)
    whole = compared(place / "all")
    for number in spread(len(seen) - 8, 3):
        (place / "all").rename(place / f"before-{number}")
        _, ended = run(place, refuse_from(number, errno.ENOSPC))
        assert ended.code == 2
        assert "No space left on device" in ended.out + ended.err
        assert len(ended.err.splitlines()) == 1
        ended = call(*COMMAND)
        assert ended.code == 0, ended.err
        assert "note" not in ended.err
        assert compared(place / "all") == whole, number


@pytest.mark.slow
@covers("a comparison killed, or its disk full")
def test_two_jobs_killed_at_random_moments(tmp_path: Path) -> None:
    """All processes at once, as the system does when memory runs out or a machine is reset; with the report."""
    write_images(tmp_path / "images")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    moments, kills = random.Random(0), 0
    for out in ("whole", "all"):
        command = [sys.executable, "-m", "sartor", *map(str, COMMAND[:-1]), out, "--jobs", "2", "--epochs", "200"]
        for attempt in range(40):
            with subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
            ) as first:
                try:
                    first.wait(None if out == "whole" else moments.uniform(6, 10) + attempt)
                except subprocess.TimeoutExpired:
                    kills += 1
                    os.killpg(first.pid, signal.SIGKILL)
                    first.wait()
                    time.sleep(0.2)
            if first.returncode == 0:
                break
        assert first.returncode == 0
        assert (tmp_path / out / "report.html").exists()
    assert kills > 0
    found, whole = compared(tmp_path / "all"), compared(tmp_path / "whole")
    assert {name: run["metrics.jsonl"] for name, run in found.items() if name != "compare.json"} == {
        name: run["metrics.jsonl"] for name, run in whole.items() if name != "compare.json"
    }
    for name in whole:
        if name != "compare.json":
            assert found[name]["model.safetensors"] == whole[name]["model.safetensors"]
