"""SWaST's polynomial experiments: does noise make pruning hard, and do more weights make choosing samples hard?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.comparison import Work
from sartor.errors import check_choice, check_range
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series
from sartor.studies.findings import Findings, Table
from sartor.studies.polynomial_cells import CORESET, DEGREE, DEGREES, FULL, PRUNED, READINGS, Difficulty, Fits
from sartor.studies.polynomials import BASES, FUNCTIONS, fit, grid, smallest, without
from sartor.studies.runge_table import against, by_degree, quartiles, set_rows, verdict
from sartor.studies.study import GridStudy


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
