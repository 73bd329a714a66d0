"""Every pruner inside SWaST: what it costs is what was foreseen, and a run that is stopped goes on bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from sartor.cli.display import forecast_lines
from sartor.costs import training_flops
from sartor.data.formats import Splits, digits
from sartor.errors import PruningError
from sartor.recipes import SWaST
from sartor.recipes.forecaster import Forecaster, model_for
from sartor.recipes.masking import first_masks
from sartor.registry import PRUNERS
from staged_runs import interrupted_after

MODEL = "fc(hidden=12)"
QUICK = {"epochs": 6, "batch_size": 50, "warmup": 2, "every": 2, "fraction": 0.4, "probe": 0, "evaluate_every": 6}
OPTIONS = {"every": 3, "rounds": 5, "samples": 60}
MOVING = ("magnitude(at=0.5)", "gradual(every=3)", "acdc(start=0.2, phase=0.15)", "set(every=3)")
READING = ("snip(samples=60)", "grasp(samples=60)", "synflow(rounds=5)")


def spec(name: str) -> str:
    given = {option: value for option, value in OPTIONS.items() if option in PRUNERS.options(name)}
    return f"{name}({', '.join(f'{option}={value}' for option, value in given.items())})"


SPECS = [spec(name) for name in PRUNERS if not PRUNERS.options(name).get("finetune")]


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = digits()
    return dataclasses.replace(whole, train=whole.train.only(whole.train.rows[:500]))


def fit(splits: Splits, recipe: SWaST, out: Path | None = None) -> Any:
    network = model_for(splits, MODEL, recipe.seed)
    return recipe.fit(network, splits.train, splits.test, out=out, device="cpu", save_every=1e9)


@pytest.mark.parametrize(
    ("options", "pruners"),
    [
        ({"selector": "moderate"}, [*SPECS, "magnitude(at=0.5)", "snip(distribution=erk)"]),
        ({"selector": "alse(snapshots=3)", "preserve": "none"}, MOVING),
        ({"selector": "grand(layers=all)", "record": "epoch"}, MOVING[1:3]),
    ],
)
def test_the_ledger_is_the_forecast(splits: Splits, options: dict[str, Any], pruners: list[str]) -> None:
    forecaster = Forecaster(splits, MODEL)
    for pruner in pruners:
        recipe = SWaST(**QUICK, **options, pruner=pruner)
        results, cost = fit(splits, recipe).results, forecaster(recipe)
        assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12), pruner
        assert results["flops"] == pytest.approx(cost.flops, rel=1e-12)
        assert (results["steps"], results["kept_weights"]) == (cost.steps, cost.kept_weights)
        assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
        assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned


def test_a_step_costs_what_its_masks_were_when_it_ran(splits: Splits) -> None:
    """By hand: dense until the pruning, sparse from the step after it."""
    recipe = SWaST(epochs=6, batch_size=50, selector="none", variant="whole", sparsity=0.5, pruner=MOVING[0], probe=0)
    results, forecaster = fit(splits, recipe).results, Forecaster(splits, MODEL)
    steps, n = results["steps"], results["n"]
    assert steps == 6 * 9
    assert n == 450
    densities = forecaster.counts(recipe).densities(forecaster.counts(recipe).goal)
    before = training_flops(forecaster.flops, {})
    after = training_flops(forecaster.flops, densities)
    assert results["flops"] == pytest.approx(50 * (28 * before + 26 * after), rel=1e-12)


def test_reading_samples_is_charged_and_named(splits: Splits) -> None:
    each = 3 * Forecaster(splits, MODEL).flops.forward
    for pruner, passes in zip(READING, (60, 4 * 60, 5), strict=True):
        results = fit(splits, SWaST(**QUICK, selector="random", pruner=pruner)).results
        assert results["samples"]["prune"] == {"trained": passes, "forward": 0}
        assert results["flops_by_purpose"]["prune"] == passes * each
        assert results["seconds_by_purpose"]["prune"] > 0
    results = fit(splits, SWaST(**QUICK, selector="random", pruner="snip(samples=10_000)")).results
    assert results["samples"]["prune"]["trained"] == 450, "there are no more"
    assert "prune" not in fit(splits, SWaST(**QUICK, selector="random", pruner="random")).results["samples"]


def test_samples_are_drawn_by_the_seed_out_of_the_training_pool(splits: Splits) -> None:
    seen: list[torch.Tensor] = []

    class Spy:
        init_samples, init_passes = 60, 1

        def init(self, model: Any, **given: Any) -> Any:
            parts = list(given["batches"])
            assert [len(targets) for _, targets in parts] == [60]
            assert given["loss"](torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64)) == pytest.approx(2.302585)
            seen.append(parts[0][0])
            return PRUNERS.build("random").init(model, generator=given["generator"])

    pool = splits.train.only(splits.train.rows[100:200])
    for seed in (0, 0, 1):
        recipe = SWaST(**QUICK, seed=seed, label_smoothing=0.1)
        first_masks(recipe, Spy(), model_for(splits, MODEL), pool)  # type: ignore[arg-type]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    inside = {tuple(row.flatten().tolist()) for row in pool.gather(pool.rows)}
    assert all(tuple(row.flatten().tolist()) in inside for row in seen[2])


@pytest.mark.parametrize("pruner", [*MOVING, *READING, "random"])
def test_a_stopped_run_goes_on_bit_for_bit(splits: Splits, tmp_path: Path, pruner: str) -> None:
    recipe = SWaST(**QUICK, selector="moderate", optimizer="adamw", lr=1e-3, pruner=pruner)
    expected = fit(splits, recipe, tmp_path / "whole").results
    for stop in (9, 6, 8):
        with interrupted_after(stop):
            fit(splits, recipe, tmp_path / "run")
    results = fit(splits, recipe, tmp_path / "run").results
    for name in ("digest", "flops", "flops_by_purpose", "samples", "kept_weights", "density_by_layer"):
        assert results[name] == expected[name]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("pruner", SPECS)
def test_what_cannot_be_pruned_is_refused_before_anything_is_written(
    splits: Splits, tmp_path: Path, pruner: str
) -> None:
    inside = pruner.replace("(", "(sparsity={'layer7': 0.5}, ").replace(", )", ")")
    recipe = SWaST(**QUICK, selector="random", pruner=inside)
    with pytest.raises(PruningError, match="layer7"):
        fit(splits, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_refusal_reads_no_sample(splits: Splits) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("init was called")

    recipe = SWaST(**QUICK, selector="random", pruner="synflow(sparsity={'layer7': 0.5})")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PRUNERS["synflow"], "choose", never)
        with pytest.raises(PruningError, match="layer7"):
            fit(splits, recipe)


def test_a_dry_run_tells_the_weights_in_the_end_and_the_moves_between(splits: Splits) -> None:
    forecaster = Forecaster(splits, MODEL)
    for pruner, moves in zip(MOVING, (1, 9, 5, 8), strict=True):
        cost = forecaster(SWaST(**QUICK, selector="random", variant="whole", sparsity=0.5, pruner=pruner))
        lines = forecast_lines(cost, seconds=0.0)
        assert cost.parameters == 888 + 22
        assert cost.kept_weights == 444 + 22
        assert f"masks            move {cost.moves} times" in lines
        assert cost.moves == moves, pruner
