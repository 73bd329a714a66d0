"""What the polynomial experiments came to: medians with quartiles, paired ratios, and what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sartor.report.statistics import Interval, mean_interval
from sartor.studies.findings import Effect, Value
from sartor.studies.polynomial_cells import CORESET, DEGREES, FULL, READINGS
from sartor.studies.polynomials import subset_cap

SHOWN = (1, 7, 10, 15, 20)
"""Degrees that the table shows; the figure shows all."""


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
