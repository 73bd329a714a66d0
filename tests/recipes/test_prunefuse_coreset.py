from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, SelectionError
from sartor.prune.channels import ChannelPlan, load_small
from sartor.recipes import PruneFuseCoreset
from sartor.recipes.forecaster import Forecaster
from sartor.report.collect import collect
from sartor.select.uncertainty import Entropy
from staged_runs import CNN, FC, fit, net, stopped_after

TINY: dict[str, Any] = {"epochs": 2, "batch_size": 64, "lr": 0.05, "schedule": "constant"}
BASE: dict[str, Any] = {"proxy": "dense", "fusion": False, "kd": False}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


CELLS = [
    PruneFuseCoreset(**TINY),
    PruneFuseCoreset(**TINY, **BASE, fraction=0.5),
    PruneFuseCoreset(**TINY, **BASE, selector="entropy", proxy_epochs=3, record="epoch"),
    PruneFuseCoreset(**TINY, selector="least-confidence", record="batch"),
    PruneFuseCoreset(**TINY, selector="moderate", proxy="fc(hidden=4)", fusion=False),
    PruneFuseCoreset(**TINY, selector="ccs", target_epochs=3, target_lr=0.01),
    PruneFuseCoreset(**TINY, selector="gradmatch", kd_teacher="ema"),
    PruneFuseCoreset(**TINY, selector="glister"),
    PruneFuseCoreset(**TINY, selector="alse(snapshots=2)", importance="grasp"),
    PruneFuseCoreset(**TINY, selector="random(balanced=true)", importance="snip"),
    PruneFuseCoreset(**TINY, selector="random", fusion=False, kd=False),
]


@pytest.mark.parametrize("recipe", CELLS, ids=range(len(CELLS)))
def test_every_cell_costs_what_its_forecast_says(recipe: PruneFuseCoreset, splits: Splits, tmp_path: Path) -> None:
    result = fit(recipe, splits, out=tmp_path / "run")
    results, cost = result.results, Forecaster(splits, FC)(recipe)
    told = {purpose: flops for purpose, flops in results["flops_by_purpose"].items() if flops}
    assert told == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned
    assert (results["steps"], results["epochs"]) == (cost.steps, cost.epochs)
    assert results["k"] == cost.k == len(result.subset) == int(recipe.fraction * results["n"] + 0.5)
    (run,) = collect([tmp_path]).runs
    assert run.flops == results["flops"]
    assert len(run.selections) == cost.selections == 1
    assert (result.history is not None) == (recipe.has_proxy and recipe.recording != "none")
    assert ("proxy_accuracy" in results) == recipe.has_proxy
    read = fit(recipe, splits, out=tmp_path / "run")
    assert read.results == results
    assert torch.equal(read.subset.rows, result.subset.rows)
    assert torch.equal(read.subset.weights, result.subset.weights)


@pytest.mark.parametrize(("selector", "passes"), [("entropy", 1), ("forgetting", 0), ("alse(snapshots=2)", 2)])
def test_costs_by_the_papers_convention(splits: Splits, selector: str, passes: int) -> None:
    results = fit(PruneFuseCoreset(**TINY, selector=selector, proxy_epochs=3), splits).results
    proxy, target = (6.0 * results[name] * 64 for name in ("proxy_parameters", "parameters"))
    chooser = proxy * results["n"] * 3 + passes * proxy / 3 * results["n"]
    last = target * results["k"] * 2
    assert results["cost_paper"] == {"selector": chooser, "target": last, "total": chooser + last}


def test_the_trained_proxy_chooses_and_is_fused(splits: Splits, stages: list[Any], tmp_path: Path) -> None:
    recipe = PruneFuseCoreset(**TINY, selector="entropy", complement="retained", holdout=0.0)
    result = fit(recipe, splits, CNN, out=tmp_path / "run")
    (proxy, _), (target, begun) = stages
    small = proxy.model.state_dict()
    plan = ChannelPlan.load(tmp_path / "run" / "plan.json")
    for name, value in begun.items():
        assert torch.equal(plan.cut(name, value), small[name]), name
    seen = sartor.scan(proxy.model, splits.train, needs=frozenset({"logits"}))
    chosen = Entropy().select(seen, len(result.subset), generator=torch.Generator().manual_seed(0))
    assert torch.equal(result.subset.rows, chosen.rows)
    assert torch.equal(target.data.train.rows, chosen.rows)
    assert target.teacher is not None
    assert all(torch.equal(value, small[name]) for name, value in target.teacher.model.state_dict().items())


def test_a_proxys_plan_is_with_the_proxy_where_nothing_is_fused(
    splits: Splits, stages: list[Any], tmp_path: Path
) -> None:
    fit(PruneFuseCoreset(**TINY, selector="entropy", fusion=False), splits, CNN, out=tmp_path / "run")
    assert not (tmp_path / "run/plan.json").exists()
    again, _ = load_small(tmp_path / "run/stages/01-proxy", net(CNN, seed=5))
    trained = stages[0][0].model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in again.state_dict().items())
    assert not (tmp_path / "run/stages/02-target/plan.json").exists()


def test_the_baseline_is_the_dense_network_and_a_target_from_the_first_weights(
    splits: Splits, stages: list[Any]
) -> None:
    fit(PruneFuseCoreset(**TINY, **BASE), splits)
    assert [stage.title for stage, _ in stages] == ["proxy", "target"]
    for stage, begun in stages:
        assert torch.equal(begun["hidden.weight"], net().hidden.weight)
        assert stage.teacher is None


def test_forgetting_is_that_of_the_proxys_training(splits: Splits) -> None:
    result = fit(PruneFuseCoreset(**TINY, proxy_epochs=6), splits)
    history, rows = result.history, result.history.rows
    assert (history.visits == 6).all()
    events = history.forgotten.float().masked_fill(history.times_right == 0, 1e3)
    chosen = torch.isin(rows, result.subset.rows)
    assert events[chosen].min() >= events[~chosen].max()


def test_weights_of_a_coreset_are_trained_with(splits: Splits, stages: list[Any]) -> None:
    result = fit(PruneFuseCoreset(**TINY, selector="gradmatch"), splits)
    assert torch.equal(stages[1][0].weights, result.subset.weights)
    assert result.subset.weights.std() > 0


def test_batch_norm_statistics_are_estimated_from_the_coreset(splits: Splits) -> None:
    recipe = PruneFuseCoreset(**TINY, statistics="estimated", complement="preserving")
    results = fit(recipe, splits, CNN).results
    assert results["samples"]["fuse"] == {"trained": 0, "forward": results["k"]}
    assert results["flops"] == pytest.approx(Forecaster(splits, CNN)(recipe).flops, rel=1e-12)


@pytest.mark.parametrize("after", [2, 18, 37, 41])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_were_not(splits: Splits, tmp_path: Path, after: int) -> None:
    recipe = PruneFuseCoreset(**TINY, importance="snip", selector="ccs(score=forgetting)")
    whole = fit(recipe, splits, CNN, out=tmp_path / "whole")
    with stopped_after(after):
        fit(recipe, splits, CNN, out=tmp_path / "cut")
    again = fit(recipe, splits, CNN, out=tmp_path / "cut")
    told = ("digest", "flops_by_purpose", "samples", "proxy_accuracy", "cost_paper")
    assert {name: again.results[name] for name in told} == {name: whole.results[name] for name in told}
    assert again.metrics == whole.metrics
    assert torch.equal(again.history.forgotten, whole.history.forgotten)


def test_a_proxy_that_learnt_nothing_is_said(splits: Splits) -> None:
    with pytest.warns(UserWarning, match="the network that chooses has learnt nothing"):
        assert fit(PruneFuseCoreset(**{**TINY, "lr": 1e-9}), splits).results["proxy_at_chance"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": 0.0001}, "fraction 0.0001 of 1167 samples is none"),
        ({"fraction": 0.005, "selector": "gradmatch"}, "needs 1 of each of the 10 classes"),
        ({"selector": "dual"}, "dual needs 10 looks at each sample, proxy_epochs is 2"),
        ({"selector": "bald"}, "dropout"),
        ({"selector": "k-center(start=labelled)"}, "needs labelled"),
        ({"selector": "glister", "holdout": 0.0}, "holdout is 0"),
        ({"selector": "forgeting"}, "Did you mean 'forgetting'"),
        ({"proxy": "dense"}, "proxy is dense; give --no-fusion"),
        ({"proxy": "fc(hidden=4)", "fusion": False, "scope": "global"}, "scope: without effect without a proxy that"),
        ({"selector": "random", "head": "x"}, "head: without effect without a selector that looks"),
        (
            {"selector": "random", "fusion": False, "kd": False, "proxy_epochs": 3},
            "proxy_epochs: without effect without a network that goes ahead",
        ),
        (
            {"selector": "random", "fusion": False, "kd": False, "record": "batch"},
            "record: without effect without a network that goes ahead",
        ),
        ({"proxy_epochs": 0}, "proxy_epochs is 0"),
        ({"importance": "snap"}, "Did you mean 'snip'"),
    ],
)
def test_what_cannot_be_meant_is_refused(splits: Splits, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, SelectionError), match=words):
        fit(PruneFuseCoreset(**{**TINY, **options}), splits, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_training_is_that_of_the_paper() -> None:
    recipe = PruneFuseCoreset()
    assert (recipe.epochs, recipe.lr, recipe.schedule, recipe.batch_size) == (181, 0.1, "steps", 128)
    assert (recipe.sparsity, recipe.kd_weight, recipe.complement, recipe.importance) == (0.5, 0.3, "random", "l2")
