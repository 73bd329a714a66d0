"""The figures of DropHot's grid: before and after the pruning, and the training curves through its phases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import mean_interval
from sartor.studies.drophot_table import DIFFERENCES, GridLine, cells_of

CONTROLS = {
    "minus_random": "minus a random coreset",
    "minus_random_matched": "minus a random coreset at equal cost",
    "minus_matched": "minus all data at equal cost",
    "minus_baseline": "minus all data",
}
"""What differences are called; the figure shows the first that the grid has."""
assert set(CONTROLS) == set(DIFFERENCES)


def settings_of(places: Iterable[tuple[str, float]]) -> Iterator[tuple[str, tuple[str, float]]]:
    """Yield defects and noise levels, each once, with the ending of the files that show them."""
    for defects, noise in dict.fromkeys(places):
        spoilt = "" if defects == "none" else f"-{defects.replace(',', '-')}"
        yield spoilt + ("" if noise == 0 else f"-noise-{noise:g}"), (defects, noise)


def pruning_charts(lines: Sequence[GridLine]) -> Iterator[Chart]:
    """Draw accuracies right after the pruning and after the tuning, and what of it a control has not."""
    shown = next((name for name in CONTROLS if any(getattr(line, name) for line in lines)), None)
    for ending, setting in settings_of((line.defects, line.noise) for line in lines):
        here = [line for line in lines if (line.defects, line.noise) == setting]
        panels: list[Panel] = []
        for fraction, some in groupby(here, key=lambda line: line.fraction):
            panels += panels_of(f"{100 * fraction:g} % of the data", list(some), shown)
        yield Chart(f"pruning{ending}", panels, columns=2 if shown is None else 3)


def panels_of(share: str, lines: Sequence[GridLine], shown: str | None) -> Iterator[Panel]:
    """Draw one fraction: an arm a colour, the sparsity across."""
    arms = list(dict.fromkeys(line.arm for line in lines))
    x, y = "share of the weights pruned", "test accuracy (%)"
    after: list[Series] = []
    tuned: list[Series] = []
    differences: list[Series] = []
    for number, arm in enumerate(arms):
        mine, shift = [line for line in lines if line.arm == arm], 0.012 * (number - (len(arms) - 1) / 2)
        before = [] if mine[0].sparsity == 0 else [(0.0, mine[0].trained)]
        after.append(series_of(arm, [*before, *((line.sparsity, line.pruned) for line in mine)], shift=shift))
        tuned.append(series_of(arm, [(line.sparsity, line.accuracy) for line in mine], shift=shift))
        known = [] if shown is None else [(line.sparsity, getattr(line, shown)) for line in mine]
        differences.append(series_of(arm, [(place, value) for place, value in known if value], shift=shift))
    yield Panel(f"{share}: right after pruning", x, y, after)
    yield Panel(f"{share}: tuned", x, y, tuned)
    if shown is not None:
        yield Panel(f"{share}: tuned, {CONTROLS[shown]}", x, "percentage points", differences, level=0.0)


def curve_charts(results: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    """Draw test accuracies epoch by epoch through training, pruning and tuning, at three sparsities at most."""
    groups = cells_of(results)
    sparsities = sorted({sparsity for *_, sparsity in groups})
    shown = sorted({sparsities[0], sparsities[len(sparsities) // 2], sparsities[-1]})
    for ending, setting in settings_of((defects, noise) for defects, noise, *_ in groups):
        panels = []
        for (defects, noise, fraction, sparsity), arms in sorted(groups.items(), key=lambda item: item[0]):
            if (defects, noise) == setting and sparsity in shown:
                title = f"{100 * fraction:g} % of the data, {sparsity:g} pruned"
                series = [curve(arm, list(runs.values())) for arm, runs in arms.items()]
                panels.append(Panel(title, "epochs before and after the pruning (0)", "test accuracy (%)", series))
        yield Chart(f"curves{ending}", panels, columns=len(shown))


def curve(arm: str, runs: Sequence[Mapping[str, Any]]) -> Series:
    """Average the runs of an arm: the training, which ends at -1, the network right after the pruning, the tuning."""
    values: dict[float, list[float]] = {}
    for run in runs:
        trained, tuned = run["curves"]["train"], run["curves"]["tune"]
        places = range(-len(trained), len(tuned) + 1)
        for place, accuracy in zip(places, [*trained, run["pruned_accuracy"], *tuned]):
            if accuracy is not None:
                values.setdefault(float(place), []).append(100 * accuracy)
    return series_of(arm, [(place, mean_interval(found)) for place, found in sorted(values.items())])
