"""Preservation or distillation? Random samples held by stored states, or taught by a dense network, against SWaST."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from sartor.comparison import load
from sartor.costs import training_flops
from sartor.data.loader import even_sizes
from sartor.errors import ConfigError, check_range
from sartor.recipes.arms import make_arm
from sartor.recipes.forecaster import training_size
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE, SWaST
from sartor.recipes.taught import Taught
from sartor.registry import STUDIES
from sartor.studies.findings import Findings
from sartor.studies.preservation_or_distillation_table import (
    CHOSEN,
    MATCHES,
    RANDOM,
    SWAST,
    TAUGHT,
    Grid,
    Way,
    told,
)
from sartor.studies.trainings import Row, TrainingStudy

ARMS = {RANDOM: "coreset-only(selector=random)", CHOSEN: "coreset-only", SWAST: "swast-cut"}
"""Samples redrawn at random or chosen, with all weights; and chosen samples with pruned weights."""
NEAR = 0.1
"""Share of the target by which a cost may be off; what is further off is left out of the match."""


@STUDIES.register("preservation-or-distillation")
@dataclass(frozen=True, kw_only=True)
class PreservationOrDistillationStudy(TrainingStudy):
    """Random samples with preservation or distillation against SWaST, over the weight of either and the fraction."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fractions": (0.2,),
        "weights": (0.1,),
        "shares": (0.5,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/preservation-or-distillation")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "moderate"
    """What chooses."""
    fractions: tuple[float, ...] = (0.05, 0.2)
    """Shares of the training data in a coreset."""
    weights: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Weights of the preservation loss, lambda."""
    shares: tuple[float, ...] = (0.3, 0.7)
    """Shares of the loss that are the teacher's; the labels have the rest."""
    temperature: float = 1.0
    """Temperature at which the teacher is listened to; at 1 it is what preservation is."""
    teacher_share: float = 0.5
    """Share of the FLOPs that the dense teacher's training has at equal cost; at equal epochs it has all epochs."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        check_range("teacher_share", self.teacher_share, 0, 1, low_open=True, high_open=True)
        for share in self.shares:
            check_range("shares", share, 0, 1, low_open=True)
        if not (self.weights and self.shares):
            raise ConfigError("weights and shares: name one of each at least.")
        super().check()

    def ways(self) -> list[Way]:
        """List what is compared."""
        held = [Way(samples, weight) for samples in (RANDOM, SWAST) for weight in (None, *self.weights)]
        return [*held, Way(CHOSEN), *(Way(TAUGHT, share) for share in self.shares)]

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every way, with its own epochs and, if it can be so, at the cost of SWaST held, teachers included."""
        for fraction, way in itertools.product(self.fractions, self.ways()):
            where = {"samples": way.samples, "weight": way.weight, "fraction": fraction}
            target = self.forecaster()(self.student(Way(SWAST, self.weights[0]), fraction)).flops
            yield where | {"match": "epochs"}, self.arm(way, fraction, teacher_epochs=self.epochs)
            steps = self.affordable(target)
            if way.samples == TAUGHT and steps < len(self.batches):
                continue  # a teacher that has not seen the data once has nothing to teach
            found = self.at_cost(self.arm(way, fraction, teacher_steps=steps, warmup=0), target)
            if abs(self.forecaster()(found).flops / target - 1) <= NEAR:
                yield where | {"match": "cost"}, found

    def student(self, way: Way, fraction: float) -> SWaST:
        """Make a way without its teacher."""
        held = way.weight is not None and way.samples != TAUGHT
        base = self.base(selector=self.selector, fraction=fraction)
        recipe = make_arm(ARMS[RANDOM if way.samples == TAUGHT else way.samples], base, n=10_000)
        assert isinstance(recipe, SWaST)
        return recipe.with_options(preserve="complete", preserve_weight=way.weight) if held else plain(recipe)

    def arm(self, way: Way, fraction: float, **teacher: int) -> SWaST:
        """Make a way; `teacher` are the options of one that is taught, and no others'."""
        recipe = self.student(way, fraction)
        if way.samples != TAUGHT or way.weight is None:
            return recipe
        return Taught.like(recipe, kd_weight=round(1 - way.weight, 9), temperature=self.temperature, **teacher)

    @property
    def batches(self) -> list[int]:
        """The sizes of a dense teacher's mini-batches in an epoch."""
        return even_sizes(training_size(load(self.data, self.place), self.base()), self.batch_size)

    def affordable(self, target: float) -> int:
        """Return the optimiser steps of a dense teacher that take its share of so many FLOPs; one at least."""
        each = training_flops(self.forecaster().flops, {}) * sum(self.batches) / len(self.batches)
        return max(1, round(self.teacher_share * target / each))

    def told(self, result: Result) -> dict[str, Any]:
        """Return the accuracy on held-out samples, by which weights are chosen."""
        return {"validation_accuracy": result.results["validation_accuracy"]}

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies, costs, differences to redrawn random samples and to SWaST, and the best weights."""
        settings = itertools.product(self.noise, MATCHES, self.fractions)
        grids = [self.grid(results, *setting) for setting in settings]
        found = told(grids, self.ways(), self.seeds)
        absent = [name for grid in grids for name in grid.absent(self.ways())]
        if not absent:
            return found
        reason = f"no length comes within {100 * NEAR:g} % of it, or a teacher would not see all data once"
        return replace(found, verdict=[*found.verdict, f"Left out at equal cost, for {reason}: {'; '.join(absent)}."])

    def grid(self, results: Sequence[Row], noise: float, match: str, fraction: float) -> Grid:
        """Return the runs of one setting; SWaST's usual weight is 0.1, where that is among them."""
        usual = SWaST.preserve_weight if SWaST.preserve_weight in self.weights else self.weights[0]
        return Grid(results, {"noise": noise, "match": match, "fraction": fraction}, usual)


def plain(recipe: SWaST) -> SWaST:
    """Return a recipe with nothing preserved."""
    return recipe.with_options(preserve=NONE, preserve_weight=SWaST.preserve_weight)
