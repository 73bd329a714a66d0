"""Trainings that runs share: the same results as without, each made once, by one process at a time."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from sartor.comparison import load
from sartor.dist import World
from sartor.errors import ConfigError, Stopped
from sartor.recipes.forecaster import model_for
from sartor.recipes.outcome import Result
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.sharing import alone, key_of
from sartor.run import Run

DATA = "few(of=digits, samples=120)"
TINY = PruneFuse(epochs=2, batch_size=40, budgets="0.1,0.3", probe=0, seed=3)


def fit(recipe: PruneFuse, out: Path, shared: Path | None) -> Result:
    splits = load(DATA, None)
    return recipe.fit(
        model_for(splits, "cnn(width=4)", recipe.seed), splits.train, splits.test, out=out, shared=shared, labels={}
    )


@pytest.mark.filterwarnings("ignore:the selector of round")
def test_runs_that_share_are_what_they_are_alone(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    other = TINY.with_options(kd_weight=0.7)
    both = [fit(TINY, tmp_path / "a", shared), fit(other, tmp_path / "b", shared)]
    single = [fit(TINY, tmp_path / "c", None), fit(other, tmp_path / "d", None)]
    for mine, own in zip(both, single, strict=True):
        for name in ("digest", "flops_by_purpose", "samples", "targets", "cost_paper"):
            assert mine.results[name] == own.results[name], name
    names = sorted(path.name.rpartition("-")[0] for path in shared.iterdir() if path.is_dir())
    assert names == ["selector-round-0", "selector-round-1", "target-round-1", "target-round-1"]
    assert not (tmp_path / "a/stages").exists()


@pytest.mark.filterwarnings("ignore:the selector of round")
def test_another_head_is_another_choice(tmp_path: Path) -> None:
    """A head that is given is part of what a choosing training is, even if it is the one that would be found."""
    shared = tmp_path / "shared"
    recipe = TINY.with_options(acquisition="badge", fusion=False, kd=False)
    for name, head in (("found", None), ("given", "classifier")):
        fit(recipe.with_options(head=head), tmp_path / name, shared)
    chosen = [json.loads(path.read_text()) for path in shared.glob("selector-*/config.json")]
    assert len(chosen) == 2
    assert sorted(about.get("head", "-") for about in chosen) == ["-", "classifier"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    place, order = tmp_path / "shared/training", []
    held = FileLock(place.with_name(".training.lock"), thread_local=False)
    place.parent.mkdir()
    held.acquire()

    def give_back() -> None:
        order.append("given back")
        held.release()

    timer = threading.Timer(0.3, give_back)
    timer.start()
    with Run(None, {}, seed=0) as run, alone(place, run):
        order.append("taken")
    timer.join()
    assert order == ["given back", "taken"]
    with FileLock(place.with_name(".training.lock")).acquire(timeout=0):
        pass


def test_a_wait_ends_where_the_run_is_stopped(tmp_path: Path) -> None:
    place, begun = tmp_path / "training", time.monotonic()
    with FileLock(tmp_path / ".training.lock"), Run(None, {}, seed=0) as run:
        run.stopping = lambda: time.monotonic() - begun > 0.1
        with pytest.raises(Stopped), alone(place, run):
            raise AssertionError("it was not its turn")


def test_several_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run(None, {}, seed=0) as run:
        monkeypatch.setattr(run, "world", World(rank=0, size=2))
        with pytest.raises(ConfigError, match="leave shared out"), alone(tmp_path / "training", run):
            pass


def test_a_name_tells_all_that_decides() -> None:
    first, again, other = ({"title": "target", "lr": lr} for lr in (0.1, 0.1, 0.2))
    assert key_of(first) == key_of(again) != key_of(other)
    assert key_of(first).startswith("target-")
