"""What preservation-or-distillation found: each way to hold a training, over its weight, beside the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, average, by_seed, mean_of, points

RANDOM, CHOSEN, TAUGHT, SWAST = "random", "chosen", "random, taught", "SWaST"
KINDS = (SWAST, RANDOM, CHOSEN, TAUGHT)
MATCHES = ("epochs", "cost")


@dataclass(frozen=True)
class Way:
    """What is trained on and what holds it, by a weight: of stored states, or of the teacher's word; None for none."""

    samples: str
    weight: float | None = None

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        kind = "the teacher's share" if self.samples == TAUGHT else "lambda"
        return self.samples if self.weight is None else f"{self.samples}, {kind} {self.weight:g}"


NO_TEACHER = Way(RANDOM)


@dataclass(frozen=True)
class Grid:
    """The runs of one noise level, match and fraction."""

    results: Sequence[Row]
    where: Mapping[str, Any]
    usual: float
    """The weight of SWaST that all without a like one are held against."""

    def points(self, way: Way) -> dict[int, float]:
        """Return accuracies in percent by seed."""
        return points(self.results, **self.where, samples=way.samples, weight=way.weight)

    def minus(self, way: Way, other: Way) -> Interval | None:
        """Return the paired difference of two ways."""
        return paired_difference(self.points(way), self.points(other))

    def best(self, ways: Sequence[Way]) -> Way | None:
        """Return the way that was best on held-out samples, in the mean over seeds; of equals, the first.

        One that failed with a seed with which another did not is none to choose. None of no runs.
        """

        def held_out(way: Way) -> float:
            return average(self.results, "validation_accuracy", **self.where, samples=way.samples, weight=way.weight)

        seeds = {way: len(self.points(way)) for way in ways}
        there = [way for way in ways if 0 < seeds[way] == max(seeds.values())]
        return max(there, key=held_out) if there else None

    def contests(self, ways: Sequence[Way]) -> dict[str, Interval | None]:
        """Hold random samples with stored states against those with a teacher, and both against those with neither."""
        held = self.best([way for way in ways if way.samples == RANDOM and way.weight is not None])
        taught = self.best([way for way in ways if way.samples == TAUGHT])
        pairs = {
            "random samples held by stored states minus those taught": (held, taught),
            "random samples held by stored states minus random alone": (held, NO_TEACHER),
            "random samples taught minus random alone": (taught, NO_TEACHER),
        }
        return {
            what: None if mine is None or other is None else self.minus(mine, other)
            for what, (mine, other) in pairs.items()
        }

    def row(self, way: Way) -> dict[str, Value]:
        """Return a row of the table."""
        here = {**self.where, "samples": way.samples, "weight": way.weight}
        flops = mean_of(by_seed(self.results, lambda run: run["flops"], **here))
        alike = Way(SWAST, way.weight if way.samples == RANDOM else self.usual)
        return {
            **here,
            "accuracy": mean_of(self.points(way)),
            "FLOPs": None if flops is None else flops.mean,
            "minus random": Effect(None if way == NO_TEACHER else self.minus(way, NO_TEACHER)),
            "minus SWaST": Effect(None if way.samples == SWAST else self.minus(way, alike)),
        }

    def absent(self, ways: Sequence[Way]) -> list[str]:
        """Name the ways that have no runs here."""
        place = f"{self.where['fraction']:g} of the data, noise {self.where['noise']:g}"
        return [f"{way.name} ({place})" for way in ways if not self.points(way)]

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        return "equal {match}, {fraction:g} of the data, noise {noise:g}".format(**self.where)

    def picked(self, ways: Sequence[Way]) -> dict[str, Way]:
        """Return of each kind of samples the way that was best on held-out samples."""
        found = {samples: self.best([way for way in ways if way.samples == samples]) for samples in KINDS}
        return {samples: way for samples, way in found.items() if way is not None}


def told(grids: Sequence[Grid], ways: Sequence[Way], seeds: int) -> Findings:
    """Tell every way; hold SWaST with its best weight against each other kind of samples with its own, and so on."""
    rows: list[dict[str, Value]] = []
    best: list[dict[str, Value]] = []
    effects: dict[str, dict[str, Interval | None]] = {}
    for grid in grids:
        rows += [grid.row(way) for way in ways if grid.points(way)]
        picked = grid.picked(ways)
        for samples, way in picked.items():
            effect = grid.minus(picked[SWAST], way) if samples != SWAST and SWAST in picked else None
            row = {**grid.where, "samples": samples, "best": way.name, "accuracy": mean_of(grid.points(way))}
            best.append(row | {"SWaST minus this": Effect(effect)})
            if samples != SWAST:
                effects.setdefault(f"SWaST minus {samples}", {})[grid.name] = effect
        for what, effect in grid.contests(ways).items():
            if effect is not None:
                effects.setdefault(what, {})[grid.name] = effect
    verdict = [summed(f"With the best weights on held-out samples, {what}", found) for what, found in effects.items()]
    runs = counted(seeds, "seed")
    tables = [
        Table(f"Preservation and distillation, {runs}, percentage points", rows),
        Table(f"The weights that were best on held-out samples, {runs}", best),
    ]
    return Findings(tables, verdict, [Chart("figure", list(panels(grids, ways)))])


def panels(grids: Sequence[Grid], ways: Sequence[Way]) -> Iterator[Panel]:
    """Draw accuracy over the weight, a line for each fraction."""
    settings: dict[tuple[float, str], list[Grid]] = {}
    for grid in grids:
        settings.setdefault((grid.where["noise"], grid.where["match"]), []).append(grid)
    for ((noise, match), here), samples in itertools.product(settings.items(), (RANDOM, SWAST, TAUGHT)):
        shown = [way for way in ways if way.samples == samples or (way == NO_TEACHER and samples == TAUGHT)]
        series = []
        for number, grid in enumerate(here):
            found = [(float(place), mean_of(grid.points(way))) for place, way in enumerate(shown)]
            known = [(place, value) for place, value in found if value is not None]
            series.append(series_of(f"{grid.where['fraction']:g} of the data", known, shift=0.05 * number))
        names = ["none" if way.weight is None else f"{way.weight:g}" for way in shown]
        yield Panel(f"{samples}, equal {match}, noise {noise:g}", "weight", "test accuracy (%)", series, names=names)
