"""SIGINT and SIGTERM at any moment: once it saves and stops, twice it quits at once; either way the run goes on."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import SWAST, call, write_images
from meddling import meddled, nothing, signal_at, spread
from test_interrupt import HELD, TRAINING, Process
from tiny import covers, fit, outcome, unbroken

from sartor.errors import Stopped
from sartor.recipes.outcome import Watch
from sartor.recipes.swast import SWaST
from sartor.run_folder import RunFolder
from sartor.select import GradMatch
from sartor.signals import interrupt, signals
from sartor.train import Trainer

PARTS = 10
KINDS = [signal.SIGINT, signal.SIGTERM]


def changes(folder: Path) -> int:
    with meddled(folder, nothing) as seen:
        fit(folder)
    return len(seen)


def goes_on_after(folder: Path, number: int, *numbers: int) -> None:
    """Send signals at a change, as to the command line; then go on."""
    stopped = pytest.raises((Stopped, KeyboardInterrupt))
    with signals(interrupt, signal.SIGTERM), stopped as caught, meddled(folder, signal_at(number, *numbers)):
        fit(folder)
    if caught.type is Stopped:
        name = signal.Signals(numbers[0]).name
        assert str(caught.value) == f"stopped by {name}; the state is saved in {folder}."
    fit(folder)
    assert outcome(folder) == unbroken(), f"{numbers} at change {number}"


@covers("SIGTERM or Ctrl-C once", "SIGTERM or Ctrl-C twice")
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_at_a_spread_of_changes(tmp_path: Path, twice: bool) -> None:
    for number in spread(changes(tmp_path / "whole"), 6):
        kinds = KINDS if number % 2 else KINDS[::-1]
        goes_on_after(tmp_path / str(number), number, *(kinds if twice else kinds[:1]))


@pytest.mark.slow
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("part", range(PARTS))
def test_at_every_change(tmp_path: Path, part: int, twice: bool) -> None:
    for number in range(part, changes(tmp_path / "whole"), PARTS):
        goes_on_after(tmp_path / str(number), number, *(KINDS if twice else KINDS[1:]))


MOMENTS = [
    (GradMatch, "select"),
    (Trainer, "scan"),
    (Trainer, "evaluate"),
    (Trainer, "train_step"),
    (Watch, "selection"),
    (RunFolder, "save"),
    (SWaST, "select"),
]


@covers("SIGTERM or Ctrl-C once")
@pytest.mark.parametrize(("place", "name"), MOMENTS, ids=lambda part: getattr(part, "__name__", part))
def test_in_the_middle_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: type, name: str) -> None:
    """What is under way is ended, then it stops; no more than a step is done after the signal."""
    original, calls, steps = getattr(place, name), [0], []

    def signalled(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            signal.raise_signal(signal.SIGTERM)
            steps.append("signal")
        return original(*arguments, **options)

    step = Trainer.train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", lambda *given: steps.append("step") or step(*given))
        patch.setattr(
            place, name, signalled if name != "train_step" else lambda *given: steps.append("step") or signalled(*given)
        )
        with pytest.raises(Stopped, match="stopped by SIGTERM; the state is saved"):
            fit(tmp_path / "run", save_every=1e9)
    assert steps[steps.index("signal") :].count("step") <= 1
    fit(tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken()


@covers("SIGTERM or Ctrl-C once")
@pytest.mark.parametrize("number", KINDS, ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["reading the data", "making the network", "checking the data"])
def test_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, moment: str
) -> None:
    """SIGTERM too, which would end a program without a word."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    target = {
        "reading the data": "sartor.cli.train.load",
        "making the network": "sartor.cli.train.model_for",
        "checking the data": "sartor.recipes.recipe.Recipe.check_data",
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(target, lambda *_, **__: signal.raise_signal(number))
        ended = call(*SWAST, "--out", "run")
    assert ended.code == 75
    assert ended.err.strip() == "sartor: interrupted. Give the same command again to go on."
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers are given back"


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """Start a command whose training waits in step 17."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "held.py").write_text(HELD)
    started = []

    def begin(*arguments: str, workers: int) -> Process:
        started.append(Process(tmp_path, arguments, at=17))
        started[-1].until_waiting(workers)
        return started[-1]

    yield begin
    for process in started:
        process.end()


@pytest.mark.slow
@covers("SIGTERM or Ctrl-C twice")
def test_twice_ends_the_workers_of_a_comparison_at_once(held: Callable[..., Process], tmp_path: Path) -> None:
    """Their steps never end here."""
    runs = held(
        "compare", *TRAINING, "--arms", "dense", "swast-cut", "--seeds", "1", "--jobs", "2", "--out", "all", workers=2
    )
    runs.signal(signal.SIGTERM)
    assert runs.running
    start = time.monotonic()
    runs.signal(signal.SIGTERM)
    assert runs.wait() == 75
    assert time.monotonic() - start < 20
    assert re.fullmatch(r"sartor: [^\n]*Give the same command again to go on\.", runs.err)
    until_none(runs)


def until_none(runs: Process) -> None:
    end = time.monotonic() + 10
    while runs.running:
        assert time.monotonic() < end, "a process stays"
        time.sleep(0.05)


@pytest.mark.slow
@covers("a worker of a comparison killed")
def test_a_worker_that_is_killed_fails_its_run_only_and_the_command_goes_on(
    held: Callable[..., Process], tmp_path: Path
) -> None:
    """The run beside it saves (or ends, where the pool notices late); what was not begun is named."""
    arguments = ("compare", *TRAINING, "--arms", "dense", "swast-cut", "--seeds", "2", "--jobs", "2", "--out", "all")
    runs = held(*arguments, workers=2)
    waiting = [int(path.name.removeprefix("waiting-")) for path in tmp_path.glob("waiting-*")]
    os.kill(waiting[0], signal.SIGKILL)
    time.sleep(0.3)
    runs.let_go()
    assert runs.wait() == 2
    assert "its process was killed, or one beside it, for lack of memory perhaps" in runs.out
    assert runs.out.count("not begun, since a process before it was killed") == 2
    told = r"(4 of 4 runs failed, see above; nothing is left to report on|3 of 4 runs failed, see above; give .+)\."
    assert re.fullmatch(f"sartor: {told}", runs.err), runs.out
    until_none(runs)
