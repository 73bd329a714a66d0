"""The table of DropHot's grid: accuracies before and after the pruning and the tuning, paired differences by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.recipes.drophot_options import NONE
from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.studies.findings import Effect, Table, Value
from sartor.studies.selector_table import against, mean

BASELINE = "baseline"
DIFFERENCES = {
    "minus_baseline": "minus all data",
    "minus_matched": "minus all data at equal cost",
    "minus_random": "minus random",
    "minus_random_matched": "minus random at equal cost",
}
"""Differences of the accuracy after the tuning, and the heads of their columns."""
ADDED = "added to minus all data by the defects"
NEAR = 0.1
"""Share by which two costs may differ and still count as equal."""


@dataclass(frozen=True)
class GridLine:
    """One arm in one cell of the grid, over its seeds; accuracies and differences in percentage points.

    `trained`, `pruned` and `accuracy` are before the pruning, after it, and after the tuning; differences are of the
    last, to all data and to a random coreset, each at equal epochs and at equal cost (None of an arm whose cost is
    another). `added_by_defects` is what the defects add to `minus_baseline`, None where they reach neither of the two.
    """

    defects: str
    noise: float
    fraction: float
    sparsity: float
    arm: str
    trained: Interval
    pruned: Interval
    accuracy: Interval
    minus_baseline: Interval | None
    minus_matched: Interval | None
    minus_random: Interval | None
    minus_random_matched: Interval | None
    added_by_defects: Interval | None
    flops: float


Place = tuple[str, float, float, float]
"""A cell of the grid: defects, noise, fraction, sparsity."""
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""What came of the runs of one cell of the grid, by arm and seed."""


def grid_lines(results: Sequence[Mapping[str, Any]]) -> list[GridLine]:
    """Return the lines of all cells."""
    cells = cells_of(results)
    return [line for place in sorted(cells) for line in lines_of_cell(place, cells[place], cell_without(cells, place))]


def cells_of(results: Sequence[Mapping[str, Any]]) -> dict[Place, Cells]:
    """Gather runs by cell and arm; the baseline, which has no fraction, stands in the cells of all of them."""
    arms = {arm: place for place, arm in enumerate(dict.fromkeys(run["arm"] for run in results))}
    runs = sorted(results, key=lambda run: arms[run["arm"]])  # in every cell the same order, whatever it lacks
    fractions = sorted({run["fraction"] for run in runs if run["arm"] != "baseline"}) or [1.0]
    groups: dict[Place, dict[str, dict[int, Mapping[str, Any]]]] = {}
    for run in runs:
        for fraction in fractions if run["arm"] == "baseline" else [run["fraction"]]:
            group = groups.setdefault((run["defects"], run["noise"], fraction, run["sparsity"]), {})
            group.setdefault(run["arm"], {})[run["seed"]] = run
    return {**groups}


def lines_of_cell(place: Place, arms: Cells, sound: Cells) -> list[GridLine]:
    """Return the lines of one cell; `sound` is the same one without defects."""
    final, trained, pruned = (
        {arm: points(runs, name) for arm, runs in arms.items()}
        for name in ("test_accuracy", "trained_accuracy", "pruned_accuracy")
    )
    cost = {arm: mean(run["flops"] for run in runs.values()) for arm, runs in arms.items()}

    def at_equal_cost(arm: str, control: str) -> Interval | None:
        near = control in cost and abs(cost[arm] - cost[control]) <= NEAR * cost[control]
        return against(final, arm, control) if near else None

    return [
        GridLine(
            *place,
            arm,
            mean_interval(list(trained[arm].values())),
            mean_interval(list(pruned[arm].values())),
            mean_interval(list(final[arm].values())),
            against(final, arm, BASELINE),
            at_equal_cost(arm, "baseline-matched"),
            against(final, arm, "random"),
            at_equal_cost(arm, "random-matched"),
            paired_difference(gains(arms, arm), gains(sound, arm)) if is_reached(arms, arm) else None,
            cost[arm],
        )
        for arm in arms
    ]


def points(runs: Mapping[int, Mapping[str, Any]], name: str) -> dict[int, float]:
    """Return an accuracy of some runs in percentage points, by seed."""
    return {seed: 100 * run[name] for seed, run in runs.items()}


def averaged(cells: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over some cells, by seed, of the seeds that all have; nothing of no cells."""
    seeds = sorted(set.intersection(*map(set, cells))) if cells else []
    return {seed: mean(cell[seed] for cell in cells) for seed in seeds}


def cell_without(cells: Mapping[Place, Cells], place: Place) -> Cells:
    """Return the same cell without defects; nothing where it was not run."""
    return cells.get((NONE, *place[1:]), {})


def gains(arms: Cells, arm: str) -> dict[int, float]:
    """Return by seed what an arm has over all data at equal epochs, after the tuning: what the report claims."""
    mine, whole = (points(arms.get(name, {}), "test_accuracy") for name in (arm, BASELINE))
    return {seed: mine[seed] - whole[seed] for seed in mine if seed in whole}


def is_reached(arms: Cells, arm: str) -> bool:
    """Tell whether the defects of a cell reach an arm or the baseline; if not, their runs are those without defects."""
    runs = [run for name in (arm, BASELINE) for run in arms.get(name, {}).values()]
    return arm != BASELINE and any(run["spoilt_by"] != NONE for run in runs)


def grid_markdown(lines: Sequence[GridLine]) -> str:
    """Return a table for each setting and fraction; differences that leave out 0 are in bold."""
    tables = []
    for key in dict.fromkeys((line.defects, line.noise, line.fraction) for line in lines):
        here = [line for line in lines if (line.defects, line.noise, line.fraction) == key]
        labels = "" if key[1] == 0 else f", {100 * key[1]:g} % of the labels wrong"
        spoilt = "" if key[0] == NONE else f", defects: {key[0]}"
        columns = DIFFERENCES | ({"added_by_defects": ADDED} if spoilt else {})
        shown = [getattr(line, name) for line in here for name in ("accuracy", *columns)]
        title = f"{100 * key[2]:g} % of the data{labels}{spoilt}{told_n(shown)}"
        tables.append(Table(title, [row_of(line, columns) for line in here]))
    return "\n".join(table.markdown() for table in tables)


def told_n(found: Iterable[Interval | None]) -> str:
    """Say in brackets of how many seeds some intervals are; nothing of none."""
    n = {interval.n for interval in found if interval is not None}
    return "" if not n else f" (n = {min(n)})" if len(n) == 1 else f" (n = {min(n)} to {max(n)})"


def row_of(line: GridLine, columns: Mapping[str, str]) -> dict[str, Value]:
    """Return a line under the heads of its columns; `columns` are the differences, by field."""
    shown: dict[str, Value] = {"sparsity": f"{line.sparsity:g}", "arm": line.arm}
    shown |= {"before pruning, %": line.trained, "pruned": line.pruned, "tuned": line.accuracy}
    shown |= {head: Effect(getattr(line, name)) for name, head in columns.items()}
    return shown | {"FLOPs": f"{line.flops:.3g}"}
