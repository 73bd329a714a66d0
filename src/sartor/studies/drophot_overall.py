"""DropHot's whole grid in a line for each arm: the mean over its cells, in which single cells' chances cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sartor.report.statistics import Interval, paired_difference
from sartor.studies.drophot_table import BASELINE, averaged, cells_of, points, told_n
from sartor.studies.findings import Effect, Table, Value

CONTROLS = {"random": "random", BASELINE: "all data"}
STAGES = {"trained_accuracy": "before pruning", "pruned_accuracy": "pruned", "test_accuracy": "tuned"}


def overall_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each arm has over random coresets and over all data, seed by seed on average over all cells."""
    cells = cells_of(results)
    rows: list[dict[str, Value]] = []
    for defects, noise in dict.fromkeys(place[:2] for place in sorted(cells)):
        here = [arms for place, arms in cells.items() if place[:2] == (defects, noise)]
        for arm in dict.fromkeys(arm for arms in here for arm in arms):
            row: dict[str, Value] = {"defects": defects, "noise": noise, "arm": arm}
            for control, name in CONTROLS.items():
                pairs = [(arms[arm], arms[control]) for arms in here if arm in arms and control in arms]
                row |= {
                    f"{when}, minus {name}": Effect(None if arm == control else over(pairs, stage))
                    for stage, when in STAGES.items()
                }
            rows.append(row)
    effects = [value.interval for row in rows for value in row.values() if isinstance(value, Effect)]
    return Table(f"All cells together, percentage points{told_n(effects)}", rows)


def over(pairs: Sequence[tuple[Runs, Runs]], stage: str) -> Interval | None:
    """Return by how much the first exceed the second, on average over pairs, of the seeds that all have."""
    mine, others = (averaged([points(pair[side], stage) for pair in pairs]) for side in (0, 1))
    return paired_difference(mine, others)


Runs = Mapping[int, Mapping[str, Any]]
"""Outcomes of one arm in one cell, by seed."""
