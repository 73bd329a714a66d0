"""Forecasts of recipes on one data set and network, which is counted and timed once for all of them."""

from __future__ import annotations

from torch import nn

from sartor.costs import Flops, count_flops
from sartor.data.formats import Splits
from sartor.models.build import build_model
from sartor.models.shapes import shape_of
from sartor.prune.masks import Counts
from sartor.ranking import size_of
from sartor.recipes.by_proxy import ByProxy
from sartor.recipes.drophot_options import DropHotOptions
from sartor.recipes.forecast import (
    Choosing,
    Forecast,
    forecast,
    mask_counts,
    match_cost,
    nearest_length,
    seconds_per_sample,
    selector_arithmetic,
)
from sartor.recipes.forecast_by_proxy import forecast_by_proxy
from sartor.recipes.forecast_drophot import CountedOnce, forecast_drophot
from sartor.recipes.forecast_rounds import Networks, forecast_rounds
from sartor.recipes.recipe import Recipe
from sartor.recipes.rounds import Rounds
from sartor.recipes.setup import check_fit, prepare_data


def training_size(splits: Splits, recipe: Recipe) -> int:
    """Return the size of the training pool after the hold-out."""
    return len(splits.train) - size_of(recipe.holdout, len(splits.train))


def model_for(splits: Splits, spec: str, seed: int = 0) -> nn.Module:
    """Make the network that `spec` names for a data set's classes and input shape."""
    train = splits.train
    return build_model(spec, classes=train.classes or 0, input_shape=shape_of(train.inputs), seed=seed)


class Forecaster:
    """Forecasts recipes on one data set and model; the network is counted once, masks once per pruner."""

    def __init__(self, splits: Splits, model: str) -> None:
        self.splits = splits
        train = splits.train
        self.model = model_for(splits, model)
        check_fit(self.model, train, train.classes or 0)
        self.flops: Flops = count_flops(self.model, train.gather(train.rows[:1]))
        self._counts: dict[str, Counts] = {}
        self._drophot = CountedOnce(self.model, train)

    def counts(self, recipe: Recipe) -> Counts:
        """Return how many weights the recipe's masks keep."""
        key = repr(recipe.make_pruner())
        if key not in self._counts:
            train, test = self.splits.train, self.splits.test
            self._counts[key] = mask_counts(recipe, self.model, lambda: prepare_data(recipe, train, test).train)
        return self._counts[key]

    def choosing(self, recipe: Recipe) -> Choosing:
        """Return how to count the selector's own arithmetic."""
        return selector_arithmetic(recipe, self.model, self.splits.train)

    def networks(self, recipe: Rounds) -> Networks:
        """Count the networks of a recipe that asks for labels."""
        return Networks.of(recipe, self.model, self.splits.train)

    def __call__(self, recipe: Recipe) -> Forecast:
        """Forecast a recipe."""
        n = training_size(self.splits, recipe)
        held = len(self.splits.train) - n
        if isinstance(recipe, Rounds):
            return forecast_rounds(recipe, self.networks(recipe), n, held)
        if isinstance(recipe, ByProxy):
            return forecast_by_proxy(recipe, self.model, self.splits.train, n, held)
        if isinstance(recipe, DropHotOptions):
            return forecast_drophot(recipe, n, held, self._drophot)
        parameters = sum(p.numel() for p in self.model.parameters())
        return forecast(
            recipe,
            n,
            self.flops,
            self.counts(recipe),
            choosing=self.choosing(recipe),
            parameters=parameters,
            held=held,
        )

    def matched(self, recipe: Recipe, target: float) -> Recipe:
        """Return the recipe with the length that brings it nearest to `target` FLOPs."""
        n = training_size(self.splits, recipe)
        held = len(self.splits.train) - n
        if isinstance(recipe, Rounds):
            networks = self.networks(recipe)
            return nearest_length(recipe, lambda other: forecast_rounds(other, networks, n, held).flops, target)
        choosing = self.choosing(recipe)
        return match_cost(recipe, n, self.flops, self.counts(recipe), target, choosing=choosing, held=held)

    def seconds_per_sample(self, recipe: Recipe) -> float:
        """Time a few training batches of the recipe on the CPU; return seconds a sample."""
        return seconds_per_sample(recipe, self.model, self.splits.train)
