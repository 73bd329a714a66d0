"""By what should channels leave an untrained network? Every criterion at equal width, at once and step by step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.recipes.fusing import IMPORTANCES
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.label_rounds import LabelStudy, costs, marks, selectors, verdict_on
from sartor.studies.trainings import Row, mean_of, points

CHANCE = "random"
WAYS = ("static", "dynamic")


@STUDIES.register("criteria")
@dataclass(frozen=True, kw_only=True)
class CriteriaStudy(LabelStudy):
    """Criteria by which channels stay in the selector, against channels at random; pruned at once or in steps."""

    QUICK: ClassVar[Mapping[str, Any]] = {"model": "cnn(width=4)", "seeds": 2, "epochs": 8, "steps": 3, "within": 4}

    out: Path = Path("runs/criteria")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    criteria: tuple[str, ...] = ()
    """Criteria to compare with random; if not given, all that prunefuse has."""
    steps: int = 5
    """Steps in which channels leave while a dynamic selector trains."""
    within: int = 10
    """Epochs within which they leave."""

    @property
    def compared(self) -> tuple[str, ...]:
        """The criteria, chance first."""
        return tuple(dict.fromkeys((CHANCE, *(self.criteria or IMPORTANCES))))

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every criterion, at once and in steps."""
        in_steps = {"static": {}, "dynamic": {"dynamic": self.steps, "dynamic_epochs": self.within}}
        for way, criterion in itertools.product(WAYS, self.compared):
            yield {"pruning": way, "criterion": criterion}, self.prunefuse(importance=criterion, **in_steps[way])

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies of selectors and targets, and differences to chance and to pruning at once."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        for noise in self.noise:
            series = []
            for number, way in enumerate(WAYS):
                wheres = ({"noise": noise, "pruning": way, "criterion": criterion} for criterion in self.compared)
                here = [row_of(results, where) for where in wheres]
                series.append(marks(way, here, "accuracy", shift=0.1 * number))
                rows += here
            panels.append(Panel(f"noise {noise:g}", "", "test accuracy (%)", series, names=self.compared))
        told = ("criterion", "pruning", "noise")
        questions = {
            "minus random": "Targets by a criterion minus those by random channels",
            "selector minus random": "Selectors by a criterion minus those of random channels",
            "minus static": "Targets by pruning in steps minus those by pruning at once",
        }
        verdict = [verdict_on(rows, column, what, told) for column, what in questions.items()]
        table = Table(f"By what channels stay, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def row_of(results: Sequence[Row], where: Mapping[str, Any]) -> dict[str, Value]:
    """Return the row of one criterion."""
    chance, static = {**where, "criterion": CHANCE}, {**where, "pruning": "static"}
    mine, learnt = points(results, **where), selectors(results, **where)
    gains = {
        "minus random": None if where == chance else paired_difference(mine, points(results, **chance)),
        "selector minus random": None if where == chance else paired_difference(learnt, selectors(results, **chance)),
        "minus static": None if where == static else paired_difference(mine, points(results, **static)),
    }
    return {
        **where,
        "selector": mean_of(learnt),
        "accuracy": mean_of(mine),
        **costs(results, **where),
        **{name: Effect(gain) for name, gain in gains.items()},
    }
