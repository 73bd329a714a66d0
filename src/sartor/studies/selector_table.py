"""The table of a study of selectors: accuracies, differences to random draws paired by seed, seconds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sartor.report.statistics import Interval, mean_interval, paired_difference

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
    parts = []
    for noise, fraction in dict.fromkeys((line.noise, line.fraction) for line in lines):
        here = [line for line in lines if (line.noise, line.fraction) == (noise, fraction)]
        labels = "labels as they are" if noise == 0 else f"{100 * noise:g} % of the labels wrong"
        parts += [
            f"### {100 * fraction:g} % of the data, {labels} (n = {here[0].accuracy.n})",
            "",
            "| selector | test accuracy, % | minus random | minus redrawn | seconds: network, choice, training |",
            "|---|---|---|---|---|",
        ]
        for line in here:
            seconds = f"{line.scorer_seconds:.0f} + {line.choose_seconds:.1f} + {line.train_seconds:.0f}"
            cells = [line.selector, spread(line.accuracy), difference(line.minus_random)]
            parts.append(f"| {' | '.join([*cells, difference(line.minus_redrawn), seconds])} |")
        parts.append("")
    return "\n".join(parts)


def spread(interval: Interval) -> str:
    """Write a mean with its 95 % interval."""
    return f"{interval.mean:.2f}" + ("" if math.isnan(interval.low) else f" ± {interval.half_width:.2f}")


def difference(interval: Interval | None) -> str:
    """Write a paired difference with the ends of its interval, bold where they leave out 0."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return f"{interval.mean:+.2f}"
    text = f"{interval.mean:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
    return text if interval.outcome == "unclear" else f"**{text}**"


def as_csv(lines: Sequence[Any]) -> str:
    """Return all numbers of dataclasses, a row for each; intervals and differences take four columns."""
    text, writer = io.StringIO(), None
    for line in lines:
        row: dict[str, Any] = {}
        for name, value in asdict(line).items():
            row |= {f"{name}_{end}": v for end, v in value.items()} if isinstance(value, dict) else {name: value}
            if value is None:
                row = {key: v for key, v in row.items() if key != name}
                row |= {f"{name}_{end}": "" for end in ("mean", "low", "high", "n")}
        if writer is None:
            writer = csv.DictWriter(text, row, lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
