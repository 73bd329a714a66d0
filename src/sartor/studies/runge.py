"""SWaST's polynomial experiments: does noise make pruning hard, and do more weights make choosing samples hard?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sartor.comparison import Work
from sartor.errors import check_choice, check_range
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series
from sartor.report.statistics import Interval, mean_interval
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.polynomial_cells import CORESET, DEGREE, DEGREES, FULL, PRUNED, READINGS, Difficulty, Fits
from sartor.studies.polynomials import BASES, FUNCTIONS, fit, grid, smallest, subset_cap, without
from sartor.studies.study import GridStudy

SHOWN = (1, 7, 10, 15, 20)
"""Degrees that the table shows; the figure shows all."""


@STUDIES.register("runge")
@dataclass(frozen=True, kw_only=True)
class RungeStudy(GridStudy):
    """SWaST, Fig. 1: pruned polynomial fits with and without noisy points, and the difficulty of coresets by degree."""

    QUICK: ClassVar[Mapping[str, Any]] = {"draws": 20, "functions": ("runge",), "bases": ("monomial",)}

    out: Path = Path("runs/runge")
    """Folder of tables and figures."""
    functions: tuple[str, ...] = tuple(FUNCTIONS)
    """What is sampled: runge, sine, exponential, absolute, step."""
    bases: tuple[str, ...] = tuple(BASES)
    """Bases of the pruned fits: monomial, legendre, chebyshev."""
    draws: int = 500
    """Number of random draws of each set of points."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        super().check()
        check_range("draws", self.draws, 2, math.inf, high_open=True)
        for function in self.functions:
            check_choice("functions", function, FUNCTIONS)
        for basis in self.bases:
            check_choice("bases", basis, BASES)
        for needed, given, option in (("runge", self.functions, "functions"), ("monomial", self.bases, "bases")):
            check_choice(f"the first of {option}", given[0] if given else "", (needed,))

    def cells(self) -> list[Work]:
        """List fits and difficulties, function by function."""
        fits = [Fits(*setting, self.draws) for setting in itertools.product(self.functions, (True, False), self.bases)]
        return [*fits, *(Difficulty(f, reading, self.draws) for f in self.functions for reading in READINGS)]

    def forecast(self) -> str:
        """Say how many draws there are."""
        works = self.cells()
        return f"{len(works)} pieces of work of {self.draws} draws each, about {0.009 * self.draws:.0f} s a piece"

    def tables(self, results: Sequence[Mapping[str, Any]]) -> Findings:
        """Tell medians with quartiles, paired differences, and what follows."""
        fits, hard = ([r for r in results if key in r] for key in ("sets", "difficulty"))
        title = f"coefficients of degree {DEGREE} fits, {self.draws} draws"
        tables = [
            Table(f"Pruning {PRUNED} {title}: median error (quartiles)", [row for r in fits for row in set_rows(r)]),
            Table(f"Ten points against their five clean ones, {self.draws} draws", [against(r) for r in fits]),
            Table(f"I(D, D^): median (quartiles) by degree, {self.draws} draws", [by_degree(r) for r in hard]),
        ]
        chart = Chart("figure", [*map(example, (FULL, CORESET)), difficulties(hard[: len(READINGS)])])
        return Findings(tables, verdict(fits, hard), [chart])


def quartiles(values: Sequence[float | None]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; None counts as infinite."""
    known = np.array([math.inf if value is None else value for value in values])
    return tuple(np.quantile(known, (0.25, 0.5, 0.75), method="nearest").tolist())


def spread(values: Sequence[float | None]) -> str:
    """Write a median with its quartiles."""
    low, middle, high = quartiles(values)
    return f"{middle:.2g} ({low:.2g} to {high:.2g})"


def set_rows(found: Mapping[str, Any]) -> list[dict[str, Value]]:
    """Return a row for every set of points."""
    place: dict[str, Value] = {name: found[name] for name in ("function", "points", "basis")}
    columns = {
        "before": "error",
        "after": "pruned",
        "alike": "pruned, like magnitudes",
        "largest": "largest coefficient",
    }
    return [
        place | {"set": name} | {title: spread(values[key]) for key, title in columns.items()}
        for name, values in found["sets"].items()
    ]


def log_ratio(found: Mapping[str, Any], key: str) -> Interval:
    """Return the paired difference of log10 errors, ten points minus their five clean ones."""
    full, coreset = (np.log10(found["sets"][name][key]) for name in (FULL, CORESET))
    return mean_interval((full - coreset).tolist())


def increases(found: Mapping[str, Any], key: str) -> list[np.ndarray]:
    """Return by how much pruning raises the error, with ten points and with five."""
    sets = [found["sets"][name] for name in (FULL, CORESET)]
    return [np.array(values[key]) - values["before"] for values in sets]


def against(found: Mapping[str, Any]) -> dict[str, Value]:
    """Return in what share of draws ten points are worse off, and the paired ratio of the errors."""
    row: dict[str, Value] = {name: found[name] for name in ("function", "points", "basis")}
    sets = found["sets"]
    row["pruned error larger, %"] = 100 * share(np.array(sets[FULL]["after"]) > np.array(sets[CORESET]["after"]))
    for key, rule in (("after", ""), ("alike", " (like magnitudes)")):
        row[f"pruning costs more{rule}, %"] = 100 * share(np.greater(*increases(found, key)))
        row[f"log10 ratio{rule}"] = Effect(log_ratio(found, key))
    return row


def share(which: Any) -> float:
    """Return the share of true values."""
    return float(np.mean(which))


def by_degree(found: Mapping[str, Any]) -> dict[str, Value]:
    """Return the medians of one reading at some degrees."""
    cap = f"{subset_cap(70, 20):g}" if found["reading"] == "subset" else "none"
    row: dict[str, Value] = {"function": found["function"], "reading": found["reading"], "cap": cap}
    return row | {f"k = {k}": spread(found["difficulty"][str(k)]) for k in SHOWN}


def example(name: str) -> Panel:
    """Draw one set of points with its fit before and after pruning."""
    sample = Fits("runge", True, "monomial", 1).sets(0)[name]
    c = fit(sample.x, sample.y, DEGREE, "monomial")
    x, columns = grid("monomial", DEGREE)
    some = slice(None, None, 5)
    curves = {"function": FUNCTIONS["runge"](x), "fit": columns @ c}
    curves["pruned fit"] = columns @ without(c, smallest(c, PRUNED))
    series = [Series(label, x[some].tolist(), y[some].tolist()) for label, y in curves.items()]
    points = Series("points", sample.x.tolist(), sample.y.tolist(), line=False)
    return Panel(f"{name} (one draw)", "x", "y", [*series, points], limits=(-1.0, 2.0))


def difficulties(found: Sequence[Mapping[str, Any]]) -> Panel:
    """Draw the medians of all readings by degree, with quartiles, as far as they are finite."""
    series = []
    for result in found:
        ends = [(k, *quartiles(result["difficulty"][str(k)])) for k in DEGREES]
        kept = [values for values in ends if all(map(math.isfinite, values))]
        k, low, middle, high = (list(column) for column in zip(*kept))
        series.append(Series(result["reading"], k, middle, low, high))
    return Panel("difficulty I(D, D^), Runge", "degree", "median, quartiles", series, log=True, limits=(0.1, 1e6))


def verdict(fits: Sequence[Mapping[str, Any]], hard: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what was found with Runge's function."""
    sentences = []
    for found in (r for r in fits if r["function"] == "runge"):
        more = 100 * share(np.greater(*increases(found, "after")))
        ratio = log_ratio(found, "after")
        outcome = {"better": "larger", "worse": "smaller"}.get(ratio.outcome, "not shown to differ")
        amount = f"log10 ratio {ratio.mean:+.2f}, {ratio.low:+.2f} to {ratio.high:+.2f}"
        sets = {name: found["sets"][name] for name in (FULL, CORESET, "10 clean")}
        medians = {name: [quartiles(values[key])[1] for key in ("before", "after")] for name, values in sets.items()}
        moves = [f"{name}: {before:.2g} to {after:.2g}" for name, (before, after) in medians.items()]
        sentences.append(
            f"Points {found['points']}, {found['basis']}: pruning costs ten points, half of them noisy, more than "
            f"their five clean ones in {more:.0f} % of draws; the pruned error is {outcome} ({amount}). Medians before "
            f"and after, {'; '.join(moves)}."
        )
    for found in hard[: len(READINGS)]:
        first, last = (quartiles(found["difficulty"][str(k)])[1] for k in (DEGREES[0], DEGREES[-1]))
        top = max((v for k in DEGREES for v in found["difficulty"][str(k)] if v is not None), default=math.nan)
        cap = f"; no draw exceeds {top:.4g}, the cap is {subset_cap(70, 20):g}" if found["reading"] == "subset" else ""
        sentences.append(
            f"{READINGS[found['reading']]}: median I from {first:.2g} at degree 1 to {last:.3g} at 20{cap}."
        )
    return sentences
