"""Where does PruneFuse's gain come from? Its choice, fusion and distillation, each with and without the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel
from sartor.report.statistics import mean_interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, compared
from sartor.studies.label_rounds import LabelStudy, costs, marks, verdict_on
from sartor.studies.trainings import Row, mean_of, points

LEVELS = {"labels": ("random", "chosen"), "beginning": ("fresh", "fused"), "teacher": ("none", "selector")}
"""What varies, without and with: who chooses the labels, what the target begins from, who teaches it."""
NAMES = ("choice", "fusion", "distillation")
REFERENCE = {"labels": "dense", "beginning": "fresh", "teacher": "none"}
"""Active learning by the dense network itself."""
MATCHES = ("epochs", "cost")
Corner = tuple[bool, ...]
"""Which of choice, fusion and distillation there are."""


@STUDIES.register("where-the-gain-comes-from")
@dataclass(frozen=True, kw_only=True)
class GainStudy(LabelStudy):
    """PruneFuse's choice of labels, fusion and distillation, all eight combinations, at equal epochs and equal cost."""

    QUICK: ClassVar[Mapping[str, Any]] = {"model": "cnn(width=4)", "seeds": 2, "epochs": 8}

    out: Path = Path("runs/where-the-gain-comes-from")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every combination and the reference; at equal cost all have the FLOPs of the whole of PruneFuse."""
        for match in MATCHES:
            for corner in corners():
                yield places(corner) | {"match": match}, self.at(match, self.arm(corner))
            yield REFERENCE | {"match": match}, self.at(match, self.dense())

    def arm(self, corner: Corner) -> Any:
        """Make one combination."""
        choice, fusion, kd = corner
        acquisition = self.acquisition if choice else "random"
        return self.prunefuse(acquisition=acquisition, fusion=fusion, kd=kd)

    def at(self, match: str, recipe: Any) -> Recipe:
        """Return a recipe as it is, or at the cost of the whole."""
        return recipe if match == "epochs" else self.matched(recipe, self.prunefuse())

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies and costs, then effects and interactions, and what of them is shown."""
        rows: list[dict[str, Value]] = []
        effects: list[dict[str, Value]] = []
        panels: list[Panel] = []
        verdict: list[str] = []
        for noise, match in itertools.product(self.noise, MATCHES):
            where: dict[str, Any] = {"noise": noise, "match": match}
            rows += [row_of(results, where, place) for place in [*map(places, corners()), REFERENCE]]
            cube = {corner: points(results, **where, **places(corner)) for corner in corners()}
            found = {name: mean_interval(list(contrast(cube, of).values())) for name, of in contrasts().items()}
            here: list[dict[str, Value]] = [{**where, "effect": name, "points": Effect(e)} for name, e in found.items()]
            effects += here
            title, series = f"equal {match}, noise {noise:g}", [marks("", here, "points")]
            panels.append(Panel(title, "", "effect (percentage points)", series, names=list(found), level=0.0))
            whole = paired_difference(cube[True, True, True], points(results, **where, **REFERENCE))
            said = compared("PruneFuse", "active learning by the dense network", whole)
            parts = verdict_on(here, "points", "Effects and interactions", ("effect",))
            verdict.append(f"At equal {match}, noise {noise:g}: {said} {parts}")
        runs = f"{counted(self.seeds, 'seed')}, percentage points"
        tables = [Table(f"Accuracies, {runs}", rows), Table(f"Effects and interactions, {runs}", effects)]
        return Findings(tables, verdict, [Chart("figure", panels)])


def corners() -> Iterator[Corner]:
    """Yield every combination."""
    return itertools.product((False, True), repeat=len(LEVELS))


def places(corner: Corner) -> dict[str, str]:
    """Name a combination by its levels."""
    return {name: levels[there] for (name, levels), there in zip(LEVELS.items(), corner, strict=True)}


def contrasts() -> dict[str, tuple[int, ...]]:
    """Return the effects by name: which of choice, fusion and distillation each is of."""
    sets = (of for size in (1, 2, 3) for of in itertools.combinations(range(len(NAMES)), size))
    return {" x ".join(NAMES[i] for i in of): of for of in sets}


def contrast(cube: Mapping[Corner, Mapping[int, float]], of: Collection[int]) -> dict[int, float]:
    """Return an effect by seed, in the unit of the accuracies, averaged over all settings of the others.

    Of one: with minus without. Of two: what the pair does beyond the sum of what each does. Of three: by how much that
    differs with the third.
    """
    seeds = set.intersection(*(set(found) for found in cube.values()))
    signs = {corner: math.prod(1 if corner[i] else -1 for i in of) for corner in cube}
    settings = 2 ** (len(NAMES) - len(of))
    return {
        seed: round(sum(sign * cube[corner][seed] for corner, sign in signs.items()) / settings, 9)
        for seed in sorted(seeds)
    }


def row_of(results: Sequence[Row], where: Mapping[str, Any], place: Mapping[str, str]) -> dict[str, Value]:
    """Return the row of a combination, or of the reference."""
    mine, dense = points(results, **where, **place), points(results, **where, **REFERENCE)
    return {
        **where,
        **place,
        "accuracy": mean_of(mine),
        **costs(results, **where, **place),
        "minus dense": Effect(None if place == REFERENCE else paired_difference(mine, dense)),
    }
