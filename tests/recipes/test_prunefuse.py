import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor.cli.main import main
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, ResumeError, SelectionError
from sartor.models.build import build_model
from sartor.prune.channels import ChannelPlan
from sartor.recipes import Active, PruneFuse
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.round_plan import Prices
from sartor.recipes.rounds import Rounds
from sartor.report.collect import collect
from staged_runs import fit, net, stopped_after

TINY: dict[str, Any] = {"epochs": 2, "batch_size": 64, "budgets": "100,150,200"}
UNAIDED: dict[str, Any] = {"acquisition": "random", "fusion": False, "kd": False}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def kept(run: Path) -> list[list[str]]:
    """Ids that are labelled, round by round."""
    return [json.loads(path.read_text())["ids"] for path in sorted((run / "subsets").iterdir())]


ARMS: list[Rounds] = [
    Active(**TINY),
    Active(**TINY, targets="all"),
    Active(**TINY, acquisition="random"),
    Active(**TINY, acquisition="random", targets="all"),
    Active(**TINY, acquisition="alse(snapshots=2)"),
    Active(**TINY, acquisition="k-center(start=labelled)", proxy="fc(hidden=4)"),
    Active(**TINY, shrink=0.5),
    PruneFuse(**TINY, targets="all"),
    PruneFuse(**TINY, acquisition="random"),
    PruneFuse(**TINY, fusion=False),
    PruneFuse(**TINY, kd=False, acquisition="badge"),
    PruneFuse(**TINY, fusion=False, kd=False, target_epochs=3, target_lr=0.01),
    PruneFuse(**TINY, kd_teacher="ema"),
    PruneFuse(**TINY, t_sync=1, sync_epochs=1),
    PruneFuse(**TINY, t_sync=2, sync_phase=1, stop_after=1),
    PruneFuse(**{**TINY, "epochs": 5}, dynamic=2, dynamic_epochs=2),
]


@pytest.mark.parametrize("recipe", ARMS, ids=range(len(ARMS)))
def test_every_arm_asks_exactly_and_costs_what_its_forecast_says(
    recipe: Rounds, splits: Splits, tmp_path: Path
) -> None:
    results = fit(recipe, splits, out=tmp_path / "run").results
    rounds = kept(tmp_path / "run")
    assert [len(ids) for ids in rounds] == [100, 150, 200]
    assert all(set(before) < set(later) for before, later in pairwise(rounds))
    pool = json.loads((tmp_path / "run" / "config.json").read_text())
    assert pool["train"]["size"] == results["n"]
    cost = Forecaster(splits, "fc(hidden=16)")(recipe)
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned
    assert (results["steps"], results["epochs"], results["k"]) == (cost.steps, cost.epochs, 200)
    assert len(results["targets"]) == (3 if recipe.targets == "all" else 1)
    assert results["targets"][-1]["test_accuracy"] == results["test_accuracy"]
    (run,) = collect([tmp_path]).runs  # the trainings within are no runs of their own
    assert run.flops == results["flops"]
    assert len(run.selections) == 3


def test_batch_norm_statistics_are_estimated_and_charged(splits: Splits) -> None:
    recipe = PruneFuse(**TINY, statistics="estimated", complement="preserving")
    results = fit(recipe, splits, "cnn(width=4)").results
    assert results["samples"]["fuse"] == {"trained": 0, "forward": 200}
    assert results["flops"] == pytest.approx(Forecaster(splits, "cnn(width=4)")(recipe).flops, rel=1e-12)


@pytest.mark.parametrize("kind", [PruneFuse, Active])
def test_what_is_asked_depends_on_no_label_that_was_not_told(
    kind: type[Rounds], splits: Splits, tmp_path: Path
) -> None:
    recipe = kind(**TINY, acquisition="badge", holdout=0.0)
    fit(recipe, splits, out=tmp_path / "true")
    told = kept(tmp_path / "true")
    rows = {name: row for row, name in enumerate(splits.train.ids)}
    for number in range(2):  # other labels for all that was not known when the round asked
        targets = (splits.train.targets + 3) % 10
        known = [rows[name] for name in told[number]]
        targets[known] = splits.train.targets[known]
        whole = recipe.with_options(budgets=",".join(["100", "150", "200"][: number + 2]))
        whole.fit(net(), splits.train.relabelled(targets, None), splits.test, out=tmp_path / f"flipped-{number}")
        assert kept(tmp_path / f"flipped-{number}") == told[: number + 2]


class Peeking:
    """Says that it needs logits alone, until the recipe has checked it."""

    honest = True

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"logits"} if self.honest else {"logits", "targets"})

    def select(self, scan: sartor.Scan, k: int, *, generator: torch.Generator) -> sartor.Subset:
        return sartor.Subset.of(scan.rows[scan.targets.argsort()[:k]])


def test_a_selector_that_looks_for_labels_finds_none(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sartor.SELECTORS._entries, "peeking", Peeking)
    recipe = Active(**TINY, acquisition="peeking")
    with pytest.raises(SelectionError, match="the scan has no targets"):
        fit(recipe, splits)
    monkeypatch.setattr(Rounds, "check_chooser", lambda *_: monkeypatch.setattr(Peeking, "honest", False))
    with pytest.raises(SelectionError, match="have no label but the selection needs it"):
        fit(recipe, splits)


def test_no_held_out_and_no_test_sample_is_ever_labelled(splits: Splits, stages: list[Any], tmp_path: Path) -> None:
    fit(PruneFuse(**TINY), splits, out=tmp_path / "run")
    held = set(splits.train.ids_of(stages[0][0].data.validation.rows))
    assert len(held) == round(0.1 * len(splits.train))
    assert not held & set(kept(tmp_path / "run")[-1])
    for stage, _ in stages:
        assert set(stage.data.train.targets[stage.data.train.rows].tolist()) <= set(range(10))
        outside = torch.ones(len(splits.train), dtype=torch.bool)
        outside[stage.data.train.rows] = False
        assert (stage.data.train.targets[outside] == -1).all()


def test_a_reordered_source_is_asked_for_the_same_ids(splits: Splits, tmp_path: Path) -> None:
    fit(PruneFuse(**TINY), splits, out=tmp_path / "a")
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(5))
    pool = splits.train
    shuffled = sartor.Pool.from_arrays(
        pool.inputs[order], pool.targets[order], ids=pool.ids_of(order), preprocess=pool.preprocess
    )
    PruneFuse(**TINY).fit(net(), shuffled, splits.test, out=tmp_path / "b")
    assert kept(tmp_path / "a") == kept(tmp_path / "b")


@pytest.mark.parametrize("after", [2, 5, 8, 11, 14])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_were_not(splits: Splits, tmp_path: Path, after: int) -> None:
    recipe = PruneFuse(**TINY, kd_teacher="ema", t_sync=2, sync_phase=1, acquisition="alse(snapshots=2)")
    whole = fit(recipe, splits, out=tmp_path / "whole")
    with stopped_after(after):
        fit(recipe, splits, out=tmp_path / "cut")
    again = fit(recipe, splits, out=tmp_path / "cut")
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")
    assert again.results["digest"] == whole.results["digest"]
    assert again.results["flops_by_purpose"] == whole.results["flops_by_purpose"]
    clean = [[line for line in result.metrics if line["kind"] != "stage"] for result in (again, whole)]
    assert clean[0] == clean[1]
    read = fit(recipe, splits, out=tmp_path / "cut")
    assert read.results == again.results
    assert all(torch.equal(a, b) for a, b in zip(read.model.parameters(), whole.model.parameters(), strict=True))


def test_a_run_in_memory_is_the_same(splits: Splits, tmp_path: Path) -> None:
    recipe = PruneFuse(**TINY)
    digest = fit(recipe, splits).results["digest"]
    assert digest == fit(recipe, splits, out=tmp_path / "run").results["digest"]


@pytest.mark.parametrize("complement", ["retained", "random", "preserving"])
def test_kept_weights_are_in_their_places_before_the_fine_tuning(
    splits: Splits, stages: list[Any], tmp_path: Path, complement: str
) -> None:
    recipe = PruneFuse(**TINY, complement=complement)
    fit(recipe, splits, "cnn(width=4)", out=tmp_path / "run")
    plan = ChannelPlan.load(tmp_path / "run" / "plan.json")
    (selector, _), (target, begun) = stages[-2:]
    assert [stage.title for stage, _ in stages[-2:]] == ["selector-round-2", "target-round-2"]
    small = selector.model.state_dict()
    for name, value in begun.items():
        assert torch.equal(plan.cut(name, value), small[name]), name
    assert target.teacher is not None
    taught = target.teacher.model.state_dict()
    assert all(torch.equal(taught[name], small[name]) for name in small), "the teacher is frozen"
    assert (target.teacher.weight, target.teacher.temperature) == (0.3, 4.0)
    if complement == "preserving":
        dense = build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=0)
        dense.load_state_dict(begun)
        x = splits.test.gather(splits.test.rows[:8])
        torch.testing.assert_close(dense.eval()(x), selector.model.eval()(x), rtol=1e-4, atol=1e-5)


def test_every_round_has_a_draw_and_index_sets_of_its_own(splits: Splits, stages: list[Any]) -> None:
    fit(PruneFuse(**TINY), splits)
    weights = [begun["hidden.weight"] for stage, begun in stages if "selector" in stage.title]
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 3
    stages.clear()
    fit(PruneFuse(**TINY, fresh="same"), splits)
    weights = [begun["hidden.weight"] for stage, begun in stages if "selector" in stage.title]
    assert torch.equal(weights[0], weights[1])


def test_arms_without_fusion_begin_from_a_fresh_draw(splits: Splits, stages: list[Any]) -> None:
    fit(PruneFuse(**TINY, fusion=False, kd=False, fresh="same"), splits)
    assert [stage.title for stage, _ in stages] == ["selector-round-0", "selector-round-1", "target-round-2"]
    assert torch.equal(stages[-1][1]["hidden.weight"], net().hidden.weight)
    assert stages[-1][0].teacher is None


@pytest.mark.parametrize(("t_sync", "phase", "synced"), [(1, 0, [1, 2, 3]), (2, 0, [2]), (2, 1, [1, 3]), (0, 0, [])])
def test_which_rounds_are_synchronised(t_sync: int, phase: int, synced: list[int]) -> None:
    recipe = PruneFuse(budgets="10,20,30,40", t_sync=t_sync, sync_phase=phase)
    assert [now.number for now in recipe.agenda(100) if now.synced] == synced


@pytest.mark.parametrize(
    ("options", "trained", "synced"),
    [
        ({"t_sync": 1}, [0, 1, 2, 3], [1, 2, 3]),
        ({"t_sync": 2, "sync_phase": 1}, [2, 3], [3]),
        ({"t_sync": 2, "targets": "30,40"}, [1, 2, 3], [2]),
        ({}, [3], []),
    ],
)
def test_random_labels_train_the_selectors_that_a_target_comes_of(
    options: dict[str, Any], trained: list[int], synced: list[int]
) -> None:
    rounds = PruneFuse(budgets="10,20,30,40", acquisition="random", **options).agenda(100)
    assert [now.number for now in rounds if now.selects] == trained
    assert [now.number for now in rounds if now.synced] == synced


def test_the_papers_cost_counts_the_selectors_that_there_are() -> None:
    """Random labels ask no selector: where every budget has a fused target, one is trained at each, or else at none."""
    last, every = (PruneFuse(**TINY, acquisition="random", targets=targets) for targets in ("last", "all"))
    each = [6 * 5 * 3 * size * 2 for size in (100, 150)]
    assert list(last.paper_costs(20, 5, 3, 1000)["selector"].values()) == [0, 0, 0]
    assert list(every.paper_costs(20, 5, 3, 1000)["selector"].values()) == [0, each[0], sum(each)]
    assert last.paper_costs(20, 5, 3, 1000)["total"] == 6 * 20 * 3 * 200 * 2


def test_channels_that_leave_in_steps_end_at_the_sparsity(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.2 * 3 / 3 != 0.2, "a step's share as it is reckoned would be another one"
    shares, cut = [], PruneFuse.cut

    def watched(self: PruneFuse, *args: Any) -> Any:
        shares.append(args[3])
        return cut(self, *args)

    monkeypatch.setattr(PruneFuse, "cut", watched)
    fit(PruneFuse(epochs=4, batch_size=64, budgets="100", probe=0, sparsity=0.2, dynamic=3, dynamic_epochs=3), splits)
    assert shares == [0.2 / 3, 0.2 * 2 / 3, 0.2]


def test_what_stop_after_ends(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = PruneFuse(
        epochs=4, budgets="10,20,30", t_sync=2, sync_phase=1, stop_after=1, target_epochs=2, sync_epochs=3
    )
    found = {plan.purpose: plan.epochs for now in recipe.agenda(90) for plan in recipe.planned(now, Prices(1, 1))}
    assert found == {"selector": 1, "sync": 3, "train": 2}
    with pytest.raises(SystemExit):
        main(["train", "prunefuse", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "Epochs after which a training ends, its schedule unchanged, unless its epochs are an option" in words


def test_shrink_and_perturb_begins_from_what_was_trained(splits: Splits, stages: list[Any]) -> None:
    fit(Active(**TINY, shrink=1.0, perturb=0.0), splits)
    for (before, _), (_, begun) in pairwise(stages):
        assert torch.equal(begun["hidden.weight"], before.model.hidden.weight)


def test_a_selector_that_learnt_nothing_is_said(splits: Splits) -> None:
    with pytest.warns(UserWarning, match="has learnt nothing: its accuracy"):
        results = fit(PruneFuse(**TINY, lr=1e-9), splits).results
    assert all(report["at_chance"] for report in results["rounds"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budgets": "0.5,0.2"}, "each must be more than the one before"),
        ({"budgets": "10%,20%"}, "give shares of the pool"),
        ({"budgets": "inf"}, "budgets are 'inf'; give shares"),
        ({"budgets": "10,inf"}, "or whole numbers"),
        ({"targets": "nothing"}, "targets are 'nothing'; give shares"),
        ({"budgets": "0.1,0.5", "targets": "0.5,0.1"}, "targets are '0.5,0.1'; each must be more"),
        ({"budgets": "0.0001,0.2"}, "the first at least 1"),
        ({"budgets": "100,5000"}, "ask for 5000 labels; the pool has 1167 samples"),
        ({"targets": "120,200"}, "none of the budgets"),
        ({"targets": "100"}, "the last budget must be among them"),
        ({"acquisition": "el2n"}, "needs targets, which samples without a label have not"),
        ({"acquisition": "forgetting"}, "needs history"),
        ({"acquisition": "least-confidence(balanced=true)"}, "needs targets"),
        ({"acquisition": "bald"}, "dropout"),
        ({"sparsity": 1.5}, "sparsity is 1.5"),
        ({"kd": False, "temperature": 2.0}, "temperature: without effect without kd"),
        ({"fusion": False, "complement": "zeros"}, "complement: without effect without fusion"),
        ({"sync_phase": 1}, "sync_phase is 1"),
        ({"dynamic": 5}, "dynamic_epochs is 20"),
        ({"record": "batch"}, "record has no effect"),
        ({"weighting": "batch"}, "weighting has no effect"),
        ({"t_sync": 9}, "t_sync is 9 and sync_phase 0, which with budgets 100,150,200 is no .* 1, 2, counted from 0"),
        ({"t_sync": 3}, "is no round after the first whose selector is used; used are those of 1, 2"),
        ({"t_sync": 2, "sync_phase": 1, "acquisition": "random"}, "used are those of 2, counted from 0; t_sync 1"),
        ({"budgets": "100,150", "t_sync": 1, "fusion": False, "kd": False}, "whose selector is used; leave it out"),
        ({"budgets": "0.3", "t_sync": 1, "sync_epochs": 5}, "budgets 0.3 is no round .* used; leave it out"),
        ({**UNAIDED, "t_sync": 1}, "t_sync: without effect without an acquisition that looks at a network, fusion or"),
        ({"budgets": "0.3", "fresh": "same"}, "fresh: without effect without a second budget"),
        ({"budgets": "0.3", "head": "output"}, "head: without effect without a second budget"),
        (
            {"budgets": "0.3", "fusion": False, "kd": False, "sparsity": 0.6},
            "sparsity: without effect without a second budget, fusion or",
        ),
        ({"stop_after": 9}, "stop_after is 9"),
        ({"statistics": "estimated"}, "no batch-norm statistics"),
        ({"importance": "size"}, "importance is 'size'"),
        ({"acquisition": "random", "head": "output"}, "head: without effect without an acquisition that looks"),
        (
            {**UNAIDED, "sparsity": 0.6},
            "sparsity: without effect without an acquisition that looks at a network, fusion",
        ),
        ({**UNAIDED, "importance": "lamp", "scope": "global"}, "importance, scope: without effect"),
        ({**UNAIDED, "dynamic": 2, "dynamic_epochs": 3}, "dynamic: without effect"),
    ],
)
def test_what_cannot_be_meant_is_refused(splits: Splits, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, SelectionError), match=words):
        fit(PruneFuse(**{**TINY, **options}), splits, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_active_refuses_options_without_effect() -> None:
    with pytest.raises(ConfigError, match="perturb has no effect"):
        Active(perturb=0.5)
    for options in ({"proxy": "fc"}, {"shrink": 0.5}, {"head": "output"}):
        (name,) = options
        with pytest.raises(ConfigError, match=f"{name}: without effect without an acquisition that looks at a network"):
            Active(acquisition="random", **options)
    for options in ({"proxy": "fc"}, {"shrink": 0.5}, {"fresh": "same"}):
        (name,) = options
        with pytest.raises(ConfigError, match=f"{name}: without effect without a second budget"):
            Active(budgets="0.3", **options)
    with pytest.raises(ConfigError, match="shrink: without effect without a third budget"):
        Active(budgets="0.1,0.3", proxy="fc", shrink=0.5)
    assert Active(budgets="0.1,0.2,0.3", proxy="fc", shrink=0.5).shrink == Active(budgets="0.1,0.3", shrink=0.5).shrink
    with pytest.raises(ConfigError, match="weighting has no effect"):
        Active(weighting="none")


@pytest.mark.parametrize("use", [{"acquisition": "entropy"}, {"fusion": True}, {"kd": True}])
def test_a_selector_of_any_use_may_be_cut_as_one_likes(use: dict[str, Any]) -> None:
    assert PruneFuse(**{**UNAIDED, **use}, sparsity=0.6, scope="global").has_selector


def test_another_recipe_in_the_folder_is_refused(splits: Splits, tmp_path: Path) -> None:
    fit(PruneFuse(**TINY), splits, out=tmp_path / "run")
    with pytest.raises(ResumeError, match="another configuration: kd_weight"):
        fit(PruneFuse(**TINY, kd_weight=0.5), splits, out=tmp_path / "run")


def test_rounds_tell_the_seconds_between_trainings_too(splits: Splits) -> None:
    results = fit(PruneFuse(**TINY, importance="snip"), splits).results
    by_round = results["seconds_by_round"]
    assert list(by_round) == [str(report["round"]) for report in results["rounds"]]
    assert all({"prune", "selector"} <= set(spent) for spent in by_round.values())
    for purpose, seconds in results["seconds_by_purpose"].items():
        assert sum(spent.get(purpose, 0) for spent in by_round.values()) == pytest.approx(seconds)


def test_targets_beside_a_proxy_are_charged_as_targets(splits: Splits) -> None:
    """The dense network chooses nothing there, in whatever round it is trained."""
    recipe = Active(epochs=2, batch_size=32, budgets="40,80,120", targets="all", proxy="fc(hidden=8)", probe=0)
    costs = fit(recipe, splits).results["samples"]
    assert costs["train"]["trained"] == 2 * (40 + 80 + 120)
    assert costs["selector"]["trained"] == 2 * (40 + 80)
