"""Figures of ways to ask for labels: accuracy over labels, and over FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sartor.report.arms import is_joint
from sartor.report.budgets import Point, budgets_of, points_of
from sartor.report.labels import label_right, tick_flops
from sartor.report.panels import View, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_over_labels(figure: Figure, view: View) -> bool:
    """Accuracy of the targets over the number of labels."""
    axes = figure.subplots()
    if not _draw(axes, view, lambda point: float(point.labelled), aside=True):
        return False
    axes.set_xlabel("labels")
    return True


def accuracy_over_flops(figure: Figure, view: View) -> bool:
    """Accuracy of the targets over the FLOPs of all selectors, choices and targets up to them."""
    axes = figure.subplots()
    if not _draw(axes, view, lambda point: point.flops or 0.0):
        return False
    tick_flops(axes)
    axes.set_xlabel("FLOPs of all selectors, choices and targets so far")
    return True


def _draw(axes: Axes, view: View, place: Callable[[Point], float], *, aside: bool = False) -> bool:
    """Draw a line for each arm, with intervals, and name it at its end; False where no target was trained.

    With `aside`, arms that stand at the same place are moved apart a little.
    """
    ends: dict[str, float] = {}
    budgets, rows = budgets_of(view.block), view.block.rows
    step = 0.006 * (budgets[-1] - budgets[0]) if aside else 0.0
    for number, row in enumerate(rows):
        style, heavy = view.styles[row.arm], is_joint(row.arm) or row.arm == view.block.baseline
        shift = step * (number - (len(rows) - 1) / 2)
        points = points_of(view.block, row)
        found = [(place(point) + shift, point.accuracy) for point in points if point.accuracy is not None]
        if not found:
            continue
        dashes = (0, (5, 2)) if style.hollow else "-"
        means = [interval.mean for _, interval in found]
        axes.plot([x for x, _ in found], means, color=style.colour, linewidth=1.8 if heavy else 1, linestyle=dashes)
        for x, interval in found:
            if interval.n > 1:
                axes.plot((x, x), (interval.low, interval.high), color=style.colour, linewidth=1.2, alpha=0.45)
            mark(axes, x, interval.mean, style, size=4)
        ends[row.arm] = means[-1]
    if not ends:
        return False
    axes.set_ylabel("test accuracy of the target (%)")
    axes.margins(0.06)
    label_right(axes, ends, view.styles)
    return True
