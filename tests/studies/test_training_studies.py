"""Studies of trainings: each is run on a tiny grid, read back, and says what its numbers say."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sartor.cli.main import main
from sartor.cli.study import parse
from sartor.errors import ConfigError
from sartor.recipes.arms import make_arm
from sartor.recipes.swast import SWaST
from sartor.recipes.taught import Taught
from sartor.registry import MODELS, STUDIES
from sartor.studies.cost_conventions import CostStudy, dominated, ranked
from sartor.studies.cross import CrossStudy
from sartor.studies.cross_arms import FILLS, SELECTS, SOURCES, SPARSE
from sartor.studies.noise import NoiseStudy
from sartor.studies.noise_table import SAME, curve
from sartor.studies.preservation_or_distillation import PreservationOrDistillationStudy
from sartor.studies.preservation_or_distillation_table import Grid, Way
from sartor.studies.synergy_table import Square
from sartor.studies.timing import TimingStudy
from sartor.studies.trainings import TrainingStudy, average, points

TINY = ("--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--seeds", "2", "--epochs", "4")
TINY += ("--batch-size", "40", "--noise", "0.25")
OWN = {
    "synergy": ("--every", "2", "--fractions", "0.5", "--sparsities", "0.5", "--seeds", "1"),
    "timing": ("--intervals", "3", "--fraction", "0.5", "--arms", "coreset-only"),
    "el2n-switch": ("--every", "2", "--fractions", "0.5", "--balanced", "False", "--seeds", "1"),
    "noise": ("--every", "2", "--fraction", "0.5", "--selectors", "moderate", "--sparsities", "0.5"),
    "trim": ("--every", "2", "--fractions", "0.5"),
    "cost-conventions": ("--every", "2", "--fraction", "0.5"),
    "alignment": ("--acquisitions", "random", "entropy", "--budgets", "0.3,0.6", "--targets", "0.6", "--t-sync", "1"),
    "double-loss": ("--every", "2", "--fractions", "0.5", "--selectors", "el2n", "--noise", "0", "--probe", "10"),
    "preservation-or-distillation": ("--every", "2", "--fractions", "0.5", "--weights", "0.1", "--seeds", "1"),
    "cross": ("--every", "2", "--fraction", "0.5", "--weights", "0.1", "--budgets", "30,60", "--seeds", "1"),
    "preservation": ("--every", "2", "--fractions", "0.5", "--weights", "0.1", "--seeds", "1"),
}
TRAININGS = [name for name in STUDIES if issubclass(STUDIES[name], TrainingStudy)]  # type: ignore[arg-type]


def test_every_study_of_trainings_is_here() -> None:
    assert set(TRAININGS) == set(OWN)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_tiny_grid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", name, *TINY, *OWN[name], "--out", "a"]
    assert main([*words, "--dry-run"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert main(words) == 0, capsys.readouterr().err
    left = {path.name for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert left == {"results.json", "results.csv", "table.md", "figure.csv", "figure.svg", "figure.png"}
    study = parse(name, words[2:])
    kept = json.loads((tmp_path / "a/results.json").read_text())
    assert isinstance(study, TrainingStudy)
    cells = study.cells()
    assert len(kept["cells"]) == len(cells)
    firsts = {cell.first for cell in cells}
    assert len({cell.folder for cell in cells}) == len(firsts), "each distinct run has a folder of its own"
    assert all((tmp_path / cell.folder / "results.json").exists() for cell in cells)
    table = (tmp_path / "a/table.md").read_text()
    assert table.splitlines()[0].endswith(".")
    assert "### " in table
    rows = list(csv.DictReader((tmp_path / "a/results.csv").open()))
    assert all(float(row["noise"]) in study.noise for row in rows if row.get("noise"))
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert main(words) == 0
    assert {path: path.read_bytes() for path in before} == before, "a finished study is read back"


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_quick_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", name, "--quick"]) == 0, capsys.readouterr().err
    assert (tmp_path / f"runs/{name}-quick/table.md").exists()


@pytest.mark.parametrize("name", TRAININGS)
def test_equal_cost_is_equal(name: str, tmp_path: Path) -> None:
    study = parse(name, [*TINY, *OWN[name], "--out", str(tmp_path), "--epochs", "20"])
    assert isinstance(study, TrainingStudy)
    matched = [(factors, recipe) for factors, recipe in study.recipes() if factors.get("match") == "cost"]
    costs = [study.forecaster()(recipe).flops for _, recipe in matched]
    assert not costs or max(costs) < 1.1 * min(costs)


def test_a_longer_run_keeps_its_warmup() -> None:
    study = parse("preservation", [*TINY, *OWN["preservation"], "--epochs", "20"])
    assert isinstance(study, TrainingStudy)
    recipe, forecast = make_arm("coreset-only", study.base(fraction=0.2), n=100), study.forecaster()
    whole = forecast(recipe).flops
    for share, warmup in ((1.6, 2), (0.4, 1)):
        found = study.at_cost(recipe, share * whole)
        assert isinstance(found, SWaST)
        assert found.warmup == warmup, "of 20 epochs, or of as many as a shorter one has"
    shares = [step / 20 for step in range(8, 40)]
    off = [abs(forecast(study.at_cost(recipe, share * whole)).flops / whole - share) for share in shares]
    jumping = [abs(forecast(forecast.matched(recipe, share * whole)).flops / whole - share) for share in shares]
    assert max(off) < 0.04 < max(jumping), "half an epoch of a coreset at most, not of all samples"
    found = study.at_cost(make_arm("prune-only", study.base(), n=100), 1.6 * whole)
    assert isinstance(found, SWaST)
    assert found.warmup is None, "all data have no warm-up"


def test_costs_stand_as_shares_of_the_target() -> None:
    where = {"preserve": "none", "fraction": 0.1, "sparsity": 0.5}
    corners = {("all", "all"): 9.0, ("all", "pruned"): 11.0, ("chosen", "all"): 12.5, ("chosen", "pruned"): 10.0}
    results = [
        result(seed, 0.5, flops=flops, samples=samples, weights=weights, **where)
        for (samples, weights), flops in corners.items()
        for seed in (0, 1)
    ]
    row = next(iter(Square(results, 0.0, "cost", 0.1, 0.5).rows()))
    assert row["FLOPs (share of target)"] == "0.90, 1.10, 1.25, 1.00"


def result(seed: int, accuracy: float, **where: object) -> dict:
    return {"seed": seed, "test_accuracy": accuracy, "noise": 0.0, "match": "cost"} | where


def test_the_interaction_is_what_the_pair_does_beyond_the_sum() -> None:
    results = []
    for seed, (dense, pruned, selected, joint) in enumerate([(0.9, 0.85, 0.8, 0.7), (0.8, 0.8, 0.8, 0.85)]):
        for samples, weights, accuracy in (
            ("all", "all", dense),
            ("all", "pruned", pruned),
            ("chosen", "all", selected),
            ("chosen", "pruned", joint),
        ):
            where = {"samples": samples, "weights": weights, "preserve": "none", "fraction": 0.1, "sparsity": 0.5}
            results.append(result(seed, accuracy, **where))
    results.append(result(2, 0.9, samples="chosen", weights="pruned", preserve="none", fraction=0.1, sparsity=0.5))
    square = Square(results, 0.0, "cost", 0.1, 0.5)
    assert square.by_seed("chosen", "pruned") == pytest.approx({0: -5.0, 1: 5.0}), "the others of seed 2 are lost"
    found = square.interaction("chosen", "pruned")
    assert found is not None
    assert (found.mean, found.n) == (0.0, 2)
    assert square.interaction("random", "pruned") is None


def test_runs_are_found_by_what_varies() -> None:
    results = [result(0, 0.5, arm="a"), result(1, 0.7, arm="a"), result(0, 0.1, arm="b")]
    assert points(results, arm="a") == {0: 50.0, 1: 70.0}
    assert average(results, "test_accuracy", arm="a") == pytest.approx(0.6)


def test_who_is_beaten() -> None:
    accuracy = {"good": {0: 90.0, 1: 91.0}, "bad": {0: 80.0, 1: 81.0}, "alike": {0: 95.0, 1: 86.0}}
    assert dominated(accuracy, {"good": 1, "bad": 2, "alike": 3}) == {"good": [], "bad": ["good"], "alike": []}
    assert dominated(accuracy, {"good": 3, "bad": 2, "alike": 1})["bad"] == []


def test_the_papers_cost_goes_by_each_methods_own_options() -> None:
    shares = {
        "dense": 1.0,
        "dense-steps": 0.75,
        "redrawn": 0.1,
        "sieve": 0.1,
        "infobatch": 0.75,
        "coreset-only": 0.1,
        "coreset-only(fraction=0.5)": 0.5,
        "prune-only+preserve": 1.0,
    }
    study = CostStudy(arms=tuple(shares), fraction=0.1, epochs=40)
    told = {"kept_weights": 20, "parameters": 80, "epoch_equivalents": 30.0}
    results = [result(0, 0.5, arm=arm, **told) for arm in shares]
    assert {arm: study.cost(results, arm, "paper", 0.0) for arm in shares} == pytest.approx(
        {arm: share / 4 for arm, share in shares.items()}
    )


def test_equal_costs_have_equal_ranks() -> None:
    assert ranked([2.0, 0.1 + 0.2, 0.3, 5.0]) == (3, 1, 1, 4)
    study = CostStudy(arms=("redrawn", "coreset-only"), noise=(0.0,))
    told = {"kept_weights": 80, "parameters": 80, "epoch_equivalents": 30.0, "seconds": 1.0, "flops": 7.0}
    found = study.tables([result(seed, 0.5, arm=arm, **told) for arm in study.arms for seed in (0, 1)])
    assert [row["rank by the papers' cost"] for row in found.tables[0].rows] == [1, 1]
    assert "The order of the methods by cost takes 1 form in four currencies." in found.verdict


def test_loss_of_wrong_labels_stands_beside_random_samples_of_the_same_sparsity() -> None:
    study = parse("noise", [*TINY, *OWN["noise"]])
    assert isinstance(study, NoiseStudy)
    results = []
    for seed in (0, 1):
        for factors, recipe in study.recipes():
            assert getattr(recipe, "preserves", "none") == "none"
            gap = 3 * (factors["sparsity"] is not None) + 4 * (factors["selector"] == "moderate") + seed
            told = {"coresets": [[3, 0.1]], "losses": [[3, 1.0, 0.5, gap, 0.0]]}
            results.append(result(seed, 0.5, **factors, **told, noise=0.25))
    found = study.tables(results)
    shown = {(row["selector"], row["sparsity"]): str(row[SAME]) for row in found.tables[0].rows}
    assert shown["moderate", None] == shown["moderate", 0.5] == "**+4.00 (+4.00 to +4.00)**"
    assert shown["redrawn", 0.5] == shown[None, 0.5] == "", "the control, and what is trained longer"
    assert "chosen minus redrawn at the same sparsity: of 2 comparisons, 2 above 0" in " ".join(found.verdict)
    accuracies = {(row["selector"], row["sparsity"]): str(row["minus redrawn"]) for row in found.tables[0].rows}
    assert accuracies.pop(("redrawn", None)) == ""
    assert set(accuracies.values()) == {"+0.00 (+0.00 to +0.00)"}, "equal accuracies are a difference of 0"


def test_pruned_networks_stand_beside_all_weights_with_the_same_selector() -> None:
    """Fig. 5 is of pruned minus whole networks, not of chosen minus random samples; all samples have it too."""
    study = parse("noise", [*TINY, *OWN["noise"]])
    assert isinstance(study, NoiseStudy)
    results = []
    for seed in (0, 1):
        for factors, _ in study.recipes():
            pruned, chosen = factors["sparsity"] is not None, factors["selector"] == "moderate"
            share = 0.2 - 0.05 * (pruned and chosen) + 0.01 * seed
            told = {"coresets": [[3, share]], "losses": [[3, 1.0 - 0.25 * pruned, 0.5, 1.0 + 0.5 * pruned, 0.0]]}
            results.append(result(seed, 0.5, **factors, **told, noise=0.25))
    found = study.tables(results)
    rows = {(row["selector"], row["sparsity"]): row for row in found.tables[0].rows}
    assert str(rows["moderate", 0.5]["kept, minus all weights"]) == "**-5.00 (-5.00 to -5.00)**"
    assert str(rows["redrawn", 0.5]["kept, minus all weights"]) == "+0.00 (+0.00 to +0.00)"
    assert (
        str(rows[None, 0.5]["kept, minus all weights"]) == str(rows["moderate", None]["kept, minus all weights"]) == ""
    )
    assert {str(rows[name, 0.5]["gap, minus all weights"]) for name in (None, "redrawn", "moderate")} == {
        "**-0.25 (-0.25 to -0.25)**"
    }
    told = " ".join(found.verdict)
    assert "in the last coreset of a pruned network, minus all weights: of 1 comparison" in told
    assert "Test minus validation loss of a pruned network, minus all weights: of 3 comparisons, 0 above 0, 3" in told
    assert {str(rows[name, 0.5]["loss, minus all weights"]) for name in (None, "redrawn", "moderate")} == {
        "**+0.50 (+0.50 to +0.50)**"
    }
    assert "minus right labels of a pruned network, minus all weights: of 3 comparisons, 3 above 0" in told
    assert "redrawn" in told.partition("right labels of a pruned network")[2], "what pruning does without a choice"
    panels = found.charts[0].panels
    assert [panel.title.partition(": ")[2] or panel.title.partition(",")[0] for panel in panels[2::3]] == [
        "redrawn",
        "moderate",
    ]
    assert [len(panel.series) for panel in panels] == [2] * 8, "the same lines in all, so that one legend is enough"
    assert [series.y[-1] for series in panels[3].series] == pytest.approx([20.5, 15.5])


def test_the_verdict_on_rules_is_of_all_rules() -> None:
    study = parse("el2n-switch", [*TINY, *OWN["el2n-switch"], "--seeds", "2"])
    assert isinstance(study, TrainingStudy)
    results = [
        result(seed, 0.6 if factors["rule"] == "easy always" else 0.5, **factors, noise=0.25, noise_ratio=0.1)
        for factors, _ in study.recipes()
        for seed in (0, 1)
    ]
    verdict = " ".join(study.tables(results).verdict)
    assert "Another rule minus the switch at half-way: of 10 comparisons, 2 above 0" in verdict
    assert "easy always" in verdict


def test_what_is_equal_at_both_matches_is_run_once(tmp_path: Path) -> None:
    study = parse("preservation", [*TINY, *OWN["preservation"], "--out", str(tmp_path), "--epochs", "6"])
    assert isinstance(study, TrainingStudy)
    cells = {tuple(value for _, value in cell.factors): cell for cell in study.cells() if cell.recipe.seed == 0}
    own, paid = (cells["SWaST", "none", 0.5, match] for match in ("epochs", "cost"))
    assert own.recipe == paid.recipe
    assert own.folder == paid.folder
    assert paid.first == own
    stages = study.stages()
    assert own in stages["cells"]
    assert paid in stages["cells that follow"]
    longer = cells["random", "none", 0.5, "cost"]
    assert longer.recipe != cells["random", "none", 0.5, "epochs"].recipe
    assert longer in stages["cells"]


def test_states_of_some_samples_stand_beside_those_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, *OWN["preservation"], "--states", "complete", "half", "--seeds", "2", "--out", str(tmp_path)]
    study = parse("preservation", words)
    held = {(factors["hold"], recipe.preserve) for factors, recipe in study.recipes()}  # type: ignore[attr-defined]
    assert {("lambda 0.1", "complete"), ("lambda 0.1 half", "half"), ("none", "none")} <= held
    assert main(["study", "preservation", *words]) == 0, capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    found = {
        row["hold"]: row["minus complete_mean"]
        for row in rows
        if row["samples"] == "random" and row["match"] == "epochs"
    }
    by_hold = {
        row["hold"]: float(row["accuracy_mean"])
        for row in rows
        if row["samples"] == "random" and row["match"] == "epochs"
    }
    assert [hold for hold, value in found.items() if value] == ["lambda 0.1 half"]
    assert float(found["lambda 0.1 half"]) == pytest.approx(by_hold["lambda 0.1 half"] - by_hold["lambda 0.1"])
    assert "Preservation of some states minus that of all with the same weight" in (tmp_path / "table.md").read_text()


def test_runs_that_others_are_made_from_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """A swapped run has the recipe of the plain one and is another run."""
    for name in ("double-loss", "cross"):
        study = parse(name, [*TINY, *OWN[name], "--out", str(tmp_path)])
        assert isinstance(study, TrainingStudy)
        assert all(cell.first == cell for cell in study.cells())


def test_an_average_that_teaches_weighs_what_stored_states_weigh() -> None:
    study = parse("double-loss", [*TINY, *OWN["double-loss"]])
    taught = [recipe for factors, recipe in study.recipes() if factors["hold"] == "EMA teacher"]  # type: ignore[attr-defined]
    assert taught
    assert {(round(1 / recipe.kd_weight - 1, 6), recipe.temperature) for recipe in taught} == {(0.1, 1.0)}


def test_targets_from_scratch_have_a_rate_of_their_own() -> None:
    study = parse("cross", [*TINY, *OWN["cross"]])
    assert isinstance(study, CrossStudy)
    rates = {factors["arm"]: recipe.target_lr for factors, recipe in study.recipes() if hasattr(recipe, "target_lr")}
    assert rates["fused, labels alone"] == rates["fused, distillation"] == 0.01
    assert rates["from scratch, labels alone"] == rates["from scratch, distillation"] == 0.02
    assert rates["from scratch, preservation 0.1"] == pytest.approx(0.022)


def test_the_temperature_is_that_of_the_distillation() -> None:
    study = parse("cross", [*TINY, *OWN["cross"], "--temperature", "3"])
    assert isinstance(study, CrossStudy)
    found = {factors["arm"]: recipe.temperature for factors, recipe in study.recipes() if getattr(recipe, "kd", False)}
    assert {arm: t for arm, t in found.items() if "distillation" in arm} == {
        "fused, distillation": 3.0,
        "from scratch, distillation": 3.0,
    }
    assert {t for arm, t in found.items() if "preservation" in arm} == {1.0}


def test_masks_that_stay_tell_fusion_from_all_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, *OWN["cross"], "--out", str(tmp_path), "--pruner", "rigl(every=2)"]
    study = parse("cross", words)
    assert isinstance(study, CrossStudy)
    cells = {cell.factors[1][1]: cell for cell in study.cells() if cell.factors[0][1] == FILLS and not cell.recipe.seed}
    sparse = cells[SPARSE]
    (source,) = study.sources(sparse)
    for cell in (source, sparse):
        cell.run()
    before, after = ({name: load_file(cell.folder / f"{name}.safetensors") for name in ("masks", "model")} for cell in
                     (source, sparse))  # fmt: skip
    assert all(mask.equal(after["masks"][name]) for name, mask in before["masks"].items()), "its masks stay"
    assert any(not value.equal(after["model"][name]) for name, value in before["model"].items()), "and it is trained"
    flops = {arm: study.forecaster()(cell.recipe).flops for arm, cell in cells.items()}
    assert flops[SPARSE] == pytest.approx(flops["filled with zeros"], rel=0.3)
    assert {recipe.lr for factors, recipe in study.recipes() if factors["arm"] == SPARSE} == {study.tuning_lr}


def test_a_teacher_of_few_steps_anneals_step_by_step() -> None:
    study = parse("preservation-or-distillation", [*TINY, *OWN["preservation-or-distillation"]])
    assert isinstance(study, PreservationOrDistillationStudy)
    taught = study.arm(Way("random, taught", 0.5), 0.5, teacher_steps=3, warmup=0)
    assert isinstance(taught, Taught)
    assert taught.teaching.schedule == "one-cycle"
    assert study.arm(Way("random, taught", 0.5), 0.5, teacher_epochs=3).teaching.schedule == "cosine"  # type: ignore[attr-defined]


def test_the_targets_of_an_alignment_listen_at_the_temperature_given() -> None:
    study = parse("alignment", ["--temperature", "3"])
    assert isinstance(study, TrainingStudy)
    assert {recipe.temperature for _, recipe in study.recipes()} == {3.0}  # type: ignore[attr-defined]


def test_a_teacher_that_would_not_see_the_data_once_is_left_out() -> None:
    words = [*TINY, "--every", "2", "--fractions", "0.1", "--epochs", "4", "--shares", "0.5", "--weights", "0.1"]
    for share, there in ((0.9, True), (0.1, False)):
        study = parse("preservation-or-distillation", [*words, "--teacher-share", str(share), "--epochs", "12"])
        assert isinstance(study, PreservationOrDistillationStudy)
        target = study.forecaster()(study.student(Way("SWaST", 0.1), 0.1)).flops
        assert (study.affordable(target) >= len(study.batches)) == there
        matched = {factors["samples"] for factors, _ in study.recipes() if factors["match"] == "cost"}
        assert there or "random, taught" not in matched


def test_equal_accuracies_of_two_rules_are_a_difference_of_none() -> None:
    study = parse("el2n-switch", [*TINY, *OWN["el2n-switch"], "--seeds", "2"])
    assert isinstance(study, TrainingStudy)
    results = [
        result(seed, 0.5, **factors, noise=0.25, noise_ratio=0.1) for factors, _ in study.recipes() for seed in (0, 1)
    ]
    for row in study.tables(results).tables[0].rows:
        for name in ("switch at 50 %", "random"):
            assert str(row[f"minus {name}"]) == ("" if row["rule"] == name else "+0.00 (+0.00 to +0.00)")


def test_curves_are_means_over_runs() -> None:
    found = curve("a", [[[0, 0.1], [5, 0.3]], [[0, 0.3], [5, 0.5]]], 1, 100)
    assert found.x == [1.0, 6.0]
    assert found.y == pytest.approx([20.0, 40.0])
    assert curve("b", [[], []], 1).x == []


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("synergy", ("--seeds", "0"), "seeds is 0"),
        ("synergy", ("--fractions", "1.5"), r"fraction is 1\.5"),
        ("noise", ("--noise", "0"), "without wrong labels"),
        ("timing", ("--intervals", "5", "3"), "intervals has 3: .* at-warmup-end and literal choose before"),
        ("timing", ("--arms", "coreset"), r"arm is 'coreset'.*Did you mean"),
        ("trim", ("--selector", "moderat"), "Did you mean 'moderate'"),
        ("preservation", ("--noise", "1.5"), r"noise is 1\.5"),
        ("preservation", ("--states", "right"), "states is 'right'; it must be one of complete, selective"),
        ("preservation", ("--states", "half", "half"), "name one at least, each once"),
        ("alignment", ("--acquisitions", "entropy"), "acquisitions are entropy; add random"),
        ("alignment", ("--budgets", "0.2,0.1"), "each must be more than the one before"),
        ("alignment", ("--acquisitions", "random", "el2n"), "el2n needs targets"),
        ("proxy-ranking", ("--sparsities", "1.5"), r"sparsities is 1\.5"),
        ("proxy-ranking", ("--tops", "0"), "tops is 0"),
        ("proxy-ranking", ("--acquisitions", "el2n"), "el2n needs targets, which this study does not bring"),
        ("proxy-ranking", ("--proxies", "cn"), "Did you mean 'cnn'"),
        ("double-loss", ("--noise", "0.2"), "wrong labels differ; leave it out"),
        ("double-loss", ("--seeds", "1"), "seeds is 1"),
        ("double-loss", ("--pruner", "acdc"), "masks can be followed of rigl and set"),
        ("double-loss", ("--selectors", "random"), "stands beside the others"),
        ("preservation-or-distillation", ("--shares", "1.5"), r"shares is 1\.5"),
        ("preservation-or-distillation", ("--teacher-share", "0"), "teacher_share is 0"),
        ("cross", ("--weights", "0"), "weights is 0"),
        ("cross", ("--proxy-sparsity", "1"), "proxy_sparsity is 1"),
        ("synergy", ("--data", "few(of=digits, samples=9999)"), "samples is 9999, but digits has 1297"),
        ("synergy", ("--fraction", "0.1", "0.2"), "See sartor study synergy --help"),
    ],
)
def test_wrong_input_names_the_cure(
    name: str, words: tuple[str, ...], message: str, refused: Callable[..., str]
) -> None:
    assert re.search(message, refused(name, *words))


def test_subsets_need_no_forward_pass_of_random_samples() -> None:
    """The nulls of the interaction pay nothing for looking."""
    study = parse("synergy", [*TINY, *OWN["synergy"]])
    assert isinstance(study, TrainingStudy)
    for factors, recipe in study.recipes():
        cost = study.forecaster()(recipe)
        assert (cost.scanned == 0) == (factors["samples"] != "chosen")


def test_networks_with_another_classifier() -> None:
    import torch

    given = {"classes": 10, "input_shape": (1, 8, 8)}
    where = "sartor.studies.classifiers"
    plain = MODELS.build("cnn(width=2)", **given)
    low = MODELS.build(f"{where}:low_rank(of='cnn(width=2)', rank=3)", **given)
    assert [tuple(p.shape) for p in low.classifier.parameters()] == [(3, 16), (10, 3), (10,)]
    assert len(MODELS.build(f"{where}:low_rank(of='cnn(width=2)')", **given).classifier[0].weight) == 1
    decaying = MODELS.build(f"{where}:decayed(of='cnn(width=2)', decay=0.25)", **given)
    decaying.load_state_dict(plain.state_dict())
    inputs = torch.randn(5, 1, 8, 8)
    gradients = []
    for network in (plain.eval(), decaying.eval()):
        logits = network(inputs)
        logits.logsumexp(1).sum().backward()
        gradients.append((logits.detach(), network.classifier.weight.grad, network.conv1.weight.grad))
    (logits, head, first), (logits2, head2, first2) = gradients
    assert torch.equal(logits, logits2)
    assert torch.equal(first, first2)
    torch.testing.assert_close(head2 - head, 0.25 * plain.classifier.weight.detach())
    assert repr(decaying) != repr(MODELS.build(f"{where}:decayed(of='cnn(width=2)', decay=0.5)", **given))
    assert isinstance(MODELS.build(f"{where}:dropped(of='cnn(width=2)')", **given).classifier[0], torch.nn.Dropout)


def test_what_a_run_takes_from_another_is_charged_to_it() -> None:
    """Proxy and network together, or SWaST-cut and what follows it, cost what they are matched with."""
    study = parse("cross", [*TINY, "--every", "2", "--fraction", "0.5", "--epochs", "20", "--noise", "0"])
    assert isinstance(study, CrossStudy)
    cost = {}
    for factors, recipe in study.recipes():
        cost[tuple(factors.values())] = study.forecaster(study.model_of(factors))(recipe).flops
    for arm, source in SOURCES.items():
        cost[arm] += cost[source]
    own = cost[SELECTS, "own network", "epochs"]
    assert cost[SELECTS, "random", "total"] == pytest.approx(own, rel=0.15)
    assert cost[SELECTS, "proxy", "total"] == pytest.approx(own, rel=0.15)
    assert cost[SELECTS, "proxy", "epochs"] > 1.3 * own
    filled = [flops for (question, _, match), flops in cost.items() if (question, match) == (FILLS, "total")]
    assert len(filled) == 5
    assert max(filled) < 1.15 * min(filled)
    outcomes = {
        name: [{**dict(cell.factors), "noise": 0.0, "seed": cell.recipe.seed, "flops": 1.0} for cell in works]
        for name, works in study.stages().items()
    }
    for row in study.results(outcomes):
        assert row["flops"] == 1 + ((row["question"], row["arm"], row["match"]) in SOURCES)


def test_the_best_weight_is_that_of_held_out_samples() -> None:
    where = {"match": "epochs", "fraction": 0.1, "samples": "random"}
    results = [
        result(seed, accuracy, **{**where, "weight": weight, "validation_accuracy": held})
        for seed in (0, 1)
        for weight, accuracy, held in ((None, 0.9, 0.5), (0.1, 0.6, 0.7), (1.0, 0.8, 0.6))
    ]
    ways = [Way("random"), Way("random", 0.1), Way("random", 1.0)]
    grid = Grid(results, {"noise": 0.0, "match": "epochs", "fraction": 0.1}, 0.1)
    assert grid.best(ways) == Way("random", 0.1)


def test_random_samples_held_and_taught_stand_against_each_other_and_a_lucky_survivor_is_not_chosen() -> None:
    """What diverged in some seeds is no weight to choose, however good it was in the others."""
    accuracies = {("random", None): 0.5, ("random", 0.1): 0.6, ("random", 1.0): 0.9, ("random, taught", 0.3): 0.55}
    here = {"noise": 0.0, "match": "epochs", "fraction": 0.1}
    rows = [
        {**here, "samples": samples, "weight": weight, "seed": seed, "flops": 1.0}
        | {"test_accuracy": accuracy + 0.01 * seed, "validation_accuracy": accuracy}
        for (samples, weight), accuracy in accuracies.items()
        for seed in range(1 if weight == 1.0 else 3)
    ]
    ways = [Way(samples, weight) for samples, weight in accuracies]
    grid = Grid(rows, here, 0.1)
    assert grid.picked(ways) == {"random": Way("random", 0.1), "random, taught": Way("random, taught", 0.3)}
    found = [effect and round(effect.mean, 6) for effect in grid.contests(ways).values()]
    assert found == [5.0, 10.0, 5.0]
    assert list(grid.contests(ways[:2]).values())[::2] == [None, None]


def test_a_teacher_that_is_paid_leaves_its_student_a_share() -> None:
    for epochs in ("6", "20"):
        study = parse("preservation-or-distillation", [*TINY, "--every", "2", "--fractions", "0.1", "--epochs", epochs])
        assert isinstance(study, PreservationOrDistillationStudy)
        target = study.forecaster()(study.student(Way("SWaST", 0.1), 0.1)).flops
        for factors, recipe in study.recipes():
            cost = study.forecaster()(recipe)
            assert factors["match"] == "epochs" or cost.flops == pytest.approx(target, rel=0.1)
            if (factors["samples"], factors["match"]) == ("random, taught", "cost"):
                assert cost.flops_by_purpose["teacher"] == pytest.approx(0.5 * target, rel=0.1)
                assert "warmup" not in cost.flops_by_purpose


def test_what_cannot_be_matched_is_left_out_and_named() -> None:
    words = [*TINY, "--every", "2", "--fractions", "0.5", "--weights", "0.1", "--shares", "0.5", "--epochs", "20"]
    study = parse("preservation-or-distillation", words)
    assert isinstance(study, PreservationOrDistillationStudy)
    results = [
        result(seed, 0.5, **factors, noise=0.25, flops=1.0, validation_accuracy=0.5)
        for factors, _ in study.recipes()
        for seed in (0, 1)
        if (factors["samples"], factors["match"]) != ("random, taught", "cost")
    ]
    found = study.tables(results)
    assert found.verdict[-1] == (
        "Left out at equal cost, for no length comes within 10 % of it, or a teacher would not see all data once: "
        "random, taught, the teacher's share 0.5 (0.5 of the data, noise 0.25)."
    )
    assert sum(row["samples"] == "random, taught" for row in found.tables[0].rows) == 1


def test_networks_that_are_cut_or_filled(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from sartor.models.build import build_model

    given = {"classes": 10, "input_shape": (1, 8, 8), "seed": 3}
    whole = build_model("cnn(width=4)", **given)
    small = build_model("sartor.studies.networks:thinned(of='cnn(width=4)', sparsity=0.5)", **given)
    assert small.conv1.out_channels == 2
    assert small(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    norms = whole.conv1.weight.flatten(1).norm(dim=1)
    assert torch.equal(small.conv1.weight, whole.conv1.weight[norms.topk(2).indices.sort().values])
    trained = {name: torch.full_like(value, 7) for name, value in whole.state_dict().items()}
    mask = torch.arange(whole.conv1.weight.numel()).view_as(whole.conv1.weight) % 2 == 0
    trained["conv1.weight"] = trained["conv1.weight"] * mask
    save_file(trained, tmp_path / "model.safetensors")
    save_file({"conv1.weight": mask}, tmp_path / "masks.safetensors")
    form = f"sartor.studies.networks:refilled(of='cnn(width=4)', folder={str(tmp_path)!r}, complement={{}})"
    for complement, rest in (("zeros", torch.zeros_like(whole.conv1.weight)), ("retained", whole.conv1.weight)):
        filled = build_model(form.format(complement), **given)
        assert torch.equal(filled.conv1.weight[~mask], rest[~mask])
        assert (filled.conv1.weight[mask] == 7).all()
        assert (filled.classifier.weight == 7).all()
    with pytest.raises(ConfigError, match="Did you mean 'zeros'"):
        build_model(form.format("zeroes"), **given)


def test_what_a_timing_brings_stands_beside_what_it_brings_to_random_samples() -> None:
    study = parse("timing", ["--arms", "redrawn", "swast-cut", "--intervals", "5", "--noise", "0", "--seeds", "2"])
    assert isinstance(study, TimingStudy)
    brought = {("redrawn", "literal"): 2.0, ("swast-cut", "literal"): 5.0, ("swast-cut", "skip"): -1.0}
    results = [
        result(seed, 0.5 + 0.01 * seed + brought.get((factors["arm"], factors["timing"]), 0.0) / 100, noise=0.0)
        | {**factors, "epoch_equivalents": 1.0, "flops": 1.0}
        for factors, _ in study.recipes()
        for seed in (0, 1)
    ]
    found = study.tables(results)
    rows = {(row["match"], row["arm"], row["timing"]): row for row in found.tables[0].rows}
    beyond = {where[1:]: row["beyond what it brings to redrawn"] for where, row in rows.items() if where[0] == "cost"}
    means = {where: value.interval.mean for where, value in beyond.items() if value.interval is not None}
    assert means == {("swast-cut", "literal"): pytest.approx(3.0), ("swast-cut", "skip"): pytest.approx(-1.0)}
    assert found.verdict[3].startswith(
        "What it brings beyond what it brings to redrawn at equal cost: of 2 comparisons"
    )
    alone = replace(study, arms=("swast-cut",)).tables([row for row in results if row["arm"] == "swast-cut"])
    assert len(alone.verdict) == 2, "nothing is told of random samples that are not there"
