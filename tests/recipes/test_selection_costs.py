"""A selector's own arithmetic is in the ledger, and in the forecast, to the last operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sartor.comparison import load
from sartor.recipes.dense import Dense
from sartor.recipes.forecaster import Forecaster, model_for
from sartor.recipes.swast import SWaST
from sartor.registry import SELECTORS
from sartor.types import Subset

MODEL = "cnn(width=4)"
QUICK = {"epochs": 4, "batch_size": 64, "fraction": 0.2, "every": 2, "evaluate_every": 4, "pruner": "none"}


@pytest.fixture(scope="module")
def splits():
    return load("digits", None)


@pytest.mark.parametrize(
    "selector",
    [
        "random(balanced=True)",
        "el2n",
        "moderate(balanced=True)",
        "gradmatch",
        "gradmatch(per='class-gradient')",
        "gradmatch(per=batch, batch_size=32)",
        "gradmatch(per=all)",
    ],
)
def test_the_ledger_is_the_forecast_and_holds_more_than_the_scans(splits, selector):
    recipe = SWaST(**QUICK, selector=selector)
    model = model_for(splits, MODEL)
    results = recipe.fit(model, splits.train, splits.test).results
    cost = Forecaster(splits, MODEL)(recipe)
    assert results["flops"] == pytest.approx(cost.flops, rel=1e-12)
    scans = cost.selections * cost.n * Forecaster(splits, MODEL).flops.forward
    own = getattr(SELECTORS.build(selector), "arithmetic", None)
    if own is None:
        assert cost.flops_by_purpose.get("select", 0.0) == results["flops_by_purpose"]["select"] == 0
    else:
        features = 0 if selector == "el2n" else model.classifier.in_features
        each = own(cost.n, cost.k, classes=10, features=features)
        assert results["flops_by_purpose"]["select"] == pytest.approx(scans + cost.selections * each, rel=1e-12)
        assert each > 0


def test_equal_cost_counts_it(splits):
    forecaster = Forecaster(splits, MODEL)
    recipe = SWaST(**QUICK, selector="gradmatch(per=all)")
    target = forecaster(recipe.with_options(epochs=9)).flops
    assert forecaster(forecaster.matched(recipe, target)).flops == pytest.approx(target)


@dataclass(frozen=True)
class Counting:
    """A selector of one's own, which tells its arithmetic with the subset only."""

    needs = frozenset({"targets"})

    def select(self, scan, k, *, generator):
        return Subset.of(scan.rows[:k], flops=123.0)


def test_a_selector_may_tell_its_arithmetic_with_the_subset(splits, monkeypatch):
    monkeypatch.setitem(SELECTORS._entries, "counting", Counting)
    results = SWaST(**QUICK, selector="counting").fit(model_for(splits, MODEL), splits.train, splits.test).results
    assert results["flops_by_purpose"]["select"] == 2 * 123.0


def test_a_balanced_redraw_in_a_recipe_keeps_the_classes_shares():
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(np.repeat([0, 1, 2], [60, 30, 10]))
    inputs = torch.from_numpy(rng.normal(size=(100, 4)).astype(np.float32))
    recipe = Dense(
        epochs=2, batch_size=10, sampler="redraw(balanced=True)", fraction=0.3, warmup=0, holdout=0.0, probe=0
    )
    result = recipe.fit(torch.nn.Linear(4, 3), (inputs, targets))
    assert torch.bincount(targets[result.subset.rows]).tolist() == [18, 9, 3]
