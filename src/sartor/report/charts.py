"""Figures of studies: panels of lines or marks with intervals, as data, as csv and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.errors import SartorError
from sartor.report.figures import STYLE
from sartor.report.panels import INK
from sartor.report.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3779d6", "#d55e00", "#009e73", "#e69f00", "#b5449b", "#56b4e9", "#858b96", "#a0764c")
"""Okabe and Ito's, as in the report: legible on white and on near-black."""
MARKERS = "oXDsP^vh"
CROWDED = 12
"""Values of a line beyond which its intervals are a band."""


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour: places, values, and the ends of their intervals where there are such.

    `line` joins the values; without it they are marks, or `bars` of width 1 that stand on 0.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    line: bool = True
    bars: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `names` stand at x = 0, 1, ...; `level` is a value to hold others against."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    log: bool = False
    names: Sequence[str] = ()
    level: float | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """Panels side by side, so many `columns` of them at most; `name` is the file's."""

    name: str
    panels: Sequence[Panel]
    columns: int = 3


def series_of(
    label: str,
    values: Sequence[tuple[float, Interval]],
    *,
    shift: float = 0.0,
    line: bool = True,
    bars: bool = False,
) -> Series:
    """Make a series of intervals; one of a single value has no ends."""
    ends = [(i.mean, i.mean) if math.isnan(i.low) else (i.low, i.high) for _, i in values]
    return Series(
        label,
        [x + shift for x, _ in values],
        [interval.mean for _, interval in values],
        [low for low, _ in ends],
        [high for _, high in ends],
        line=line,
        bars=bars,
    )


def as_csv(chart: Chart) -> str:
    """Return every value of a chart, a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("panel", "series", "x", "y", "low", "high"))
    for panel in chart.panels:
        for series in panel.series:
            low, high = (["" for _ in series.x] if ends is None else ends for ends in (series.low, series.high))
            writer.writerows((panel.title, series.label, *values) for values in zip(series.x, series.y, low, high))
    return text.getvalue()


def draw(chart: Chart, kind: str) -> bytes:
    """Draw a chart as svg or png. Raises: SartorError: when matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SartorError('figures need matplotlib; install it by pip install "sartor[report]".') from error
    style: Any = {**STYLE, "svg.hashsalt": chart.name}
    with matplotlib.rc_context(style):
        labels = {tuple(series.label for series in panel.series) for panel in chart.panels}
        shared = len(chart.panels) > 1 and len(labels) == 1 and len(chart.panels[0].series) > 1
        columns = min(chart.columns, len(chart.panels))
        rows = -(-len(chart.panels) // columns)
        width = 0.6 + 3.7 * columns
        figure = Figure(figsize=(width, 3.5 * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, axes in zip(chart.panels, places):
            _draw_panel(axes, panel)
            if len(panel.series) > 1 and not shared:
                axes.legend(frameon=False, fontsize=7)
        if shared:
            entries = places[0].get_legend_handles_labels()
            beside = max(1, min(4, int(width / (0.6 + 0.085 * max(len(label) for label in entries[1])))))
            figure.legend(*entries, loc="outside lower center", ncols=beside, frameon=False)
        for axes in places[len(chart.panels) :]:
            axes.set_visible(False)
        buffer = io.BytesIO()
        own: dict[str, Any] = {"svg": {"metadata": {"Date": None, "Creator": None}, "transparent": True}}
        figure.savefig(buffer, format=kind, **own.get(kind, {"dpi": 150, "metadata": {"Software": None}}))
    return buffer.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        few = len(series.x) <= 40
        style: dict[str, Any] = {"color": colour, "label": series.label, "linewidth": 1.4, "markersize": 4}
        if series.bars:
            axes.bar(series.x, series.y, width=0.9, color=colour, alpha=0.45, label=series.label)
        else:
            axes.plot(series.x, series.y, linestyle="-" if series.line else "", marker=marker if few else "", **style)
        if series.low is not None and series.high is not None:
            if series.line and len(series.x) > CROWDED:
                axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.12, linewidth=0)
            else:
                axes.vlines(series.x, series.low, series.high, color=colour, linewidth=1.2, alpha=0.6)
    if panel.level is not None:
        axes.axhline(panel.level, color=INK, linewidth=1)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    if panel.names:
        axes.set_xticks(range(len(panel.names)), panel.names, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(panel.names) - 0.5)
    elif all(float(x).is_integer() for series in panel.series for x in series.x):
        axes.locator_params(axis="x", integer=True)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
