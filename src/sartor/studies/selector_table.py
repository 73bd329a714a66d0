"""The table of a study of selectors: accuracies, differences to random draws paired by seed, seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.studies.findings import Effect, Table, Value, csv_of, flat

CONTROLS = ("random", "redrawn")


@dataclass(frozen=True)
class Line:
    """One selector at one noise level and fraction, over its seeds. Accuracies and differences in percentage points.

    Seconds are means: of the network to choose by, of the choice (its passes and its arithmetic), of the training.
    """

    noise: float
    fraction: float
    selector: str
    accuracy: Interval
    minus_random: Interval | None
    minus_redrawn: Interval | None
    scorer_seconds: float
    choose_seconds: float
    train_seconds: float
    flops: float


def lines_of(cells: Iterable[Mapping[str, Any]], scorers: Mapping[tuple[float, int], Mapping[str, Any]]) -> list[Line]:
    """Gather cells by noise, fraction and selector; the best mean first.

    `scorers`: by noise and seed, the results of the network to choose by: its FLOPs are part of every choice's.
    """
    groups: dict[tuple[float, float], dict[str, dict[int, Mapping[str, Any]]]] = {}
    for cell in cells:
        group = groups.setdefault((cell["noise"], cell["fraction"]), {})
        group.setdefault(cell["selector"], {})[cell["seed"]] = cell
    lines = []
    for (noise, fraction), by_selector in sorted(groups.items()):
        points = {
            name: {seed: 100 * cell["test_accuracy"] for seed, cell in found.items()}
            for name, found in by_selector.items()
        }
        here = []
        for name, found in by_selector.items():
            looks = [scorers[noise, seed] if name not in CONTROLS else {} for seed in found]
            here.append(
                Line(
                    noise=noise,
                    fraction=fraction,
                    selector=name,
                    accuracy=mean_interval(list(points[name].values())),
                    minus_random=against(points, name, "random"),
                    minus_redrawn=against(points, name, "redrawn"),
                    scorer_seconds=mean(look.get("seconds", 0.0) for look in looks),
                    choose_seconds=mean(cell["choose_seconds"] for cell in found.values()),
                    train_seconds=mean(cell["seconds"] for cell in found.values()),
                    flops=mean(
                        cell["flops"] + cell["choose_flops"] + look.get("flops", 0.0)
                        for cell, look in zip(found.values(), looks)
                    ),
                )
            )
        lines += sorted(here, key=lambda line: -line.accuracy.mean)
    return lines


def against(points: Mapping[str, Mapping[int, float]], name: str, control: str) -> Interval | None:
    """Return the paired difference to a control; None of the control itself, or without one."""
    return None if name == control else paired_difference(points[name], points.get(control, {}))


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers."""
    kept = list(values)
    return math.fsum(kept) / len(kept)


def as_markdown(lines: Sequence[Line]) -> str:
    """Return a table for each noise level and fraction; differences that leave out 0 are in bold."""
    tables = []
    for noise, fraction in dict.fromkeys((line.noise, line.fraction) for line in lines):
        here = [line for line in lines if (line.noise, line.fraction) == (noise, fraction)]
        labels = "labels as they are" if noise == 0 else f"{100 * noise:g} % of the labels wrong"
        title = f"{100 * fraction:g} % of the data, {labels} (n = {here[0].accuracy.n})"
        tables.append(Table(title, [row_of(line) for line in here]))
    return "\n".join(table.markdown() for table in tables)


def row_of(line: Line) -> dict[str, Value]:
    """Return a line under the heads of its columns."""
    return {
        "selector": line.selector,
        "test accuracy, %": line.accuracy,
        "minus random": Effect(line.minus_random),
        "minus redrawn": Effect(line.minus_redrawn),
        "seconds: network, choice, training": (
            f"{line.scorer_seconds:.0f} + {line.choose_seconds:.1f} + {line.train_seconds:.0f}"
        ),
    }


def lines_as_csv(lines: Sequence[Any]) -> str:
    """Return all numbers of dataclasses, a row for each; intervals and differences take four columns."""
    differ = (Interval, type(None))
    return csv_of(
        [flat({name: Effect(v) if isinstance(v, differ) else v for name, v in vars(line).items()}) for line in lines]
    )
