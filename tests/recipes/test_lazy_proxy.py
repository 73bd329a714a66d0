import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from reference import lazy_pair
from sartor.data.formats import Splits, digits
from sartor.data.loader import Loader, even_sizes
from sartor.errors import ConfigError
from sartor.prune.channels import ChannelPlan
from sartor.randomness import derive
from sartor.recipes import LazyProxy
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.lazy_epochs import kept_in, packed, unpacked
from staged_runs import CNN, FC, fit, net, stopped_after

TINY: dict[str, Any] = {"epochs": 2, "batch_size": 64, "lr": 0.05, "schedule": "constant"}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


PAIRS = [
    LazyProxy(**TINY),
    LazyProxy(**TINY, fusion=True, kd=True),
    LazyProxy(**TINY, fusion=True, complement="preserving", every=1, fraction=0.3, target_lr=0.01),
    LazyProxy(**TINY, proxy="dense", every=7),
    LazyProxy(**TINY, proxy="fc(hidden=4)", kd=True, noise=0.2),
    LazyProxy(**TINY, kd=True, kd_teacher="ema", importance="snip", fraction=1.0),
]


@pytest.mark.parametrize("recipe", PAIRS, ids=range(len(PAIRS)))
def test_every_pair_costs_what_its_forecast_says(recipe: LazyProxy, splits: Splits, tmp_path: Path) -> None:
    results = fit(recipe, splits, out=tmp_path / "run").results
    cost = Forecaster(splits, FC)(recipe)
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned
    assert (results["steps"], results["epochs"], results["k"]) == (cost.steps, cost.epochs, cost.k)
    sizes = even_sizes(results["n"], 64)
    learnt = sum((sizes * 2)[:: recipe.every])
    selector = results["samples"]["selector"]
    assert selector == {"trained": learnt, "forward": 2 * results["n"] - learnt}
    kept = 2 * sum(kept_in(recipe.fraction, size) for size in sizes)
    assert results["samples"]["train"]["trained"] == kept
    assert results["kept"]["share"] == pytest.approx(kept / (2 * results["n"]))
    assert sum(results["kept"]["counts"]) == results["n"]
    assert results["kept"]["never"] == results["kept"]["counts"][0]
    inputs, dense = 64, results["parameters"]
    paper = {"selector": 2 * results["proxy_parameters"] * inputs * (2 * results["n"] + 2 * learnt)}
    paper["target"] = 6 * dense * inputs * kept
    assert results["cost_paper"] == {**paper, "total": paper["selector"] + paper["target"]}


@pytest.mark.parametrize("every", [1, 3])
def test_both_networks_are_those_of_a_literal_pair(splits: Splits, stages: list[Any], every: int) -> None:
    recipe = LazyProxy(**TINY, every=every, holdout=0.0, probe=0, fraction=0.4, channels_last=False)
    result = fit(recipe, splits, CNN)
    (proxy, small), (_, large) = stages
    loader = Loader(splits.train, batch_size=64, seed=derive(0, "pair"))
    whole = sartor.Subset.of(splits.train.rows)
    batches = [(batch.inputs, batch.targets) for epoch in range(2) for batch in loader.epoch(whole, epoch)]
    small_twin, its = copy.deepcopy(proxy.model), net(CNN)
    small_twin.load_state_dict(small)
    its.load_state_dict(large)
    training = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    marks = lazy_pair.go_ahead(small_twin, batches, 0.4, every, **training)
    lazy_pair.follow(its, batches, marks, **training)
    for name, value in small_twin.state_dict().items():
        torch.testing.assert_close(proxy.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for name, value in its.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_the_target_meets_the_same_views_of_what_was_kept(
    splits: Splits, stages: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[sartor.data.loader.Batch]] = [[], []]
    original = Loader.epoch

    def watching(self: Loader, *arguments: Any, **options: Any) -> Any:
        for batch in original(self, *arguments, **options):
            seen[len(stages) - 1].append(batch)
            yield batch

    monkeypatch.setattr(Loader, "epoch", watching)
    fit(LazyProxy(**TINY, augment="crop"), splits, CNN)
    ahead, after = seen
    assert len(ahead) == len(after) > 20
    for whole, part in zip(ahead, after, strict=True):
        assert len(part) == kept_in(0.5, len(whole))
        stays = torch.isin(whole.rows, part.rows)
        assert torch.equal(whole.rows[stays], part.rows)
        assert torch.equal(whole.inputs[stays], part.inputs)
        assert torch.equal(whole.positions[stays], part.positions)


def test_fusion_puts_the_trained_proxy_into_the_target(splits: Splits, stages: list[Any], tmp_path: Path) -> None:
    fit(LazyProxy(**TINY, fusion=True, complement="preserving"), splits, CNN, out=tmp_path / "run")
    plan = ChannelPlan.load(tmp_path / "run" / "plan.json")
    (proxy, _), (_, begun) = stages
    for name, value in begun.items():
        assert torch.equal(plan.cut(name, value), proxy.model.state_dict()[name]), name
    stages.clear()
    fit(LazyProxy(**TINY), splits, CNN)
    assert torch.equal(stages[1][1]["conv1.weight"], net(CNN).conv1.weight)


def test_wrong_labels_are_kept_more_often(splits: Splits) -> None:
    kept = fit(LazyProxy(**{**TINY, "epochs": 8}, noise=0.2), splits).results["kept"]
    assert kept["noise_ratio"] > 0.2


@pytest.mark.parametrize("after", [2, 9, 30, 43])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_were_not(splits: Splits, tmp_path: Path, after: int) -> None:
    recipe = LazyProxy(**TINY, fusion=True, kd=True, noise=0.1)
    whole = fit(recipe, splits, CNN, out=tmp_path / "whole")
    with stopped_after(after):
        fit(recipe, splits, CNN, out=tmp_path / "cut")
    again = fit(recipe, splits, CNN, out=tmp_path / "cut")
    told = ("digest", "flops_by_purpose", "samples", "kept", "proxy_accuracy", "cost_paper")
    assert {name: again.results[name] for name in told} == {name: whole.results[name] for name in told}
    assert again.metrics == whole.metrics
    assert fit(recipe, splits, CNN, out=tmp_path / "cut").results == again.results


def test_a_run_in_memory_is_the_same(splits: Splits, tmp_path: Path) -> None:
    digest = fit(LazyProxy(**TINY), splits).results["digest"]
    assert digest == fit(LazyProxy(**TINY), splits, out=tmp_path / "run").results["digest"]


def test_marks_become_text_and_come_back() -> None:
    kept = torch.rand(5, 13, generator=torch.Generator().manual_seed(0)) < 0.5
    lines = packed(kept)
    assert all(len(line) == 4 for line in lines), "two bytes in base 64"
    assert torch.equal(unpacked(lines, 13), kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every is 0"),
        ({"fraction": 0.0}, "fraction is 0"),
        ({"record": "batch"}, "record has no effect"),
        ({"weighting": "none"}, "weighting has no effect"),
        ({"complement": "zeros"}, "complement: without effect without fusion"),
        ({"temperature": 2.0}, "temperature: without effect without kd"),
        ({"proxy": "dense", "fusion": True}, "proxy is dense; give --no-fusion"),
        ({"proxy": "dense", "sparsity": 0.8}, "sparsity: without effect without a proxy that is pruned"),
        ({"proxy": "fcc"}, "Did you mean 'fc'"),
        ({"fraction": 0.02, "batch_size": 64}, "1 samples are kept for 1 processes"),
    ],
)
def test_what_cannot_be_meant_is_refused(splits: Splits, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit(LazyProxy(**{**TINY, **options}), splits, CNN, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
