"""Studies of label rounds: each is run on a tiny grid, its costs are those forecast, its runs share what they can."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sartor.cli.main import main
from sartor.cli.study import parse
from sartor.comparison import load
from sartor.digest import digest
from sartor.errors import ConfigError
from sartor.recipes.forecaster import model_for
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.studies.criteria import CriteriaStudy
from sartor.studies.gain import REFERENCE, contrast, contrasts, corners, places
from sartor.studies.label_rounds import LabelStudy, verdict_on
from sartor.studies.limits import LimitsStudy
from sartor.studies.warm_start import WarmStart

TINY = ("--data", "few(of=digits, samples=120)", "--model", "cnn(width=4)", "--seeds", "1", "--epochs", "2")
TINY += ("--batch-size", "40", "--budgets", "0.2,0.5", "--out", "a")
OWN = {
    "where-the-gain-comes-from": (),
    "complement": ("--rates", "0.1"),
    "kd": ("--weights", "0.3", "--temperatures", "1"),
    "limits": ("--sparsities", "0.75", "--weak", "1"),
    "sync": ("--budgets", "0.1,0.2,0.3,0.4", "--lengths", "0.5"),
    "criteria": ("--epochs", "3", "--criteria", "l2", "--steps", "2", "--within", "2"),
}
LABELS = [name for name in STUDIES if issubclass(STUDIES[name], LabelStudy)]  # type: ignore[arg-type]
FILES = {"results.json", "results.csv", "table.md", "figure.csv", "figure.svg", "figure.png"}


def made(name: str, *words: str) -> LabelStudy:
    study = parse(name, [*TINY, *OWN[name], *words])
    assert isinstance(study, LabelStudy)
    return study


def test_every_study_of_label_rounds_is_here() -> None:
    assert set(LABELS) == set(OWN)


@pytest.mark.filterwarnings("ignore:the selector of round")
@pytest.mark.parametrize("name", LABELS)
def test_a_tiny_grid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", name, *TINY, *OWN[name]]
    assert main([*words, "--dry-run"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert main(words) == 0, capsys.readouterr().err
    assert {path.name for path in (tmp_path / "a").iterdir() if path.is_file()} == FILES
    study, kept = made(name), json.loads((tmp_path / "a/results.json").read_text())["cells"]
    cells = study.cells()
    firsts = {cell.first for cell in cells}
    assert len({cell.folder for cell in cells}) == len(firsts), "each distinct run has a folder of its own"
    for cell, row in zip(cells, kept, strict=True):
        assert row["flops"] == pytest.approx(study.forecaster()(cell.recipe).flops), cell.name
        assert not (cell.folder / "stages").exists(), "trainings are where runs share them"
    first = {(cell.folder / "subsets/epoch-0000.json").read_bytes() for cell in cells}
    assert len(first) == 1, "all runs of a seed begin with the same labels"
    shared = [path for path in (tmp_path / "a/shared").iterdir() if path.is_dir()]
    assert all((path / "results.json").exists() for path in shared)
    assert len(shared) < trainings(study)
    assert (tmp_path / "a/table.md").read_text().splitlines()[0].endswith(".")
    assert list(csv.DictReader((tmp_path / "a/figure.csv").open()))
    for row in csv.DictReader((tmp_path / "a/results.csv").open()):
        if row.get("accuracy_mean"):
            assert min(float(row[name]) for name in ("FLOPs", "paper's cost", "seconds")) > 0, "every cost"
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert main(words) == 0
    assert {path: path.read_bytes() for path in before} == before, "a finished study is read back"


def trainings(study: LabelStudy) -> int:
    """How many trainings all runs would be that share none."""
    forecaster = study.forecaster()
    pool = forecaster.splits.train
    count = 0
    for cell in study.cells():
        prices = cell.recipe.prices(forecaster.model, pool)  # type: ignore[attr-defined]
        agenda = cell.recipe.agenda(108)  # type: ignore[attr-defined]
        count += sum(len(cell.recipe.planned(now, prices)) for now in agenda)  # type: ignore[attr-defined]
    return count


@pytest.mark.parametrize("name", ["where-the-gain-comes-from", "sync"])
def test_equal_cost_is_equal(name: str) -> None:
    study = made(name, "--epochs", "40")
    recipes = [(factors, recipe) for factors, recipe in study.recipes() if isinstance(recipe, Recipe)]
    forecaster = study.forecaster()
    if name == "sync":
        pairs = {}
        for factors, recipe in recipes:
            pairs.setdefault((factors["rounds"], factors["length"]), []).append(forecaster(recipe).flops)
        costs = [pair for pair in pairs.values() if len(pair) == 2]
        assert len(costs) == 3
    else:
        costs = [[forecaster(recipe).flops for factors, recipe in recipes if factors["match"] == "cost"]]
        assert len(costs[0]) == 9
    assert all(max(found) < 1.03 * min(found) for found in costs)
    longer = [recipe for factors, recipe in recipes if "cost" in (factors.get("match"), factors.get("arm", "")[-4:])]
    assert all(recipe.epochs == 40 for recipe in longer if recipe.name == "prunefuse"), "selectors stay as they are"


@pytest.mark.filterwarnings("ignore:the selector of round")
def test_a_warm_start_goes_on_from_the_dense_network(tmp_path: Path) -> None:
    study = made("complement", "--out", str(tmp_path / "a"), "--rates", "0.05")
    cells = {dict(cell.factors)["beginning"]: cell for cell in study.cells()}
    for name in ("pretrained", "shrink-and-perturb"):
        assert cells[name].run()["flops"] > study.forecaster()(cells["scratch"].recipe).flops, "its training is charged"
    configs = {path: json.loads(path.read_text()) for path in (tmp_path / "a/shared").glob("*/config.json")}
    (dense,) = (path.parent for path, config in configs.items() if config["title"].startswith("dense-"))
    ended = json.loads((dense / "results.json").read_text())["digest"]["weights"]
    begun = [config["beginning"] for config in configs.values() if config["title"].startswith("target-")]
    assert len(begun) == 2
    assert begun.count(ended) == 1
    assert digest({}) not in begun


@pytest.mark.filterwarnings("ignore:the selector of round")
def test_a_warm_start_tells_of_its_selectors() -> None:
    recipe = WarmStart(epochs=2, batch_size=40, budgets="0.1,0.2,0.5", probe=0)
    splits = load("few(of=digits, samples=120)", None)
    model = model_for(splits, "cnn(width=4)", 0)
    results = recipe.fit(model, splits.train, splits.test).results
    small = recipe.selector_network(model, splits.train)
    told = [told["selector_parameters"] for told in results["rounds"] if "selector_parameters" in told]
    assert told == [sum(parameter.numel() for parameter in small.parameters())] * 3


@pytest.mark.filterwarnings("ignore:the selector of round")
@pytest.mark.parametrize("shrink", [1.0, 0.5])
def test_a_warm_start_that_nobody_teaches_has_no_last_selector(shrink: float) -> None:
    options = {"perturb": 0.1} if shrink < 1 else {}
    recipe = WarmStart(epochs=2, batch_size=40, budgets="0.1,0.2,0.5", probe=0, kd=False, shrink=shrink, **options)
    study = made("complement")
    splits = load("few(of=digits, samples=120)", None)
    results = recipe.fit(model_for(splits, "cnn(width=4)", 0), splits.train, splits.test).results
    assert [told["round"] for told in results["rounds"] if "selector_accuracy" in told] == [0, 1]
    assert results["flops_by_purpose"] == pytest.approx(study.forecaster()(recipe).flops_by_purpose)
    assert results["samples"]["selector"]["trained"] == 2 * (11 + 22)


def test_a_warm_start_needs_what_chooses() -> None:
    with pytest.raises(ConfigError, match="needs an acquisition that asks a network; random asks none"):
        WarmStart(budgets="0.1,0.3", acquisition="random")


def test_effects_of_a_sum_are_its_terms() -> None:
    """Accuracies made of known effects, seed by seed, give them back."""
    terms = {(0,): 1.0, (1,): 2.0, (2,): -3.0, (0, 1): 4.0, (0, 2): 0.5, (1, 2): -2.5, (0, 1, 2): 6.0}
    cube = {}
    for corner in corners():
        signs = [0.5 if there else -0.5 for there in corner]
        value = 50.0
        for of, size in terms.items():
            product = size
            for i in of:
                product *= signs[i]
            value += product
        cube[corner] = {0: value, 1: value + 7.0}
    found = {of: contrast(cube, of) for of in contrasts().values()}
    assert set(found) == set(terms)
    for of, size in terms.items():
        assert found[of] == pytest.approx({0: size, 1: size}), of


def test_an_interaction_is_what_the_pair_does_beyond_the_sum() -> None:
    cube = {corner: {3: 80.0 + 5 * corner[0] + 2 * corner[1] + 4 * (corner[0] and corner[1])} for corner in corners()}
    assert contrast(cube, (0, 1)) == {3: 4.0}
    assert contrast(cube, (0,)) == {3: 7.0}, "averaged over the settings of the others"
    assert contrast(cube, (2,)) == {3: 0.0}


def test_the_reference_is_none_of_the_combinations() -> None:
    assert REFERENCE not in [places(corner) for corner in corners()]


def test_selectors_are_weak_and_targets_are_not() -> None:
    study = made("limits")
    assert isinstance(study, LimitsStudy)
    lengths = {recipe.target_epochs for _, recipe in study.recipes()}  # type: ignore[attr-defined]
    assert lengths == {2}
    assert study.kinds() == [(0.75, 2), (0.5, 1)]
    assert {recipe.epochs for _, recipe in study.recipes()} == {1, 2}


def test_what_no_selector_helps_has_no_sparsity() -> None:
    study = made("limits", "--sparsity", "0.7")
    assert study.unaided(acquisition="random").sparsity == PruneFuse.sparsity
    assert study.unaided().sparsity == study.prunefuse(acquisition="random").sparsity == 0.7
    assert study.prunefuse(sparsity=0.9).sparsity == 0.9


@pytest.mark.parametrize("name", [name for name in LABELS if name != "kd"])
def test_the_temperature_is_that_of_all_who_are_taught(name: str) -> None:
    taught = [recipe for _, recipe in made(name, "--temperature", "2").recipes() if getattr(recipe, "kd", False)]
    assert taught
    assert {recipe.temperature for recipe in taught} == {2.0}


def test_which_runs_draw_their_mini_batches_alike() -> None:
    study = made("limits")
    alike = {
        arm.target_training(54).seed for arm in (study.prunefuse(), study.unaided(), study.prunefuse(sparsity=0.9))
    }
    assert len(alike) == 1
    assert study.dense().training("dense-round-1").seed not in alike
    words = " ".join(str(LabelStudy.__doc__).split())
    assert "those of PruneFuse draw their mini-batches alike as well, the dense reference draws its own" in words


def test_criteria_are_all_that_there_are() -> None:
    study = CriteriaStudy(seeds=3)
    assert sorted(study.compared) == ["grasp", "group-norm", "l2", "lamp", "random", "snip", "synflow"]
    assert len(study.cells()) == 2 * 7 * 3
    assert study.compared[0] == "random"
    assert CriteriaStudy(criteria=("l2",)).compared == ("random", "l2")


def test_its_own_average_alone_teaches_nothing() -> None:
    study = parse("kd", ["--weights", "0", "0.5"])
    assert isinstance(study, LabelStudy)
    settings = [(factors["teacher"], factors["lambda"]) for factors, _ in study.recipes()]
    assert ("selector", 0.0) in settings
    assert ("ema", 0.5) in settings
    assert ("ema", 0.0) not in settings


def test_a_verdict_names_no_row_without_a_difference() -> None:
    assert verdict_on([{"minus": None, "arm": "a"}], "minus", "A minus b", ("arm",)) == (
        "A minus b: nothing is shown, for that takes two seeds or more."
    )


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("sync", ("--budgets", "0.02,0.1,0.3"), "give four or more"),
        ("sync", ("--lengths", "0"), "lengths is 0"),
        ("complement", ("--rates", "0.1", "0.1"), "each once"),
        ("complement", ("--rates", "-1"), "rates is -1"),
        ("complement", ("--no-kd", "--temperature", "2"), "temperature has no effect without kd"),
        ("complement", ("--budgets", "0.3"), "a warm start needs a round before"),
        ("kd", ("--temperatures", "0"), "temperature is 0"),
        ("limits", ("--sparsities", "1"), "sparsity is 1"),
        ("criteria", ("--criteria", "l1"), "importance is 'l1'"),
        ("criteria", ("--within", "3"), "dynamic is 5"),
        ("where-the-gain-comes-from", ("--budgets", "0.3,0.1"), "must be more than the one before"),
        ("where-the-gain-comes-from", ("--acquisition", "el2n"), "choose an acquisition that needs no labels"),
    ],
)
def test_wrong_input_names_the_cure(
    name: str, words: tuple[str, ...], message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(name, *words)
