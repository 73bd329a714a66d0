"""What is otherwise when a run goes on: options, code, versions, threads, the clock, the place."""

import itertools
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import DENSE, call, write_images
from tiny import RECIPE, content, covers, fit, notes, one_line, outcome, splits, stop_after, unbroken
from torch import nn

from sartor.errors import ResumeError
from sartor.run_folder import read_checkpoint

STOP = 12


@covers("other options, data or network")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.1}, "lr was 0.05, is now 0.1"),
        ({"epochs": 5, "seed": 1}, "epochs was 4, is now 5; seed was 0, is now 1"),
        ({"selector": "random"}, "selector was 'gradmatch', is now 'random'"),
        (
            {"noise": 0.1, "lr": 0.1, "epochs": 9, "fraction": 0.5},
            r"epochs was 4.*; fraction was.*; lr was.* and \d more",
        ),
    ],
)
def test_other_options_are_refused_and_named(tmp_path: Path, options: dict, message: str) -> None:
    folder = tmp_path / "run"
    stop_after(folder, STOP)
    before = content(folder)
    with pytest.raises(ResumeError, match=message) as caught:
        fit(folder, recipe=RECIPE.with_options(**options))
    assert one_line(caught.value).endswith("Use another --out.")
    assert content(folder) == before
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("other options, data or network")
def test_another_network_is_refused(tmp_path: Path) -> None:
    folder, data = tmp_path / "run", splits()
    stop_after(folder, STOP)
    told = r"head was None, is now '2'; model_layers was .*; model_shapes was '\w+', is now"
    with pytest.raises(ResumeError, match=told):
        RECIPE.with_options(head="2").fit(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)), data.train, data.test, out=folder
        )


@covers("a configuration of another version of Sartor")
@pytest.mark.parametrize("more", [{"old_option": 1}, {}], ids=["one that is gone", "none that is gone"])
def test_options_that_another_version_knew_are_named(tmp_path: Path, more: dict[str, Any]) -> None:
    """Its checkpoint lacks one that is here, which had its default then; one that is gone cannot be followed."""
    folder = tmp_path / "run"
    stop_after(folder, STOP)
    for path in folder.glob("checkpoints/*.pt"):
        state = read_checkpoint(path)
        state["config"] |= more
        del state["config"]["momentum"]
        torch.save(state, path)
    if more:
        with pytest.raises(ResumeError, match=r"another configuration: old_option was 1, is now None\. Use"):
            fit(folder)
    else:
        fit(folder)
        assert outcome(folder) == unbroken()


@covers("other threads, device, torch or Sartor")
def test_another_machine_or_version_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    stop_after(folder, STOP)
    monkeypatch.setattr("sartor.recipes.setup.__version__", "99.0")
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with notes() as lines:
        fit(folder)
    assert re.fullmatch(
        r"this run began elsewhere \(threads 1 -> 7, torch \S+ -> 9\.9\.9, sartor \S+ -> 99\.0\); its last bits may "
        r"differ from an unbroken run\.",
        lines[0],
    )
    assert outcome(folder) == unbroken(), "machine.json tells where it began"


@covers("what may change between two starts")
def test_what_may_change(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    stop_after(folder, STOP)
    (tmp_path / "b").mkdir()
    folder = folder.rename(tmp_path / "b" / "other-name")
    results = fit(folder, save_every=1e9, labels={"arm": "mine"}).results
    assert results["arm"] == "mine"
    found = outcome(folder)
    assert found | {"results": found["results"] | {"arm": "swast"}} == unbroken()


@covers("the clock set back, or far ahead")
@pytest.mark.parametrize("pace", [-3600.0, 0.0, 1e9])
def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pace: float) -> None:
    """Neither what is saved nor what is counted goes by the time of day; file times do not matter either."""
    folder, ticks = tmp_path / "run", itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 + pace * next(ticks))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e18 + pace * 1e9 * next(ticks)))
    stop_after(folder, STOP)
    for path in folder.rglob("*"):
        os.utime(path, (4e9, 4e9) if path.name == "previous.pt" else (1, 1))
    results = fit(folder).results
    assert outcome(folder) == unbroken()
    assert 0 <= results["seconds"] < 60


@covers("killed (kill -9)", "where a run goes on is said")
def test_the_shell_names_the_checkpoint_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    steps = [0]

    def interrupted(*_: object) -> None:
        steps[0] += 1
        if steps[0] == 10:
            raise KeyboardInterrupt

    from sartor.run import Run

    original = Run._save_if_due
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_save_if_due", lambda run: (original(run), interrupted()))
        assert call(*DENSE, "--out", "run", "--save-every", "0").code == 75
    last = Path("run/checkpoints/last.pt")
    last.write_bytes(last.read_bytes()[:1000])
    ended = call(*DENSE, "--out", "run", "--save-every", "0")
    assert ended.code == 0
    assert "going on from run/checkpoints/previous.pt: 1 epochs and 1 steps are done" in ended.out
    assert re.search(
        r"sartor: note: run/checkpoints/last\.pt is damaged \(.+\); going on from run/\S+previous\.pt\.", ended.err
    )
    assert "going on" not in call(*DENSE, "--out", "run").out, "it is finished"
    assert "going on" not in call(*DENSE, "--out", "new").out
