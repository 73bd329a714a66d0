"""What labels bought: a point for each arm and budget, over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.report.collect import RunRecord
from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.report.table import Block, Row, identity, interval_columns

ASKING = "asking"
COMPONENTS = {
    "selector": ("selector", "sync", "prune"),
    "choosing": ("select",),
    "target": ("train", "distill", "fuse"),
}
"""Parts of a round, and the purposes of the ledger that they are made of."""


@dataclass(frozen=True, eq=False)
class Point:
    """An arm at a budget. Accuracies in percent, differences in percentage points paired by seed.

    `flops` are all up to the end of the target, `cost_paper` the selectors' so far by the paper's convention, `seconds`
    those of the round by component. `at_chance` counts the runs whose selector had learnt nothing; `chose`: whether it
    was asked for samples, for that of a last budget, or beside a random draw, is there for its target alone.
    """

    labelled: int
    n: int
    accuracy: Interval | None
    best_accuracy: Interval | None
    minus_baseline: Interval | None
    minus_random: Interval | None
    selector_accuracy: Interval | None
    at_chance: int
    chose: bool
    flops: float | None
    cost_paper: float | None
    seconds: dict[str, float]


def budgets_of(block: Block) -> list[int]:
    """Return the numbers of labels that there were in any round of any arm."""
    return sorted({line["labelled"] for row in block.rows for run in row.runs for line in run.rounds})


def targets_by_seed(runs: Iterable[RunRecord], labelled: int, name: str = "test_accuracy") -> dict[int, float]:
    """Return what is told of the target trained on so many labels, in percent, by seed."""
    found = {run.seed: line.get(name) for run in runs for line in run.targets if line["labelled"] == labelled}
    return {seed: 100 * value for seed, value in found.items() if value is not None}


def difference_at(block: Block, arm: str, other: str, labelled: int) -> Interval | None:
    """Return one arm's targets minus another's, paired by seed; None where they share none."""
    rows = block.row(arm), block.row(other)
    if rows[0] is None or rows[1] is None or rows[0] is rows[1]:
        return None
    return paired_difference(*(targets_by_seed(row.runs, labelled) for row in rows if row is not None))


def points_of(block: Block, row: Row) -> list[Point]:
    """Return an arm's points, budget by budget."""
    rounds = {line["labelled"] for run in row.runs for line in run.rounds}
    return [_point(block, row, labelled) for labelled in sorted(rounds)]


def _point(block: Block, row: Row, labelled: int) -> Point:
    rounds = [(run, line) for run in row.runs for line in run.rounds if line["labelled"] == labelled]
    told = [line["selector_accuracy"] for _, line in rounds if line.get("selector_accuracy") is not None]
    seconds = [components(run.round_seconds.get(int(line["round"]), {})) for run, line in rounds]
    return Point(
        labelled=labelled,
        n=len(rounds),
        accuracy=_interval(targets_by_seed(row.runs, labelled).values()),
        best_accuracy=_interval(targets_by_seed(row.runs, labelled, "best_test_accuracy").values()),
        minus_baseline=difference_at(block, row.arm, block.baseline, labelled),
        minus_random=difference_at(block, row.arm, block.random, labelled),
        selector_accuracy=_interval(100 * value for value in told),
        at_chance=sum(bool(line.get("at_chance")) for _, line in rounds),
        chose=any(line.get("asked") and run.flops_by_purpose.get("select") for run, line in rounds),
        flops=_mean(line["flops"] for run in row.runs for line in run.targets if line["labelled"] == labelled),
        cost_paper=_mean(run.cost_paper[str(labelled)] for run, _ in rounds if str(labelled) in run.cost_paper),
        seconds={name: _mean(each[name] for each in seconds) or 0.0 for name in COMPONENTS},
    )


def components(seconds: dict[str, float]) -> dict[str, float]:
    """Sort seconds by purpose into what chooses, the choice, and the target.

    >>> components({"sync": 2.0, "selector": 1.0, "select": 0.5})
    {'selector': 3.0, 'choosing': 0.5, 'target': 0}
    """
    return {name: sum(seconds.get(each, 0) for each in purposes) for name, purposes in COMPONENTS.items()}


def claims_of(block: Block) -> list[Interval]:
    """Return the joint arms' differences to the baseline: at every budget where labels are asked for, else one each."""
    if block.setting.kind != ASKING:
        found = [row.minus_baseline for row in block.joint_rows]
    else:
        found = [point.minus_baseline for row in block.joint_rows for point in points_of(block, row)]
    return [interval for interval in found if interval is not None]


def flat_points(block: Block, row: Row) -> list[dict[str, Any]]:
    """Return lines of results.csv, one a budget; what is named as in other lines means the same up to that budget."""
    lines = []
    for point in points_of(block, row):
        line = {**identity(row), "n": point.n, "labelled": point.labelled}
        for name in ("accuracy", "best_accuracy", "minus_baseline", "minus_random", "selector_accuracy"):
            line |= interval_columns(name, getattr(point, name))
        line |= {"at_chance": point.at_chance, "flops": point.flops, "cost_paper": point.cost_paper}
        lines.append(line | {f"seconds_{name}": value for name, value in point.seconds.items()})
    return lines


def _interval(values: Iterable[float]) -> Interval | None:
    found: Sequence[float] = list(values)
    return mean_interval(found) if found else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None
