import dataclasses
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.data.augment import Augment
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.recipes import Dense, Recipe, SWaST
from sartor.recipes.arms import ARMS, make_arm
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.setup import pick_augment
from sartor.recipes.training import TRAININGS, training_options
from sartor.schedules import one_cycle
from staged_runs import interrupted_after

QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 64, "probe": 0}
SELECTING: dict[str, Any] = {"fraction": 0.2, "every": 2, "selector": "moderate", "pruner": "rigl(every=3)"}
MIRRORED = Augment(flip=True)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def fit(recipe: Recipe, splits: Splits, **places: Any) -> sartor.recipes.Result:
    model = build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=recipe.seed)
    return recipe.fit(model, splits.train, splits.test, augment=MIRRORED, **places)


def test_strong_is_a_set_of_values_and_no_more() -> None:
    strong = TRAININGS["strong"]
    assert SWaST.strong(**QUICK) == SWaST(**strong, **QUICK)
    assert Dense.strong(lr=0.3, schedule="cosine") == Dense(**{**strong, "lr": 0.3, "schedule": "cosine"})
    assert Dense.strong() != Dense(**training_options("paper")) == Dense()
    shared = {field.name for field in dataclasses.fields(Recipe)}
    assert set(strong) <= shared - {"epochs", "seed", "noise", "holdout"}, "it says how to train, not what or how long"
    with pytest.raises(ConfigError, match="Did you mean 'strong'"):
        training_options("strng")


def test_all_arms_train_alike() -> None:
    base = SWaST.strong(**QUICK, **SELECTING, bias_lr=4.0, decay_norms=False, peak_at=0.3)
    shared = {field.name for field in dataclasses.fields(Recipe)} - {"epochs"}
    for arm in ARMS:
        recipe = make_arm(arm, base, 1000)
        assert {name: getattr(recipe, name) for name in shared} == {name: getattr(base, name) for name in shared}


@pytest.mark.parametrize("arm", ["dense", "dense-steps", "swast-cut", "coreset-only+preserve"])
def test_the_ledger_is_the_forecast_whatever_the_training(splits: Splits, arm: str) -> None:
    recipe = make_arm(arm, SWaST.strong(**QUICK, **SELECTING), 1167)
    results, cost = fit(recipe, splits).results, Forecaster(splits, "cnn(width=4)")(recipe)
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert results["steps"] == cost.steps


@pytest.mark.parametrize("timing", ["at-warmup-end", "skip"])
def test_the_learning_rate_in_the_metrics_is_the_mean_over_the_steps_of_the_epoch(splits: Splits, timing: str) -> None:
    recipe = SWaST.strong(**QUICK | {"epochs": 8}, **SELECTING | {"selection_timing": timing}, lr=0.5, peak_at=0.25)
    result = fit(recipe, splits)
    steps = result.results["steps"]
    whole = [0.5 * one_cycle(step, steps, 0.25) for step in range(steps)]
    first = 0
    for line in (line for line in result.metrics if line["kind"] == "epoch"):
        own = whole[first : first + line["steps"]]
        assert line["lr"] == pytest.approx(sum(own) / len(own) if own else whole[first])
        first += line["steps"]
    assert first == steps


def test_a_selector_is_told_the_learning_rate_of_the_step_it_stands_before(splits: Splits) -> None:
    seen, original = [], sartor.train.scan

    def watching(*arguments: Any, **options: Any) -> sartor.Scan:
        seen.append(options["lr"])
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sartor.train, "scan", watching)
        result = fit(SWaST.strong(**QUICK, **SELECTING, lr=0.5, bias_lr=8.0), splits)
    lines = [line for line in result.metrics if line["kind"] == "epoch"]
    before = [sum(line["steps"] for line in lines[:epoch]) for epoch in (1, 3)]
    assert seen == [0.5 * one_cycle(step, result.results["steps"], 0.2) for step in before]


@pytest.mark.parametrize(
    "recipe",
    [
        SWaST.strong(**QUICK, **SELECTING, bias_lr=16.0, decay_norms=False),
        Dense.strong(steps=50, batch_size=64, probe=0, bias_lr=16.0, optimizer="adamw", lr=1e-2),
    ],
    ids=lambda recipe: recipe.name,
)
def test_it_goes_on_bit_for_bit_from_the_middle_of_the_cycle(splits: Splits, tmp_path: Path, recipe: Recipe) -> None:
    expected = fit(recipe, splits, out=tmp_path / "whole").results
    for stop in (1, 7, 25):
        with interrupted_after(stop):
            fit(recipe, splits, out=tmp_path / "run", save_every=1e9)
    results = fit(recipe, splits, out=tmp_path / "run").results
    assert results["digest"] == expected["digest"]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_each_option_changes_what_is_learned(splits: Splits) -> None:
    plain = Dense(epochs=2, batch_size=128, probe=0)
    others = {
        "schedule": "one-cycle",
        "label_smoothing": 0.1,
        "augment": "auto+alternate",
        "bias_lr": 4.0,
        "decay_norms": False,
    }
    recipes = [plain, *(plain.with_options(**{name: value}) for name, value in others.items())]
    recipes.append(plain.with_options(schedule="one-cycle", peak_at=0.5))
    digests = {fit(recipe, splits).results["digest"]["weights"] for recipe in recipes}
    assert len(digests) == len(recipes)


def test_losses_that_are_watched_are_not_smoothed(splits: Splits) -> None:
    """At lr ~ 0 two networks stay equal; only the training loss, which is what falls, knows of the smoothing."""
    options = {"epochs": 1, "batch_size": 128, "probe": 100, "lr": 1e-9, "weight_decay": 0.0, "momentum": 0.0}
    plain, smoothed = (fit(Dense(**options, label_smoothing=s), splits).metrics[-1] for s in (0.0, 0.5))
    for name in ("test_loss", "validation_loss", "loss_clean"):
        assert smoothed[name] == pytest.approx(plain[name], rel=1e-4)
    assert abs(smoothed["train_loss"] - plain["train_loss"]) > 1e-2


def test_the_data_sets_own_flips_alternate_where_it_has_some() -> None:
    assert pick_augment("auto+alternate", Augment(crop=2, flip=True)) == Augment(crop=2, flip=True, alternate=True)
    assert pick_augment("auto+alternate", Augment(crop=2)) == pick_augment("auto", Augment(crop=2)) == Augment(crop=2)
    assert pick_augment("crop+alternate", Augment()) == Augment(crop=4, flip=True, alternate=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "onecycle"}, "Did you mean 'one-cycle'"),
        ({"peak_at": 0.3}, "peak_at is for schedule one-cycle"),
        ({"schedule": "one-cycle", "peak_at": 1.0}, r"peak_at is 1; it must lie in \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1; it must lie in \[0, 1\)"),
        ({"label_smoothing": 10}, r"Did you mean 0\.1\?"),
        ({"bias_lr": 0.0}, r"bias_lr is 0; it must lie in \(0, inf\)"),
        ({"decay_norms": 0}, "decay_norms is 0; it must be true or false"),
        ({"augment": "alternat"}, "Did you mean 'alternate'"),
    ],
)
def test_options_out_of_range_or_without_effect(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dense(**options)
