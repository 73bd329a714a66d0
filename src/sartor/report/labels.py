"""Names written beside what they name, without covering one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sartor.report.arms import ArmStyle
from sartor.report.wording import flops, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = 7.5


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart until neighbours are `gap` apart, as little as possible and within [low, high].

    Where they can't all fit, they are spaced evenly from low to high.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved = [0.0] * len(places)
    floor = low
    for i in order:
        moved[i] = max(floor, min(places[i], high))
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def label_right(axes: Axes, ends: Mapping[str, float], styles: Mapping[str, ArmStyle]) -> None:
    """Write each arm's name at the right of the axes, joined to its last value; call it when the limits are set."""
    bottom, top = axes.get_ylim()
    shares = [min(max((value - bottom) / (top - bottom), 0.0), 1.0) for value in ends.values()]
    axes.set_xlim(right=axes.get_xlim()[1])
    for arm, share, place in zip(ends, shares, spread(shares, 0.062, 0.0, 1.0)):
        colour = styles[arm].colour
        bend = ((1.0, 1.015, 1.045), (share, share, place))
        axes.plot(*bend, color=colour, linewidth=0.9, transform=axes.transAxes, clip_on=False)
        axes.text(1.055, place, short(arm), fontsize=_SIZE, va="center", transform=axes.transAxes)


def label_points(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write a name right of each point, or in the nearest free place above or below that; points count as taken.

    A name for which the figure has no room at the right stands at the left.
    """
    figure.draw_without_rendering()
    height, scale, gap, edge = 10.0, 72 / figure.dpi, 12.0, 72 * figure.get_figwidth()
    places = [tuple(float(place) * scale for place in axes.transData.transform(point[1:])) for point in points]
    taken = [(left - gap / 2, middle, gap) for left, middle in places]
    for (name, x, y), (left, middle) in sorted(zip(points, places), key=lambda pair: -pair[1][1]):
        width = 0.66 * _SIZE * len(name)
        steps = [0.0, *(sign * step * height / 4 for step in range(1, 80) for sign in (1, -1))]
        aside = gap if left + gap + width <= edge else -gap - width
        shift = next(s for s in steps if all(_apart(left + aside, middle + s, width, height, other) for other in taken))
        taken.append((left + aside, middle + shift, width))
        label = axes.annotate(
            name, (x, y), xytext=(aside, shift), textcoords="offset points", fontsize=_SIZE, va="center"
        )
        label.set_in_layout(False)


def _apart(left: float, middle: float, width: float, height: float, other: tuple[float, float, float]) -> bool:
    beside = left > other[0] + other[2] or left + width < other[0]
    return beside or abs(middle - other[1]) >= height


def tick_flops(axes: Axes) -> None:
    """Write FLOPs along the x axis with a unit instead of a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops(value, "")))
