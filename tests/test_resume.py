"""A run that is killed, anywhere, and started again ends bit for bit where it would have."""

import functools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sartor.data.formats import Splits, digits
from sartor.errors import ResumeError, TrainingError
from sartor.models.build import build_model
from sartor.recipes import Dense, SWaST
from sartor.recipes.recipe import Recipe
from sartor.run import Run
from staged_runs import interrupted_after

SWAST = SWaST(
    epochs=6,
    fraction=0.2,
    every=2,
    batch_size=32,
    selector="gradmatch",
    pruner="rigl(every=3)",
    noise=0.2,
    probe=100,
)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def fit(recipe: Recipe, splits: Splits, out: Path, save_every: float = 0.0) -> dict:
    model = build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=recipe.seed)
    return recipe.fit(model, splits.train, splits.test, out=out, save_every=save_every).results


def outcome(folder: Path) -> dict:
    """All that must be equal: weights, masks and subsets by digest and by file, metrics line by line."""
    results = json.loads((folder / "results.json").read_text())
    left = {key: value for key, value in results.items() if not key.startswith("seconds")}
    files = {path.name: path.read_bytes() for path in sorted((folder / "subsets").glob("*.json"))}
    files |= {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "model.safetensors", "noise.json")}
    return {"results": left, "files": files}


@pytest.fixture(scope="module")
def unbroken(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    fit(SWAST, splits, folder)
    return outcome(folder)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; return its process number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def killed(child: int) -> bool:
    """Wait for a process; tell whether SIGKILL ended it."""
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_at_call(module: object, name: str, count: int) -> None:
    """Make the process kill itself just before the `count`-th call of a function, and just after odd ones."""
    original = getattr(module, name)
    calls = [0]

    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count:
            if count % 2:
                original(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, name, wrapped)


def test_killed_at_twenty_random_moments(splits: Splits, tmp_path: Path, unbroken: dict) -> None:
    start = time.monotonic()
    fit(SWAST, splits, tmp_path / "timing")
    seconds = time.monotonic() - start
    moments = random.Random(0)
    kills, folder = 0, tmp_path / "run"
    for attempt in range(400):
        child = in_child(functools.partial(fit, SWAST, splits, folder))
        time.sleep(moments.uniform(0.02, 0.35) * seconds)
        os.kill(child, signal.SIGKILL)
        if killed(child):
            kills += 1
        if (folder / "results.json").exists():
            assert outcome(folder) == unbroken
            if kills >= 20:
                return
            folder = tmp_path / f"run-{attempt}"
    pytest.fail(f"only {kills} kills happened")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_killed_inside_every_write(splits: Splits, tmp_path: Path, unbroken: dict, function: str) -> None:
    counts = iter([1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
    for count in counts:

        def work(count: int = count) -> None:
            kill_at_call(os, function, count)
            fit(SWAST, splits, tmp_path / "run")

        killed(in_child(work))
    fit(SWAST, splits, tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken


def test_killed_inside_selections(splits: Splits, tmp_path: Path, unbroken: dict) -> None:
    from sartor.select import GradMatch

    for count in (1, 2, 1):

        def work(count: int = count) -> None:
            kill_at_call(GradMatch, "select", count)
            fit(SWAST, splits, tmp_path / "run")

        assert killed(in_child(work))
    fit(SWAST, splits, tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken


@pytest.mark.parametrize(
    "recipe",
    [
        Dense(epochs=3, batch_size=32, optimizer="adamw", lr=1e-3),
        Dense(steps=50, batch_size=32),
        Dense(epochs=4, batch_size=32, sampler="redraw(every=2)", fraction=0.3, weighting="batch"),
        SWaST(epochs=4, batch_size=32, selector="none", preserve="selective", every=2, pruner="rigl(every=5)"),
        SWaST(
            epochs=6,
            batch_size=32,
            selection_timing="skip",
            every=2,
            selector="moderate",
            pruner="none",
            preserve="none",
        ),
        SWaST(epochs=4, batch_size=32, selector="random", every=1, optimizer="adam", lr=1e-3, pruner="rigl(every=5)"),
    ],
    ids=lambda recipe: f"{recipe.name}-{recipe.optimizer}",
)
def test_every_recipe_goes_on_exactly(splits: Splits, tmp_path: Path, recipe: Recipe) -> None:
    expected = fit(recipe, splits, tmp_path / "whole")
    for stop in (1, 7, 40):
        with interrupted_after(stop):
            fit(recipe, splits, tmp_path / "run", save_every=1e9)
    results = fit(recipe, splits, tmp_path / "run")
    assert results["digest"] == expected["digest"]
    assert results["flops"] == expected["flops"]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_same_seed_same_result_and_another_seed_another(splits: Splits, tmp_path: Path, unbroken: dict) -> None:
    fit(SWAST, splits, tmp_path / "again", save_every=60)
    assert outcome(tmp_path / "again") == unbroken
    other = fit(SWAST.with_options(seed=1), splits, tmp_path / "other")
    assert other["digest"]["weights"] != unbroken["results"]["digest"]["weights"]


def test_the_source_may_list_its_samples_in_another_order(splits: Splits, tmp_path: Path, unbroken: dict) -> None:
    from sartor.data.pool import Pool

    train = splits.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(5))
    shuffled = Pool.from_arrays(
        train.inputs[order],
        train.targets[order],
        ids=train.ids_of(order),
        preprocess=train.preprocess,
        classes=train.classes,
    )
    fit(SWAST, Splits(splits.name, shuffled, splits.test, splits.augment), tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    splits: Splits, tmp_path: Path, unbroken: dict
) -> None:
    def work() -> None:
        kill_at_call(Run, "_save_if_due", 30)
        fit(SWAST, splits, tmp_path / "run")

    assert killed(in_child(work))
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.warns(UserWarning, match="last.pt is damaged"):
        fit(SWAST, splits, tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken


def test_a_finished_run_is_read_not_repeated(splits: Splits, tmp_path: Path) -> None:
    recipe = Dense(epochs=1, batch_size=64)
    first = fit(recipe, splits, tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert fit(recipe, splits, tmp_path / "run") == first
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_comes_back_whole(splits: Splits, tmp_path: Path) -> None:
    first, second = (
        SWAST.fit(build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=seed), splits.train, splits.test,
                  out=tmp_path / "run")
        for seed in (0, 7)
    )  # fmt: skip
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
    assert not second.model.training
    assert first.masks.digest() == second.masks.digest()
    assert torch.equal(first.subset.rows, second.subset.rows)
    assert torch.equal(first.subset.weights, second.subset.weights)
    assert first.subset.scale == second.subset.scale
    assert first.metrics == second.metrics


def test_another_configuration_is_refused_and_nothing_is_touched(splits: Splits, tmp_path: Path) -> None:
    fit(Dense(epochs=1, batch_size=64), splits, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ResumeError, match=r"lr was 0.05, is now 0.1"):
        fit(Dense(epochs=1, batch_size=64, lr=0.1), splits, tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_folder_of_something_else_is_refused(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(ResumeError, match="is no run folder"):
        fit(Dense(epochs=1), splits, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


def test_a_full_disk_is_said_and_the_run_goes_on_later(
    splits: Splits, tmp_path: Path, unbroken: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sartor.errors import SartorError

    calls, original = [0], os.fsync

    def full(file: int) -> None:
        calls[0] += 1
        if calls[0] == 25:
            raise OSError(28, "No space left on device")
        original(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SartorError, match="No space left"):
            fit(SWAST, splits, tmp_path / "run")
    fit(SWAST, splits, tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken


def test_a_finished_run_keeps_its_metrics_without_its_checkpoints(splits: Splits, tmp_path: Path) -> None:
    recipe = Dense(epochs=2, batch_size=64)
    fit(recipe, splits, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    fit(recipe, splits, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before != b""


def test_a_folder_where_nothing_was_trained_may_be_taken_over(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nan"):
        fit(Dense(epochs=2, batch_size=64, lr=1e30), splits, tmp_path / "run", save_every=60)
    fit(Dense(epochs=1, batch_size=64), splits, tmp_path / "run")
    assert (tmp_path / "run" / "results.json").exists()


def test_other_threads_are_noted(splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        kill_at_call(Run, "_save_if_due", 30)
        fit(SWAST, splits, tmp_path / "run")

    assert killed(in_child(work))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.warns(UserWarning, match="threads 1 -> 7"):
        fit(SWAST, splits, tmp_path / "run")
