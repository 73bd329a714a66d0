"""Presets are the papers' numbers: each makes its recipe, and what it comes to stays as it was written down."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from sartor.cli.options import as_flags
from sartor.costs import count_flops
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.ranking import size_of
from sartor.recipes.forecast import forecast, mask_counts
from sartor.recipes.presets import PRESETS
from sartor.recipes.recipe import Recipe
from sartor.registry import DATASETS, MODELS, RECIPES

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "presets.txt"
SHAPES = {
    "cifar10": (50_000, 10, (3, 32, 32)),
    "cifar100": (50_000, 100, (3, 32, 32)),
    "tinyimagenet": (100_000, 200, (3, 64, 64)),
    "imagenet": (1_281_167, 1000, (3, 224, 224)),
}
"""Training samples, classes and shape of each data set."""


def recipe_of(name: str) -> Recipe:
    preset = PRESETS[name]
    return RECIPES[preset.recipe](**preset.options)


def training_size(name: str) -> int:
    samples = SHAPES[PRESETS[name].data][0]
    return samples - size_of(recipe_of(name).holdout, samples)


def resolved() -> list[str]:
    """Each preset as a command, and what its timetable comes to."""
    lines = []
    for name, preset in PRESETS.items():
        recipe, n = recipe_of(name), training_size(name)
        slots = recipe.timetable(n)
        steps = sum(slot.steps(recipe.batch_size) for slot in slots)
        warmup = next(epoch for epoch, slot in enumerate(slots) if slot.draws)
        lines += [
            f"{name}: sartor train {preset.recipe} {shlex.join(as_flags(preset.values))}",
            f"{name}: n {n}, k {slots[-1].size}, warm-up {warmup}, "
            f"selections {sum(slot.draws for slot in slots)}, steps {steps}",
        ]
    return lines


def test_what_presets_come_to_stays_as_it_was() -> None:
    found, kept = resolved(), GOLDEN.read_text(encoding="utf-8").splitlines()
    assert found == kept, "if this is meant, run: python tests/recipes/test_presets.py > tests/golden/presets.txt"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_its_recipe_and_names_what_there_is(name: str) -> None:
    preset = PRESETS[name]
    recipe = recipe_of(name)
    assert {option: getattr(recipe, option) for option in preset.options} == dict(preset.options)
    assert name.startswith(f"{preset.recipe}/")
    assert preset.data in DATASETS
    assert preset.model in MODELS
    assert preset.source.startswith("Wan et al. 2025")


def test_numbers_that_the_papers_print() -> None:
    """SWaST, appendix: epochs, batch sizes, R and T_w by data set."""
    for name, preset in PRESETS.items():
        recipe = recipe_of(name)
        expected = {"imagenet": (90, 512, 5), "tinyimagenet": (300, 256, 20)}.get(preset.data, (300, 128, 20))
        assert (recipe.epochs, recipe.batch_size, recipe.every) == expected
        assert (recipe.lr, recipe.momentum, recipe.weight_decay, recipe.schedule) == (0.05, 0.9, 5e-4, "cosine")
        assert (recipe.preserve_weight, recipe.classifier_sparsity) == (0.1, 0.9)
        warmup = next(epoch for epoch, slot in enumerate(recipe.timetable(training_size(name))) if slot.draws)
        assert warmup == {0.1: {300: 15, 90: 5}, 0.01: {300: 2}}[recipe.fraction][recipe.epochs]


@functools.lru_cache(maxsize=1)
def network(model: str, classes: int, shape: tuple[int, ...]) -> nn.Module:
    return build_model(model, classes=classes, input_shape=shape, seed=0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if PRESETS[name].model == "resnet18" else pytest.mark.slow)
        for name in sorted(PRESETS, key=lambda name: (PRESETS[name].model, PRESETS[name].data))
    ],
)
def test_what_a_preset_costs_can_be_foreseen(name: str) -> None:
    preset, recipe, n = PRESETS[name], recipe_of(name), training_size(name)
    _, classes, shape = SHAPES[preset.data]
    model = network(preset.model, classes, shape)
    flops = count_flops(model, torch.zeros(1, *shape))
    counts = mask_counts(recipe, model)
    parameters = sum(p.numel() for p in model.parameters())
    cost = forecast(recipe, n, flops, counts, parameters=parameters)
    sparsity = 0.7 if recipe.sparsity is None else recipe.sparsity
    assert cost.kept_weights / parameters == pytest.approx(1 - sparsity, abs=0.02)
    assert counts.densities()["classifier.weight"] == pytest.approx(0.1, abs=0.001)
    assert set(cost.flops_by_purpose) == {"warmup", "select", "train"}
    full = 3 * flops.forward * n * recipe.epochs
    assert 0.01 < cost.flops / full < 0.2, "a fraction of dense training on all data"


def test_an_unknown_preset_and_one_of_another_recipe_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no preset called 'swast/cifar10-resnt18'.*Did you mean 'swast/cifar10-resne"
    ):
        PRESETS.values("swast/cifar10-resnt18")
    with pytest.raises(ConfigError, match="is for swast, not for dense; there are none for dense"):
        PRESETS.values("swast/cifar10-resnet18", "dense")
    assert "swast/cifar10-resnet17" not in PRESETS
    values = PRESETS.values("swast/cifar10-resnet18", "swast")
    assert values["data"] == "cifar10"
    values["data"] = "mnist"
    assert PRESETS["swast/cifar10-resnet18"].data == "cifar10", "a copy is given"


def test_the_documentation_has_the_same_table() -> None:
    page = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines() if "| `swast/" in line]
    assert [row[0] for row in rows] == list(PRESETS)
    usual = dataclasses.asdict(recipe_of("swast/cifar10-resnet18"))
    for name, where, data, model, numbers, selector, others in rows:
        preset, recipe = PRESETS[name], recipe_of(name)
        assert (where, data, model) == (preset.source.partition(", ")[2], preset.data, preset.model)
        assert numbers == f"{recipe.epochs}, {recipe.batch_size}, {recipe.every}"
        assert selector == recipe.selector
        differing = {k: v for k, v in dataclasses.asdict(recipe).items() if v != usual[k]}
        told = differing.keys() - {"epochs", "batch_size", "every", "selector"}
        assert dict(re.findall(r"(\w+)=(\S+)", others)) == {option: str(differing[option]) for option in told}


if __name__ == "__main__":
    print("\n".join(resolved()))
