"""SWaST and its controls with a teacher: who teaches, what it costs, and that nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, Stopped
from sartor.models.build import build_model
from sartor.recipes import Result, SWaST
from sartor.recipes.arms import make_arm
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.taught import Taught

BASE = SWaST(epochs=6, batch_size=32, fraction=0.2, every=2, selector="moderate", pruner="rigl(every=5)", probe=0)
SPEC = "cnn(width=2)"


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = digits()
    return Splits("few", whole.train.only(whole.train.rows[:300]), whole.test)


def fit(recipe: SWaST, splits: Splits, out: Path | None = None, **options: Any) -> Result:
    model = build_model(SPEC, classes=10, input_shape=(1, 8, 8), seed=recipe.seed)
    return recipe.fit(model, splits.train, splits.test, out=out, **options)


@pytest.mark.parametrize("arm", ["coreset-only", "swast-cut", "coreset-only(selector=random)"])
@pytest.mark.parametrize("who", [{"teacher_epochs": 2}, {"teacher_steps": 13}, {"teacher": "ema"}])
def test_the_forecast_is_the_ledger(arm: str, who: dict[str, Any], splits: Splits) -> None:
    recipe = Taught.like(make_arm(arm, BASE, n=270), **who)  # type: ignore[arg-type]
    expected = Forecaster(splits, SPEC)(recipe)
    results = fit(recipe, splits).results
    spent = {name: flops for name, flops in results["flops_by_purpose"].items() if flops}
    assert spent == pytest.approx(expected.flops_by_purpose)
    trained = sum(samples["trained"] for samples in results["samples"].values())
    assert trained == expected.trained
    taught = {"teacher_epochs": 2 * 270, "teacher_steps": 270 + 5 * 34}
    samples = sum(taught[name] for name in who.keys() & taught.keys())
    assert results["samples"].get("teacher", {"trained": 0})["trained"] == samples, "8 steps an epoch, the first of 34"
    assert results["flops_by_purpose"]["distill"] > 0


def test_labels_alone_are_the_recipe_without_a_teacher(splits: Splits) -> None:
    """A teacher that is all but not listened to leaves the network as it would have been."""
    plain = fit(BASE, splits)
    for who in ({"teacher": "ema"}, {"teacher_epochs": 1}):
        deaf = fit(Taught.like(BASE, kd_weight=1 - 1e-12, **who), splits)
        for name, value in plain.model.state_dict().items():
            torch.testing.assert_close(deaf.model.state_dict()[name], value)
    heard = fit(Taught.like(BASE, teacher="ema"), splits)
    assert not torch.equal(heard.model.classifier.weight, plain.model.classifier.weight)


@pytest.mark.parametrize("who", [{"teacher_epochs": 2}, {"teacher": "ema"}])
def test_a_stopped_run_ends_where_it_would_have(who: dict[str, Any], splits: Splits, tmp_path: Path) -> None:
    recipe = Taught.like(BASE, **who)
    whole = fit(recipe, splits, tmp_path / "whole")
    heard: list[str] = []

    def stopping() -> bool:
        return heard.count("epoch") >= 4

    with pytest.raises(Stopped):
        fit(recipe, splits, tmp_path / "parts", stopping=stopping, listener=lambda line: heard.append(line["kind"]))
    parts = fit(recipe, splits, tmp_path / "parts")
    assert parts.results["digest"] == whole.results["digest"]
    assert parts.results["flops_by_purpose"] == whole.results["flops_by_purpose"]


def test_the_teacher_is_another_draw_and_stays_as_it_was_trained(splits: Splits, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    fit(Taught.like(BASE, teacher_epochs=1), splits, tmp_path)
    first = load_file(tmp_path / "stages/01-teacher/model.safetensors")
    fit(Taught.like(BASE, teacher_epochs=1, kd_weight=0.9), splits, tmp_path / "other")
    again = load_file(tmp_path / "other/stages/01-teacher/model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first), "whatever it is listened to for"
    own = copy.deepcopy(build_model(SPEC, classes=10, input_shape=(1, 8, 8), seed=0)).state_dict()
    assert not torch.allclose(first["conv1.weight"], own["conv1.weight"], atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "densee"}, "Did you mean 'dense'"),
        ({"teacher": "ema", "teacher_epochs": 3}, "without effect without teacher dense"),
        ({"teacher": "ema", "teacher_steps": 3}, "without effect without teacher dense"),
        ({"teacher_epochs": 3, "teacher_steps": 3}, "teacher_epochs has no effect with teacher_steps"),
        ({"teacher_steps": 0}, "teacher_steps is 0"),
        ({"ema_decay": 0.9}, "without effect without teacher ema"),
        ({"kd_weight": 1.5}, r"kd_weight is 1\.5"),
        ({"temperature": 0}, "temperature is 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Taught.like(BASE, **options)
