from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sartor
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, PruningError, SelectionError
from sartor.models.build import build_model
from sartor.prune.channels import ChannelPlan
from sartor.prune.scope import prunable
from sartor.recipes import DropHot
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.masking import PURPOSE
from sartor.recipes.staged import Stage
from sartor.report.collect import collect
from staged_runs import FC, fit, net, stopped_after

TINY: dict[str, Any] = {"epochs": 2, "fraction": 0.2}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


@pytest.fixture(scope="module")
def forecaster(splits: Splits) -> Forecaster:
    """Return one for all recipes, so that nothing counted for one of them may be taken for another."""
    return Forecaster(splits, FC)


def kept(model: nn.Module) -> dict[str, int]:
    return {name: int((weight != 0).sum()) for name, weight in prunable(model).items()}


def net_with(weights: dict[str, torch.Tensor]) -> nn.Module:
    model = net()
    model.load_state_dict(weights)
    return model


CELLS = [
    DropHot(**TINY),
    DropHot(**TINY, selector="forgetting(keep=lowest, balanced=true)", record="epoch"),
    DropHot(**TINY, selector="random(balanced=true)", tune_epochs=1),
    DropHot(epochs=2, selector="none", sparsity=0.0),
    DropHot(epochs=2, selector="none", match="forgetting"),
    DropHot(**TINY, selector="random", match="el2n", score_epochs=1, noise=0.2),
    DropHot(**TINY, selector="gradmatch", holdout=0.1),
    DropHot(**TINY, selector="glister", holdout=0.1, coreset_epochs=3),
    DropHot(**TINY, pruning="channels", sparsity=0.5, iterations=2),
    DropHot(**TINY, tuning="regrow", iterations=2, reinit="initial"),
    DropHot(**TINY, iterations=2, tune_epochs=3, reinit="fresh"),
    DropHot(**TINY, legacy_defects="scores,masks"),
    DropHot(**TINY, selector="el2n", score_sparsity=0.5),
    DropHot(**TINY, score_sparsity=0.5, importance="snip", record="epoch"),
    DropHot(**TINY, selector="random", match="forgetting", score_sparsity=0.5, importance="snip"),
    DropHot(**TINY, selector="crest(threshold=0)", coreset_epochs=3, reinit="fresh"),
    DropHot(**TINY, selector="sieve(every=2)", coreset_epochs=3, pruning="channels", sparsity=0.5),
]


@pytest.mark.parametrize("recipe", CELLS, ids=range(len(CELLS)))
def test_every_cell_costs_what_its_forecast_says(
    recipe: DropHot, splits: Splits, forecaster: Forecaster, tmp_path: Path
) -> None:
    results = fit(recipe, splits, out=tmp_path / "run").results
    cost = forecaster(recipe)
    assert {p: f for p, f in results["flops_by_purpose"].items() if f} == pytest.approx(
        cost.flops_by_purpose, rel=1e-12
    )
    assert set(results["flops_by_purpose"]) <= {"score", "record", "select", "train", "tune", PURPOSE}
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned
    assert (results["steps"], results["epochs"]) == (cost.steps, cost.epochs)
    assert (results["k"], results["kept_weights"]) == (cost.k, cost.kept_weights)
    curves = results["curves"]
    assert (curves["train"][-1], curves["tune"][-1]) == (results["trained_accuracy"], results["test_accuracy"])
    assert len(curves["tune"]) == recipe.tuned
    assert [report["sparsity"] for report in results["prunings"]] == recipe.shares
    (run,) = collect([tmp_path]).runs
    assert run.flops == results["flops"]
    assert len(run.selections) == (recipe.selector != "none")


@pytest.mark.parametrize("arm", ["none", "random"])
@pytest.mark.parametrize("matched", ["forgetting", "el2n"])
def test_a_matched_run_costs_the_same_within_half_a_step(forecaster: Forecaster, arm: str, matched: str) -> None:
    plain = DropHot(**TINY, selector=matched)
    aim, found = forecaster(plain), forecaster(plain.with_options(selector=arm, match=matched))
    largest_step = 3 * forecaster.flops.forward * 2 * plain.batch_size
    assert abs(aim.flops - found.flops) <= largest_step / 2
    assert found.flops_by_purpose.keys() == {"train", "tune"}
    assert found.flops_by_purpose["tune"] == aim.flops_by_purpose["tune"]


def test_one_shot_counts_are_exact_and_the_accuracy_after_pruning_is_that_of_the_pruned_network(
    splits: Splits, stages: list[Any], tmp_path: Path
) -> None:
    result = fit(DropHot(epochs=2, selector="none", sparsity=0.7), splits, out=tmp_path / "run")
    (trained, _), (tuned, begun) = stages
    sizes = {name: weight.numel() for name, weight in prunable(net()).items()}
    counts = {name: int(0.3 * size + 0.5) for name, size in sizes.items()}
    assert kept(tuned.model) == counts == kept(result.model)
    assert {name: result.masks.kept(name) for name in sizes} == counts
    for name in sizes:
        weight = trained.model.get_parameter(name).detach().flatten().abs()
        stays = begun[name].flatten() != 0
        assert weight[stays].min() >= weight[~stays].max()
        assert torch.equal(begun[name].flatten()[stays], trained.model.get_parameter(name).detach().flatten()[stays])
    pruned = net()
    pruned.load_state_dict(begun)
    rows = splits.test.rows
    hits = pruned.eval()(splits.test.gather(rows)).argmax(1) == splits.test.targets_of(rows)
    assert result.results["pruned_accuracy"] == pytest.approx(float(hits.double().mean()))
    assert result.results["kept_weights"] == sum(counts.values()) + 26


def test_weights_regrow_only_where_they_may(splits: Splits, stages: list[Any]) -> None:
    for options, dense in (({}, False), ({"tuning": "regrow"}, True), ({"legacy_defects": "masks"}, True)):
        stages.clear()
        result = fit(DropHot(**TINY, selector="random", **options), splits)
        begun = stages[-1][1]
        for name, weight in prunable(result.model).items():
            dead = begun[name] == 0
            assert int(dead.sum()) == weight.numel() - int(0.2 * weight.numel() + 0.5)
            alive = int((weight[dead] != 0).sum())
            assert alive > 0.2 * int(dead.sum()) if dense else alive == 0
        assert (result.masks is None) == dense


def test_pruning_over_all_layers_keeps_so_many_in_all(splits: Splits, stages: list[Any]) -> None:
    total = sum(weight.numel() for weight in prunable(net()).values())
    found = []
    for normaliser in ("raw", "mean", "l2"):
        result = fit(DropHot(**TINY, selector="random", pruning="global", normaliser=normaliser), splits)
        found.append(kept(result.model))
        assert sum(found[-1].values()) == int(0.2 * total + 0.5)
    assert found[0] != found[1]


def test_channels_leave_and_the_users_network_computes_what_the_small_one_does(
    splits: Splits, stages: list[Any], tmp_path: Path
) -> None:
    recipe = DropHot(**TINY, selector="random", pruning="channels", sparsity=0.5, iterations=2)
    result = fit(recipe, splits, "cnn(width=4)", out=tmp_path / "run")
    small = stages[-1][0].model
    plan = ChannelPlan.load(tmp_path / "run" / "plan.json")
    x = splits.test.gather(splits.test.rows[:16])
    torch.testing.assert_close(result.model(x), small.eval()(x), rtol=1e-4, atol=1e-5)
    for name, weight in small.named_parameters():
        assert torch.equal(plan.cut(name, result.model.get_parameter(name).detach()), weight.detach())
    assert small.conv1.weight.shape[0] == 2
    assert result.results["parameters"] == result.results["kept_weights"] == sum(p.numel() for p in small.parameters())
    assert result.results["full_epoch_flops"] == 3 * sartor.count_flops(net("cnn(width=4)"), x).forward * len(
        splits.train
    )


@pytest.mark.parametrize("reinit", ["none", "initial", "fresh"])
def test_what_the_tuning_begins_from(splits: Splits, stages: list[Any], reinit: str) -> None:
    fit(DropHot(**TINY, selector="random", reinit=reinit), splits)
    (trained, initial), (_, begun) = stages
    assert torch.equal(initial["hidden.weight"], net().hidden.weight)
    alive = begun["hidden.weight"] != 0
    same = {
        "none": trained.model.hidden.weight.detach(),
        "initial": initial["hidden.weight"],
    }
    for kind, weight in same.items():
        assert torch.equal(begun["hidden.weight"][alive], weight[alive]) == (kind == reinit)


def test_iterations_take_equal_shares_of_what_is_left_and_share_the_epochs() -> None:
    recipe = DropHot(sparsity=0.875, iterations=3, tune_epochs=8)
    assert recipe.shares == [0.5, 0.75, 0.875]
    assert recipe.parts == [(0, 2), (2, 5), (5, 8)]
    assert DropHot(sparsity=0.9).shares == [0.9]


def test_iterations_never_revive_a_weight_under_masks(splits: Splits, stages: list[Any]) -> None:
    fit(DropHot(**TINY, selector="random", sparsity=0.75, iterations=2), splits)
    masks = [stage.masks for stage, _ in stages[1:]]
    for name, first in masks[0].items():
        assert not (masks[1][name] & ~first).any()
        assert (int(first.sum()), int(masks[1][name].sum())) == (int(first.numel() / 2), int(first.numel() / 4 + 0.5))


def test_forgotten_samples_are_chosen_and_those_never_learnt_count_as_the_hardest(
    splits: Splits, tmp_path: Path
) -> None:
    result = fit(DropHot(**TINY, score_epochs=6), splits, out=tmp_path / "run")
    history = result.history
    assert history is not None
    assert (history.visits == 6).all()
    right, never = history.times_right > 0, history.times_right == 0
    expected = [int((history.forgotten[right] == count).sum()) for count in range(int(history.forgotten.max()) + 1)]
    assert result.results["scores"] == {"forgotten": expected, "never_learnt": int(never.sum())}
    events = history.forgotten.float().masked_fill(never, 1e3)
    chosen = torch.isin(splits.train.rows, result.subset.rows)
    assert events[chosen].min() >= events[~chosen].max()
    lowest = fit(DropHot(**TINY, score_epochs=6, selector="forgetting(keep=lowest)"), splits)
    chosen = torch.isin(splits.train.rows, lowest.subset.rows)
    assert events[chosen].max() <= events[~chosen].min()


@pytest.mark.parametrize("importance", ["l2", "random"])
def test_a_smaller_network_scores_and_the_whole_one_is_trained(
    splits: Splits, stages: list[Any], importance: str
) -> None:
    """It begins with the weights of the channels that stay, and is trained on the same mini-batches."""
    usual = fit(DropHot(**TINY), splits)
    result = fit(DropHot(**TINY, score_sparsity=0.75, importance=importance), splits)
    (whole, start), (train, _), _, (small, smaller), (again, _), _ = stages
    assert (whole.title, small.title, train.title, again.title) == ("score", "score", "train", "train")
    assert small.recipe == whole.recipe
    assert small.plan is not None
    cut = small.plan.shrink(net_with(start)).state_dict()
    assert all(torch.equal(value, cut[name]) for name, value in smaller.items())
    assert [smaller[name].shape[0] for name in ("hidden.weight", "classifier.weight")] == [4, 10]
    assert [p.shape for p in again.model.parameters()] == [p.shape for p in train.model.parameters()]
    assert (usual.results["score_parameters"], result.results["score_parameters"]) == (1210, 4 * 65 + 10 * 5)
    assert not torch.equal(usual.subset.rows, result.subset.rows)


def test_weights_of_a_coreset_are_trained_with(splits: Splits, stages: list[Any]) -> None:
    result = fit(DropHot(**TINY, selector="gradmatch"), splits)
    weights = stages[1][0].weights
    assert torch.equal(weights, result.subset.weights)
    assert weights.std() > 0


def test_noise_is_in_the_training_labels_and_its_share_of_the_coreset_is_told(splits: Splits, tmp_path: Path) -> None:
    result = fit(DropHot(**TINY, noise=0.3), splits, out=tmp_path / "run")
    assert 0.3 < result.results["noise_ratio"] <= 1, "wrong labels are learnt late"
    assert (tmp_path / "run" / "noise.json").exists()


def test_runs_share_trainings_and_each_is_charged_for_them(splits: Splits, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    own = fit(DropHot(**TINY), splits, out=tmp_path / "own")
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        begin = Stage.begin
        patch.setattr(Stage, "begin", lambda self, *rest: calls.append(self.title) or begin(self, *rest))
        first = fit(DropHot(**TINY), splits, out=tmp_path / "first", shared=place)
        assert calls == ["score", "train", "tune"]
        calls.clear()
        sparser = fit(DropHot(**TINY, sparsity=0.9), splits, out=tmp_path / "sparser", shared=place)
        assert calls == ["tune"]
        calls.clear()
        lowest = fit(DropHot(**TINY, selector="forgetting(keep=lowest)"), splits, shared=place)
        assert calls == ["train", "tune"]
    assert own.results["digest"] == first.results["digest"]
    for result in (first, sparser, lowest):
        for purpose in ("score", "train"):
            assert result.results["flops_by_purpose"][purpose] == own.results["flops_by_purpose"][purpose]
    assert torch.equal(first.subset.rows, sparser.subset.rows)
    assert not set(first.subset.rows.tolist()) & set(lowest.subset.rows.tolist())


@pytest.mark.parametrize("after", [2, 5, 8, 11, 14])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_were_not(splits: Splits, tmp_path: Path, after: int) -> None:
    recipe = DropHot(epochs=2, fraction=0.1, batch_size=512, iterations=2, legacy_defects="scores", tuning="masked")
    whole = fit(recipe, splits, out=tmp_path / "whole")
    with stopped_after(after):
        fit(recipe, splits, out=tmp_path / "cut")
    again = fit(recipe, splits, out=tmp_path / "cut")
    told = ("digest", "flops_by_purpose", "prunings", "curves", "scores", "samples")
    assert {name: again.results[name] for name in told} == {name: whole.results[name] for name in told}
    assert again.metrics == whole.metrics
    read = fit(recipe, splits, out=tmp_path / "cut")
    assert read.results == again.results
    assert read.masks is not None
    assert read.masks.digest() == whole.masks.digest()
    assert all(torch.equal(a, b) for a, b in zip(read.model.parameters(), whole.model.parameters(), strict=True))
    assert torch.equal(read.history.forgotten, whole.history.forgotten)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": 1.5}, r"fraction is 1.5"),
        ({"fraction": 0.0001}, "fraction 0.0001 of 1297 samples is none"),
        ({"sparsity": 1.0}, "sparsity is 1"),
        ({"sparsity": 0.9999, "pruning": "global"}, "0.9999"),
        ({"pruning": "layers"}, "pruning is 'layers'.*Did you mean 'layer'"),
        ({"iterations": 3}, "iterations is 3"),
        ({"iterations": 2, "sparsity": 0.0}, "iterations: without effect without a sparsity"),
        ({"pruning": "channels", "tuning": "masked", "sparsity": 0.0}, "pruning: without effect without a sparsity"),
        ({"tuning": "regrow", "sparsity": 0.0}, "tuning: without effect without a sparsity"),
        ({"legacy_defects": "masks", "sparsity": 0.0}, "masks has no effect without a sparsity"),
        ({"normaliser": "l2"}, "normaliser: without effect without pruning global"),
        ({"importance": "lamp"}, "importance: without effect without pruning channels or score_sparsity"),
        ({"score_sparsity": 1.0}, "score_sparsity is 1"),
        ({"selector": "random", "score_sparsity": 0.5}, "score_sparsity: without effect without a selector that needs"),
        ({"selector": "none"}, "fraction: without effect without a selector"),
        ({"selector": "random", "record": "epoch"}, "record: without effect without a selector that needs a training"),
        ({"selector": "random", "head": "x"}, "head: without effect without a score training"),
        ({"selector": "forgeting"}, "Did you mean 'forgetting'"),
        ({"selector": "infobatch"}, "infobatch settles itself"),
        ({"selector": "crest(treshold=1)"}, "Did you mean 'threshold'"),
        ({"selector": "crest(head=x)"}, "head is 'x'"),
        ({"selector": "crest", "record": "batch"}, "record: without effect"),
        ({"selector": "crest", "legacy_defects": "batchnorm"}, "crest needs none"),
        ({"selector": "random", "match": "crest"}, "name a selector that needs a training"),
        ({"selector": "dual"}, "dual needs 10 looks at each sample, score_epochs is 2"),
        ({"selector": "alse"}, "needs snapshots"),
        ({"selector": "bald"}, "dropout"),
        ({"match": "forgetting"}, "match is for what needs no training"),
        ({"selector": "random", "match": "random(balanced=true)"}, "name a selector that needs a training"),
        ({"tuning": "regrow", "pruning": "channels"}, "cannot regrow"),
        ({"legacy_defects": "masks", "pruning": "channels"}, "cannot regrow"),
        ({"legacy_defects": "scors"}, "Did you mean 'scores'"),
        ({"legacy_defects": "scores", "selector": "random"}, "about selector forgetting"),
        ({"legacy_defects": "scores", "record": "epoch"}, "about selector forgetting, without record"),
        ({"legacy_defects": "batchnorm"}, "the model has no batch norm"),
        ({"legacy_defects": "batchnorm", "selector": "random"}, "random needs none"),
        ({"legacy_defects": "masks", "tuning": "regrow"}, "give one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(splits: Splits, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, SelectionError, PruningError), match=words):
        fit(DropHot(**{**TINY, **options}), splits, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_reports_networks_have_its_numbers_of_parameters() -> None:
    for spec, parameters in (("lenet", 44_426), ("fc", 203_530)):
        model = build_model(spec, classes=10, input_shape=(1, 28, 28), seed=0)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    stem = build_model("resnet18(stem=imagenet)", classes=10, input_shape=(3, 32, 32), seed=0)
    assert (stem.conv1.kernel_size, stem.conv1.stride) == ((7, 7), (2, 2))


def test_the_training_is_that_of_the_report() -> None:
    recipe = DropHot()
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.weight_decay) == ("adam", 1e-3, 64, 0)
    assert (recipe.schedule, recipe.augment, recipe.holdout) == ("constant", "none", 0)
    assert (recipe.scored, recipe.trained, recipe.tuned) == (10, 10, 10)
