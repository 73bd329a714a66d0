"""Ctrl-C and SIGTERM: the state is saved, the message says how to go on, and the same command ends as if unbroken."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import call, done, results_of, write_images

import sartor.cli.compare
from sartor.report import Report
from sartor.run import Run

HELD = '''
"""A network that waits in its training step number HOLD_AT as long as the file HOLD is there; later steps are slow."""
import os, pathlib, time
from torch import nn

steps = 0

class Held(nn.Sequential):
    def forward(self, x):
        global steps
        steps += self.training
        if self.training and "HOLD" in os.environ and steps >= int(os.environ["HOLD_AT"]):
            hold = pathlib.Path(os.environ["HOLD"])
            hold.with_name(f"waiting-{os.getpid()}").touch()
            while hold.exists():
                time.sleep(0.01)
            time.sleep(0.05)
        return super().forward(x)

def net(classes, input_shape):
    return Held(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))
'''
TRAINING = ("--data", "mnist", "--root", "images", "--model", "held:net", "--batch-size", "16", "--epochs", "4")
TRAINING += ("--selector", "moderate", "--fraction", "0.3", "--every", "1", "--pruner", "rigl(every=3)")
TRAIN = ("train", "swast", *TRAINING, "--noise", "0.2", "--out")
COMPARE = ("compare", *TRAINING, "--arms", "dense", "swast-cut", "--seeds", "2", "--out")
PATIENCE = 300.0
"""Seconds after which a process counts as hanging."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images and the network that waits; comparisons here draw no report."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "held.py").write_text(HELD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "held", raising=False)
    monkeypatch.setattr(sartor.cli.compare, "write_report", lambda *_: Report([], "verdict", []))
    return tmp_path


class Process:
    """`python -m sartor ...` in a session of its own, waiting in a certain step until it is let go."""

    def __init__(self, place: Path, arguments: tuple[str, ...], *, at: int) -> None:
        self.place, self.hold = place, place / "hold"
        self.hold.touch()
        path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "HOLD": str(self.hold), "HOLD_AT": str(at)}
        with open(place / "stdout", "w") as out, open(place / "stderr", "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sartor", *arguments],
                stdout=out,
                stderr=err,
                cwd=place,
                env=environment | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def until_waiting(self, workers: int) -> None:
        """Wait until so many processes wait in their step."""
        end = time.monotonic() + PATIENCE
        while len(list(self.place.glob("waiting-*"))) < workers:
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"it did not come so far: {self.err}")
            time.sleep(0.02)

    def signal(self, number: int, *, to_all: bool = False) -> None:
        """Send a signal to the process, or, as a terminal does, to all of its session."""
        if to_all:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        time.sleep(0.2)

    def let_go(self) -> None:
        """Let the step end in which the process waits."""
        self.hold.unlink()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """End all that is left of the session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    @property
    def out(self) -> str:
        """What it printed so far."""
        return (self.place / "stdout").read_text()

    @property
    def err(self) -> str:
        """What it printed of errors so far."""
        return (self.place / "stderr").read_text().strip()

    @property
    def running(self) -> list[int]:
        """Processes of the session that live."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it ended meanwhile
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(status.parent.name))
        return found


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Process]]:
    """Start processes and wait until they wait; at the end, end what is left of them."""
    started: list[Process] = []

    def begin(*arguments: str, at: int, workers: int = 1) -> Process:
        started.append(Process(place, arguments, at=at))
        started[-1].until_waiting(workers)
        return started[-1]

    yield begin
    for process in started:
        process.end()


def outcomes(folder: Path) -> dict[str, Any]:
    """Digests and metrics of all finished runs below a folder."""
    found = {}
    for path in sorted(folder.rglob("results.json")):
        run = path.parent
        found[str(run.relative_to(folder))] = (results_of(run)["digest"], (run / "metrics.jsonl").read_bytes())
    return found


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_training_goes_on_and_ends_as_if_unbroken(start: Callable[..., Process], name: str) -> None:
    run = start(*TRAIN, "run", at=17)
    run.signal(signal.Signals[name])
    run.let_go()
    assert run.wait() == 75
    message = run.err
    assert message == f"sartor: stopped by {name}; the state is saved in run. Give the same command again to go on."
    assert run.out.count("epoch ") == 1
    assert not Path("run/results.json").exists()
    assert torch.load("run/checkpoints/last.pt", weights_only=True)["places"] == {"train": [1, 3]}
    done(*TRAIN, "run")
    done(*TRAIN, "unbroken")
    assert outcomes(Path("run")) == outcomes(Path("unbroken"))


def test_a_second_ctrl_c_quits_at_once_and_the_run_still_goes_on(start: Callable[..., Process]) -> None:
    """The step never ends here, so the first signal alone would wait for ever."""
    run = start(*TRAIN, "run", at=17)
    run.signal(signal.SIGINT)
    assert run.running
    run.signal(signal.SIGINT)
    assert run.wait() == 75
    assert run.hold.exists()
    message = run.err
    assert re.fullmatch(r"sartor: .*Give the same command again to go on\.", message)
    done(*TRAIN, "run")
    done(*TRAIN, "unbroken")
    assert outcomes(Path("run")) == outcomes(Path("unbroken"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_comparison_goes_on_where_it_was(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One run at a time: the first is finished, the second one stopped, the others not begun."""
    steps, seen = Run.steps, [0]

    def signalled(run: Run, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in steps(run, batches):
            seen[0] += 1
            if seen[0] == 70:
                os.kill(os.getpid(), signal.Signals[name])
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Run, "steps", signalled)
        ended = call(*COMPARE, "runs")
    assert ended.code == 75
    assert re.fullmatch(
        rf"sartor: stopped by {name}; the state is saved in \S+seed-1\. 1 of 4 runs were finished\. "
        r"Give the same command again to go on\.",
        ended.err.strip(),
    )
    assert len(outcomes(place / "runs")) == 1
    assert len(list((place / "runs").rglob("config.json"))) == 2
    assert "[  4/4" in done(*COMPARE, "runs").out
    done(*COMPARE, "unbroken")
    assert len(outcomes(place / "unbroken")) == 4
    assert outcomes(place / "runs") == outcomes(place / "unbroken")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted in /proc")
@pytest.mark.parametrize(("name", "to_all"), [("SIGINT", True), ("SIGTERM", False)])
def test_a_comparison_stops_all_its_workers(
    start: Callable[..., Process], place: Path, name: str, to_all: bool
) -> None:
    """Ctrl-C in a terminal reaches every process, `kill` only the first; either way all save and none stays."""
    runs = start(*COMPARE, "runs", "--jobs", "2", at=17, workers=2)
    runs.signal(signal.Signals[name], to_all=to_all)
    runs.let_go()
    assert runs.wait() == 75
    begun = list((place / "runs").rglob("config.json"))
    assert re.fullmatch(r"sartor: [^\n]*Give the same command again to go on\.", runs.err)
    assert outcomes(place / "runs") == {}, "a run went on after the signal"
    assert len(begun) == 2, "a run was begun after the signal"
    for config in begun:  # epochs have 14 steps, and step 17 is done
        kept = torch.load(config.parent / "checkpoints" / "last.pt", weights_only=True)
        assert kept["places"] == {"train": [1, 3]}, "the step that was under way is not in the checkpoint"
    time.sleep(0.1)
    assert runs.running == []
    done(*COMPARE, "runs")
    done(*COMPARE, "unbroken")
    assert outcomes(place / "runs") == outcomes(place / "unbroken")


def test_an_interrupt_where_there_is_nothing_to_save_yet(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sartor.cli.train.load", interrupted)
        ended = call(*TRAIN, "run")
    assert ended.code == 75
    assert ended.err.strip() == "sartor: interrupted. Give the same command again to go on."
    assert not (place / "run").exists()
    done(*TRAIN, "run")
