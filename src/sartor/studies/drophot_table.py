"""The table of DropHot's grid: accuracies before and after the pruning and the tuning, paired differences by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.report.statistics import Interval, mean_interval
from sartor.studies.selector_table import against, difference, mean, spread

DIFFERENCES = ("minus_baseline", "minus_matched", "minus_random")
NEAR = 0.1
"""Share by which two costs may differ and still count as equal."""


@dataclass(frozen=True)
class GridLine:
    """One arm in one cell of the grid, over its seeds; accuracies and differences in percentage points.

    `trained`, `pruned` and `accuracy` are before the pruning, after it, and after the tuning; differences are of the
    last, to all data at equal epochs, to all data at equal cost (None of an arm whose cost is another), to a random
    coreset.
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
    flops: float


Place = tuple[str, float, float, float]
"""A cell of the grid: defects, noise, fraction, sparsity."""
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""What came of the runs of one cell of the grid, by arm and seed."""


def grid_lines(results: Iterable[Mapping[str, Any]]) -> list[GridLine]:
    """Return the lines of all cells."""
    return [line for place, arms in sorted(cells_of(results).items()) for line in lines_of_cell(place, arms)]


def cells_of(results: Iterable[Mapping[str, Any]]) -> dict[Place, Cells]:
    """Gather runs by cell and arm; the baseline, which has no fraction, stands in the cells of all of them."""
    runs = list(results)
    fractions = sorted({run["fraction"] for run in runs if run["arm"] != "baseline"}) or [1.0]
    groups: dict[Place, dict[str, dict[int, Mapping[str, Any]]]] = {}
    for run in runs:
        for fraction in fractions if run["arm"] == "baseline" else [run["fraction"]]:
            group = groups.setdefault((run["defects"], run["noise"], fraction, run["sparsity"]), {})
            group.setdefault(run["arm"], {})[run["seed"]] = run
    return {**groups}


def lines_of_cell(place: Place, arms: Cells) -> list[GridLine]:
    """Return the lines of one cell."""

    def points(name: str) -> dict[str, dict[int, float]]:
        return {arm: {seed: 100 * run[name] for seed, run in runs.items()} for arm, runs in arms.items()}

    cost = {arm: mean(run["flops"] for run in runs.values()) for arm, runs in arms.items()}
    matched = cost.get("baseline-matched", 0.0)
    final, trained, pruned = points("test_accuracy"), points("trained_accuracy"), points("pruned_accuracy")
    return [
        GridLine(
            *place,
            arm,
            mean_interval(list(trained[arm].values())),
            mean_interval(list(pruned[arm].values())),
            mean_interval(list(final[arm].values())),
            against(final, arm, "baseline"),
            against(final, arm, "baseline-matched") if abs(cost[arm] - matched) <= NEAR * matched else None,
            against(final, arm, "random"),
            cost[arm],
        )
        for arm, runs in arms.items()
    ]


def grid_markdown(lines: Sequence[GridLine]) -> str:
    """Return a table for each setting and fraction; differences that leave out 0 are in bold."""
    parts: list[str] = []
    for key in dict.fromkeys((line.defects, line.noise, line.fraction) for line in lines):
        here = [line for line in lines if (line.defects, line.noise, line.fraction) == key]
        labels = "" if key[1] == 0 else f", {100 * key[1]:g} % of the labels wrong"
        spoilt = "" if key[0] == "none" else f", defects: {key[0]}"
        parts += [
            f"### {100 * key[2]:g} % of the data{labels}{spoilt} (n = {here[0].accuracy.n})",
            "",
            "| sparsity | arm | before pruning, % | pruned | tuned | minus all data | minus all data at equal cost "
            "| minus random | FLOPs |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for line in here:
            accuracies = [spread(interval) for interval in (line.trained, line.pruned, line.accuracy)]
            minus = [difference(getattr(line, name)) for name in DIFFERENCES]
            words = [f"{line.sparsity:g}", line.arm, *accuracies, *minus, f"{line.flops:.3g}"]
            parts.append(f"| {' | '.join(words)} |")
        parts.append("")
    return "\n".join(parts)
