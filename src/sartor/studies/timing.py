"""When should coresets be chosen? Three readings of SWaST's timetable, at equal epochs and at equal cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from sartor.errors import ConfigError
from sartor.recipes.arms import make_arm
from sartor.recipes.recipe import Recipe
from sartor.recipes.timetable import TIMINGS, Slot
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, summed
from sartor.studies.trainings import Row, TrainingStudy, average, crossed, mean_of, points

USUAL, DEAREST, RANDOM = "at-warmup-end", "literal", "redrawn"
MINUS, BEYOND = f"minus {USUAL}", f"beyond what it brings to {RANDOM}"
COSTS = {"data epochs": "epoch_equivalents", "FLOPs": "flops"}
MATCHES = ("epochs", "cost")


@STUDIES.register("timing")
@dataclass(frozen=True, kw_only=True)
class TimingStudy(TrainingStudy):
    """Coresets from the end of the warm-up on, as Algorithm 1 prints it, or as CORDS does, at equal epochs and cost."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 12,
        "intervals": (4,),
        "noise": (0.2,),
        "arms": ("coreset-only", "swast-cut"),
    }

    out: Path = Path("runs/timing")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "moderate"
    """What chooses."""
    fraction: float = 0.1
    """Share of the training data in a coreset."""
    every: tyro.conf.Suppress[int] = 5
    intervals: tuple[int, ...] = (5, 20)
    """Epochs between two selections, R, each tried."""
    arms: tuple[str, ...] = ("redrawn", "coreset-only", "swast-cut")
    """Arms (sartor compare) that have a coreset."""

    def check(self) -> None:
        """Raise ConfigError for intervals at which two readings are the same."""
        super().check()
        for every, (one, other) in itertools.product(self.intervals, itertools.combinations(TIMINGS, 2)):
            if self.slots(every, one) == self.slots(every, other):
                raise ConfigError(
                    f"intervals has {every}: in {self.epochs} epochs with fraction {self.fraction:g}, {one} and "
                    f"{other} choose before the same epochs, so nothing is compared. Give another one, or more epochs."
                )

    def slots(self, every: int, timing: str) -> list[Slot]:
        """Return the epochs of a reading, for 10,000 samples."""
        return self.base(every=every, fraction=self.fraction, selection_timing=timing).timetable(n=10_000)

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every arm in every reading, for as many epochs, and for as many FLOPs as the literal one."""
        for arm, every, timing in itertools.product(self.arms, self.intervals, TIMINGS):
            plain = self.arm(arm, every, timing)
            target = self.forecaster()(self.arm(arm, every, DEAREST)).flops
            for match in MATCHES:
                recipe = plain if match == "epochs" else self.at_cost(plain, target)
                yield {"arm": arm, "every": every, "timing": timing, "match": match}, recipe

    def arm(self, name: str, every: int, timing: str) -> Recipe:
        """Make one arm in one reading."""
        base = self.base(every=every, selector=self.selector, fraction=self.fraction, selection_timing=timing)
        return make_arm(name, base, n=10_000)

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies, data costs, what another reading brings, and how much more than it brings to chance."""
        rows: list[dict[str, Any]] = []
        panels: list[Panel] = []
        for noise, match, every in itertools.product(self.noise, MATCHES, self.intervals):
            where: dict[str, Any] = {"noise": noise, "match": match, "every": every}
            series = []
            for number, arm in enumerate(self.arms):
                mine = [self.row(results, where | {"arm": arm}, timing) for timing in TIMINGS]
                rows += mine
                known = [(float(place), row["accuracy"]) for place, row in enumerate(mine) if row["accuracy"]]
                series.append(series_of(arm, known, shift=0.1 * (number - 1), line=False))
            title = f"equal {match}, R = {every}, noise {noise:g}"
            panels.append(Panel(title, "", "test accuracy (%)", series, names=TIMINGS))
        table = Table(f"Readings of the timetable, {counted(self.seeds, 'seed')}, percentage points", rows)
        told = ((f"Another timing {MINUS}", MINUS, self.arms), (f"What it brings {BEYOND}", BEYOND, self.chosen))
        verdict = [
            summed(f"{what} at equal {match}", effects(rows, column, match, arms))
            for what, column, arms in told
            for match in MATCHES
            if arms
        ]
        return Findings([table], verdict, [Chart("figure", panels)])

    @property
    def chosen(self) -> tuple[str, ...]:
        """The arms beside redrawn random samples; none where these are not there."""
        return tuple(arm for arm in self.arms if arm != RANDOM) if RANDOM in self.arms else ()

    def row(self, results: Sequence[Row], where: Mapping[str, Any], timing: str) -> dict[str, Any]:
        """Tell one arm in one reading."""
        mine, usual = (points(results, **where, timing=one) for one in (timing, USUAL))
        drawn = [points(results, **{**where, "arm": RANDOM}, timing=one) for one in (timing, USUAL)]
        other, beyond = timing != USUAL, timing != USUAL and where["arm"] in self.chosen
        costs = {label: average(results, name, **where, timing=timing) for label, name in COSTS.items()}
        effect = paired_difference(mine, usual) if other else None
        more = mean_of(crossed([mine, usual, *drawn])) if beyond else None
        told = {**where, "timing": timing, "accuracy": mean_of(mine), **costs}
        return {**told, MINUS: Effect(effect), BEYOND: Effect(more)}


def effects(
    rows: Sequence[Mapping[str, Any]], column: str, match: str, arms: Sequence[str]
) -> dict[str, Interval | None]:
    """Return a column of the other readings by where it is."""
    found = [row for row in rows if row["match"] == match and row["arm"] in arms and row["timing"] != USUAL]
    named = {f"{row['timing']}, {row['arm']}, R = {row['every']}, noise {row['noise']:g}": row for row in found}
    return {name: row[column].interval for name, row in named.items()}
