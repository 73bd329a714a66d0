"""Pruners that settle their masks after the last epoch: what that costs, what comes after it, and that it resumes."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.cli.display import epoch_line, forecast_lines
from sartor.data.formats import Splits, digits
from sartor.errors import Stopped
from sartor.models.build import build_model
from sartor.prune.probmask import ProbMask
from sartor.prune.scope import prunable
from sartor.recipes import SWaST
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.registry import PRUNERS
from sartor.schedules import Schedule
from sartor.train import Trainer
from side_by_side import side_by_side, values

MODEL = "cnn(width=4)"
QUICK: dict[str, Any] = {
    "epochs": 3, "batch_size": 64, "fraction": 0.3, "every": 1, "warmup": 1, "probe": 0, "selector": "moderate",
}  # fmt: skip
SPEC = "probmask(trials=2, finetune=2, start=0.1)"


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = digits()
    return dataclasses.replace(whole, train=whole.train.only(whole.train.rows[:500]))


def net() -> nn.Module:
    return build_model(MODEL, classes=10, input_shape=(1, 8, 8), seed=0)


def fit(splits: Splits, recipe: Recipe, **options: Any) -> Result:
    return recipe.fit(net(), splits.train, splits.test, device="cpu", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"pruner": "probmask(trials=2, finetune=0)"},
        {"pruner": "probmask(trials=0, finetune=0, passes=3)", "selector": "grand(layers=all)", "variant": "trim"},
        {"pruner": "probmask(trials=1, finetune=0)", "selector": "alse(snapshots=2)", "record": "epoch"},
        {"pruner": "probmask(trials=1, finetune=0)", "selector": "el2n", "preserve": "selective", "variant": "whole"},
    ],
)
def test_without_further_epochs_the_ledger_is_the_forecast(splits: Splits, options: dict[str, Any]) -> None:
    recipe = SWaST(**{**QUICK, **options})
    results, cost = fit(splits, recipe).results, Forecaster(splits, MODEL)(recipe)
    assert not cost.bounded
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert (results["steps"], results["epochs"], results["n"]) == (cost.steps, cost.epochs, cost.n)
    assert results["kept_weights"] == cost.kept_weights < cost.parameters
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned


def test_further_epochs_are_charged_sparse_and_forecast_as_the_most_that_they_can_cost(splits: Splits) -> None:
    recipe = SWaST(**QUICK, pruner=SPEC, record="epoch")
    result, forecaster = fit(splits, recipe), Forecaster(splits, MODEL)
    results, cost = result.results, forecaster(recipe)
    spent, told = results["flops_by_purpose"], cost.flops_by_purpose
    assert cost.bounded
    assert spent.keys() == told.keys()
    assert {"settle", "finetune"} < spent.keys()
    for purpose in spent.keys() - {"finetune", "record"}:
        assert spent[purpose] == pytest.approx(told[purpose], rel=1e-12)
    assert result.masks is not None
    flops, k = forecaster.flops, results["k"]
    assert spent["finetune"] == pytest.approx(2 * k * 3 * flops.masked(result.masks.densities()), rel=1e-12)
    assert told["finetune"] == 2 * k * 3 * flops.forward > spent["finetune"]
    assert told["settle"] == 2 * cost.n * flops.forward
    assert told["record"] > spent["record"]
    assert (results["steps"], results["epochs"]) == (cost.steps, 5) == (cost.steps, cost.epochs)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert cost.again == cost.n + 2 * k, "two passes a step, but one in the epochs after it"
    assert cost.seconds(1.0) == cost.trained + cost.again + cost.scanned / 3
    assert any("at most" in line for line in forecast_lines(cost, 1.0))


def test_further_epochs_are_told_and_train_at_their_own_rate(splits: Splits) -> None:
    recipe = SWaST(**QUICK, pruner="probmask(trials=1, finetune=2, finetune_lr=0.004)", lr=0.2, bias_lr=2.0)
    seen: list[tuple[list[float], bool]] = []
    original = Trainer.train_step

    def step(trainer: Trainer, *arguments: Any) -> tuple[float, bool]:
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        seen.append((rates, bool(trainer.optimizer.state)))
        return original(trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        result = fit(splits, recipe)
    kinds = [line["kind"] for line in result.metrics if line["kind"] != "selection"]
    assert kinds == ["epoch"] * 3 + ["settled"] + ["epoch"] * 2
    after = [line for line in result.metrics if line["kind"] == "epoch"][3:]
    assert [line["epoch"] for line in after] == [3, 4]
    assert [line["lr"] for line in after] == pytest.approx([0.004, 0.004])
    steps = sum(line["steps"] for line in after)
    assert not seen[-steps][1], "the optimiser begins with no memory"
    assert all(sorted(rates) == pytest.approx([0.004, 0.008]) for rates, _ in seen[-steps:])
    assert result.test_accuracy == after[-1]["test_accuracy"]
    shares = [line["density"] for line in result.metrics if line["kind"] in ("epoch", "settled")]
    assert shares[0] > shares[3] == shares[-1] == result.masks.density()  # type: ignore[union-attr]
    for name in result.masks.names:  # type: ignore[union-attr]
        dead = ~result.masks[name]  # type: ignore[index]
        assert not result.model.get_parameter(name)[dead].any()


def test_the_results_are_those_of_the_settled_network(splits: Splits) -> None:
    result = fit(splits, SWaST(**QUICK, pruner="probmask(trials=2, finetune=0)"))
    line = next(line for line in result.metrics if line["kind"] == "settled")
    hits = result.model(splits.test.gather(splits.test.rows)).argmax(1) == splits.test.targets_of(splits.test.rows)
    assert result.test_accuracy == line["test_accuracy"] == pytest.approx(float(hits.double().mean()))
    assert result.results["epochs"] == 3
    assert "masks settled, 2" in epoch_line(line, 0.0)


def test_trials_look_at_rest_and_leave_norms_as_they_were(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks tried in training mode would be ranked by the statistics of a mini-batch, and would move those kept."""
    found: list[list[Any]] = []
    original = ProbMask.finish

    def finish(self: ProbMask, model: nn.Module, masks: Any, **given: Any) -> None:
        measure = given["measure"]

        def spied() -> float:
            found.append(
                [model.training, [b.clone() for b in model.buffers()], [p.clone() for p in model.parameters()]]
            )
            return measure()

        before = [b.clone() for b in model.buffers()]
        original(self, model, masks, measure=spied)
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers()))
        assert model.training == found[0][0]

    monkeypatch.setattr(ProbMask, "finish", finish)
    modes: list[bool] = []
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: modes.append(module.training) if found and isinstance(module, nn.BatchNorm2d) else None
    )
    try:
        fit(splits, SWaST(**QUICK, pruner="probmask(trials=3, finetune=0)"))
    finally:
        handle.remove()
    assert len(found) == 3
    assert modes
    assert not any(modes)
    assert not all(torch.equal(a, b) for a, b in zip(found[0][2], found[1][2]))


def test_scans_see_a_masked_network_and_the_members_of_a_committee_their_own(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    original = Trainer.scan

    def scan(trainer: Trainer, *arguments: Any, **options: Any) -> Any:
        def look(module: nn.Module, _: Any) -> None:
            weights = [weight for name, weight in prunable(trainer.model).items() if "conv" in name]
            shares.append(sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights))

        handle = trainer.model.register_forward_pre_hook(look)
        try:
            return original(trainer, *arguments, **options)
        finally:
            handle.remove()

    monkeypatch.setattr(Trainer, "scan", scan)
    options = {**QUICK, "selector": "alse(snapshots=2)", "epochs": 4}
    fit(splits, SWaST(**options, pruner="probmask(start=0.0, stop=0.1, trials=0, finetune=0)"))
    assert len(shares) > 4
    assert all(0.2 < share < 0.42 for share in shares), "0.3 of the backbone lives, drawn by the scores"


def outcome(folder: Path) -> dict[str, Any]:
    results = json.loads((folder / "results.json").read_text())
    left = {key: value for key, value in results.items() if not key.startswith("seconds")}
    files = {name: (folder / name).read_bytes() for name in ("model.safetensors", "masks.safetensors")}
    return {"results": left, "metrics": (folder / "metrics.jsonl").read_bytes(), **files}


def test_a_stopped_run_goes_on_bit_for_bit(splits: Splits, tmp_path: Path) -> None:
    """Stopped in an epoch, at the end of the last one, in and after the first epoch under the settled masks."""
    recipe = SWaST(**QUICK, pruner=SPEC)
    fit(splits, recipe, out=tmp_path / "whole")
    total, stopped = 0, 0
    for stop in (2, 9, 13, 15, 17, 18):
        calls = iter(range(10**6))
        place = tmp_path / f"run{stop}"
        with pytest.raises(Stopped):
            fit(splits, recipe, out=place, stopping=partial(_reached, calls, stop))
        stopped += 1
        lines = place / "metrics.jsonl"
        total += lines.exists() and "settled" in lines.read_text(encoding="utf-8")
        fit(splits, recipe, out=place)
        assert outcome(place) == outcome(tmp_path / "whole")
    assert 0 < total < stopped, "some stops come before the masks are settled and some after"


def _reached(calls: Any, stop: int) -> bool:
    return next(calls) == stop


def worked(splits: Splits, rank: int) -> list[Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rank)
        plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    recipe = SWaST(**{**QUICK, "selector": "random"}, pruner="probmask(trials=2, finetune=1, start=0.0)", seed=3)
    result = recipe.fit(plain, splits.train, splits.test, device="cpu")
    masks: dict[str, Tensor] = {} if result.masks is None else result.masks.state_dict()
    return [result.results, masks, dict(result.model.state_dict())]


def test_two_processes_hold_the_same_masks_and_scores(splits: Splits) -> None:
    """Trainers compare masks and scores by their digest after every epoch; the sums of gradients are those of one."""
    alone = worked(splits, 0)
    first, second = values(side_by_side(partial(worked, splits)))
    assert first[0]["digest"]["masks"] == second[0]["digest"]["masks"]
    assert first[0]["flops_by_purpose"].keys() == alone[0]["flops_by_purpose"].keys()
    assert first[0]["kept_weights"] == alone[0]["kept_weights"]
    for name, mask in first[1].items():
        assert torch.equal(mask, second[1][name])
        assert float((mask == alone[1][name]).float().mean()) > 0.9
    assert math.isclose(first[0]["test_loss"], alone[0]["test_loss"], rel_tol=0.05)


def test_a_pruner_without_anything_to_settle_tells_nothing(splits: Splits) -> None:
    result = fit(splits, SWaST(**QUICK, pruner="rigl(every=2)"))
    assert all(line["kind"] != "settled" for line in result.metrics)
    assert "settle" not in result.results["flops_by_purpose"]


def test_schedules_have_a_level() -> None:
    for kind in ("constant", "cosine", "one-cycle"):
        plain = Schedule(kind, epochs=4, steps=8, peak_at=0.25)
        lower = dataclasses.replace(plain, level=0.1)
        assert lower.share(1, 2) == pytest.approx(0.1 * plain.share(1, 2))
        assert lower.mean(1, 2, 2) == pytest.approx(0.1 * plain.mean(1, 2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["rigl(every=25)", "probmask(finetune=10)"])
def test_a_twentieth_of_the_weights_learns_the_digits(pruner: str) -> None:
    """A small form of the command on the card of probmask."""
    whole = digits()
    assert PRUNERS.build(pruner)
    recipe = SWaST(
        epochs=60, batch_size=32, probe=0, evaluate_every=60, selector="none", pruner=pruner, variant="whole",
        sparsity=0.95, preserve="none",
    )  # fmt: skip
    model = build_model("cnn(width=24)", classes=10, input_shape=(1, 8, 8), seed=0)
    result = recipe.fit(model, whole.train, whole.test, device="cpu")
    assert result.masks is not None
    assert result.masks.density() == pytest.approx(0.05, abs=1e-3)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.93
