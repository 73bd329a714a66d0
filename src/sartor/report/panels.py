"""What each figure shows: every function draws one on a matplotlib figure, or returns False where data are lacking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.report.arms import ArmStyle, is_joint
from sartor.report.collect import MONITOR
from sartor.report.curves import Curve, curve
from sartor.report.kinds import KINDS
from sartor.report.labels import label_points, label_right, tick_flops
from sartor.report.statistics import paired_difference
from sartor.report.table import Block, Row
from sartor.report.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#767b85"
"""The grey of axes and text, legible on white and on near-black; the page replaces it by its own ink."""

_PURPOSES = ("train", "select", "score", "fuse")
_SHADES = ("#5b8c9e", "#d9a441", "#8d6a9f", "#7d9c4e", "#b5655a")


@dataclass(frozen=True, eq=False)
class View:
    """One setting to draw: its block at equal epochs, those at equal cost, and every arm's style."""

    block: Block
    at_cost: tuple[Block, ...]
    styles: dict[str, ArmStyle]


def differences(figure: Figure, view: View) -> bool:
    """Joint arms minus every other arm, paired by seed, with intervals."""
    joint = view.block.joint_rows
    controls = [row for row in view.block.rows if row not in joint]
    if not joint or not controls:
        return False
    axes = figure.subplots()
    for row, shift in zip(joint, _shifts(len(joint))):
        for height, control in enumerate(reversed(controls)):
            found = paired_difference(row.by_seed, control.by_seed)
            if found is None:
                continue
            ends = (found.low, found.high) if found.n > 1 else (found.mean, found.mean)
            axes.plot(ends, (height + shift,) * 2, color=view.styles[row.arm].colour, linewidth=2.2, alpha=0.55)
            mark(axes, found.mean, height + shift, view.styles[row.arm])
        style = view.styles[row.arm]
        axes.plot([], [], style.marker, color=style.colour, label=short(row.arm))
    across = 4 if max(len(short(row.arm)) for row in joint) <= 14 else 2
    figure.legend(loc="outside upper center", ncols=min(len(joint), across), frameon=False)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(controls)), [short(row.arm) for row in reversed(controls)])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(controls) - 0.4)
    axes.set_xlabel(f"{KINDS[view.block.setting.kind].arm} minus this arm (percentage points)")
    axes.grid(axis="y", visible=False)
    return True


def accuracy_against_cost(figure: Figure, view: View) -> bool:
    """Accuracy over FLOPs; a bubble's area is the run's seconds, a hollow one is a run at matched cost."""
    axes = figure.subplots()
    rows = [*view.block.rows, *(row for block in view.at_cost for row in block.rows if row.arm != block.matched_arm)]
    longest = max(row.seconds for row in rows) or 1.0
    for row in rows:
        style = view.styles[row.arm]
        if row.n > 1:
            ends = (row.accuracy.low, row.accuracy.high)
            axes.plot((row.flops, row.flops), ends, color=style.colour, linewidth=1.4, alpha=0.8)
        area = 30 + 420 * row.seconds / longest
        filled = row.match != "cost"
        face = (style.colour, 0.55 if filled else 0.0)
        axes.scatter(row.flops, row.accuracy.mean, s=area, facecolor=face, edgecolor=style.colour, linewidth=1.3)
        mark(axes, row.flops, row.accuracy.mean, style, size=3.5)
    costs = [row.flops for row in rows]
    if min(costs) > 0 and max(costs) / min(costs) > 5:
        axes.set_xscale("log")
    axes.margins(0.12)
    tick_flops(axes)
    axes.set_xlabel("FLOPs of the whole run, selection included")
    axes.set_ylabel("test accuracy (%)")
    names = [short(row.arm) + ("@cost" if row.match == "cost" else "") for row in rows]
    label_points(figure, axes, [(name, row.flops, row.accuracy.mean) for name, row in zip(names, rows)])
    return True


def learning_curves(figure: Figure, view: View) -> bool:
    """Test accuracy over epochs."""
    curves = _curves(view.block.rows, lambda line: _scaled(line.get("test_accuracy"), 100))
    if not curves:
        return False
    axes = figure.subplots()
    _draw(axes, curves, view)
    later = [value for c in curves.values() for value in c.low[len(c.low) // 4 :]]
    top = max(float(c.high.max()) for c in curves.values())
    bottom = min(later)
    axes.set_ylim(bottom - 0.05 * (top - bottom) - 0.1, top + 0.05 * (top - bottom) + 0.1)
    axes.set_ylabel("test accuracy (%)")
    _label_ends(axes, curves, view)
    return True


def coreset_noise(figure: Figure, view: View) -> bool:
    """Share of wrong labels in each coreset, over selections (SWaST, Fig. 5a)."""
    curves = _curves(view.block.rows, lambda line: _scaled(line.get("noise_ratio"), 100), kind="selections")
    if not curves or not view.block.setting.noise:
        return False
    axes = figure.subplots()
    for arm, found in curves.items():
        if len(found.epochs) == 1:
            mark(axes, found.epochs[0], found.mean[0], view.styles[arm], size=7)
    _draw(axes, curves, view, marker=True)
    axes.axhline(100 * view.block.setting.noise, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(
        1,
        100 * view.block.setting.noise,
        "all training data ",
        ha="right",
        va="top",
        transform=axes.get_yaxis_transform(),
    )
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_ylabel("wrong labels in the coreset (%)")
    _label_ends(axes, curves, view)
    return True


def overfitting_gap(figure: Figure, view: View) -> bool:
    """Test loss minus validation loss over epochs (SWaST, Fig. 5b)."""
    curves = _curves(view.block.rows, lambda line: _minus(line.get("test_loss"), line.get("validation_loss")))
    if not curves:
        return False
    axes = figure.subplots()
    _draw(axes, curves, view)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_ylabel("test loss − validation loss")
    _label_ends(axes, curves, view)
    return True


def loss_of_wrong_labels(figure: Figure, view: View) -> bool:
    """Mean loss of training samples whose label is right, and of those whose label is wrong (SWaST, Fig. 5c)."""
    wrong = _curves(view.block.rows, lambda line: line.get("loss_noisy"))
    right = _curves(view.block.rows, lambda line: line.get("loss_clean"))
    if not wrong or not right:
        return False
    left, second = figure.subplots(1, 2)
    for axes, curves, title in ((left, right, "right labels"), (second, wrong, "wrong labels")):
        _draw(axes, curves, view)
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    left.set_ylabel("mean training loss")
    _label_ends(second, wrong, view)
    return True


def density_by_layer(figure: Figure, view: View) -> bool:
    """Share of weights kept in each layer of the pruned arms."""
    means = {row.arm: _mean_densities(row) for row in view.block.rows}
    means = {arm: layers for arm, layers in means.items() if any(density < 1 for density in layers.values())}
    if not means:
        return False
    names = list(dict.fromkeys(name for layers in means.values() for name in layers))
    axes = figure.subplots()
    for (arm, layers), shift in zip(means.items(), _shifts(len(means))):
        style = view.styles[arm]
        places = [names.index(name) + shift for name in layers]
        axes.plot(places, [100 * d for d in layers.values()], color=style.colour, linewidth=1, alpha=0.4)
        for place, density in zip(places, layers.values()):
            mark(axes, place, 100 * density, style)
    _name_layers(axes, names)
    axes.set_ylim(0, 108)
    axes.set_ylabel("weights kept (%)")
    label_right(
        axes, {arm: 100 * layers[names[-1]] for arm, layers in means.items() if names[-1] in layers}, view.styles
    )
    axes.grid(axis="x", visible=False)
    return True


def costs_by_phase(figure: Figure, view: View) -> bool:
    """FLOPs and seconds of each arm, stacked by what they were spent on."""
    rows = list(reversed(view.block.rows))
    spent = [[_mean_by_purpose(getattr(run, field) for run in row.runs) for row in rows] for field in _COSTS]
    found = {name for costs in spent for cost in costs for name in cost}
    purposes = [*(name for name in _PURPOSES if name in found), *sorted(found.difference(_PURPOSES))]
    if not purposes:
        return False
    panels = figure.subplots(1, 2, sharey=True)
    for axes, costs, label in zip(panels, spent, ("FLOPs", "seconds")):
        left = np.zeros(len(rows))
        for purpose, shade in zip(purposes, _SHADES * len(purposes)):
            widths = np.array([cost.get(purpose, 0.0) for cost in costs])
            axes.barh(range(len(rows)), widths, left=left, color=shade, height=0.62, label=purpose)
            left = left + widths
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    tick_flops(panels[0])
    panels[0].set_yticks(range(len(rows)), [short(row.arm) for row in rows])
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(purposes), 4), frameon=False
    )
    return True


_COSTS = ("flops_by_purpose", "seconds_by_purpose")


def mark(axes: Axes, x: float, y: float, style: ArmStyle, *, size: float = 6.0) -> None:
    """Draw an arm's marker."""
    face = "none" if style.hollow else style.colour
    axes.plot(x, y, style.marker, color=style.colour, markerfacecolor=face, markersize=size, markeredgewidth=1.2)


def _draw(axes: Axes, curves: dict[str, Curve], view: View, *, marker: bool = False) -> None:
    """Draw curves; the joint arms and the baseline are heavier, and only they carry their shaded interval."""
    longest = max(found.epochs[-1] for found in curves.values())
    for arm, found in curves.items():
        style, heavy = view.styles[arm], is_joint(arm) or arm == view.block.baseline
        dashes = (0, (5, 2)) if style.hollow else "-"
        if heavy:
            axes.fill_between(found.epochs, found.low, found.high, color=style.colour, alpha=0.14, linewidth=0)
        axes.plot(found.epochs, found.mean, color=style.colour, linewidth=1.8 if heavy else 1, linestyle=dashes)
        if found.epochs[-1] < longest:
            onward = (found.epochs[-1], longest), (found.mean[-1],) * 2
            axes.plot(*onward, color=style.colour, linewidth=0.8, linestyle=":")
        ends = zip(found.epochs, found.mean) if marker else [(found.epochs[-1], found.mean[-1])]
        for x, y in ends:
            mark(axes, x, y, style, size=4)
    axes.set_xlabel("epochs done")


def _label_ends(axes: Axes, curves: dict[str, Curve], view: View) -> None:
    label_right(axes, {arm: float(found.mean[-1]) for arm, found in curves.items()}, view.styles)


def _name_layers(axes: Axes, names: list[str]) -> None:
    short = [name.removesuffix(".weight") for name in names]
    if len(names) > 24:
        axes.set_xlabel("layer, from input to output")
    else:
        axes.set_xticks(range(len(names)), short, rotation=0 if sum(map(len, short)) < 60 else 60)


def _curves(
    rows: Iterable[Row], value: Callable[[dict[str, Any]], float | None], *, kind: str = "epochs"
) -> dict[str, Curve]:
    found = {row.arm: curve(row.runs, value, kind=kind) for row in rows}
    return {arm: c for arm, c in found.items() if c is not None}


def _mean_densities(row: Row) -> dict[str, float]:
    """Average each layer's density over the runs, layers in the network's order."""
    found: dict[str, list[float]] = {}
    for run in row.runs:
        for name, density in run.density_by_layer.items():
            found.setdefault(name, []).append(density)
    return {name: sum(densities) / len(densities) for name, densities in found.items()}


def _mean_by_purpose(costs: Iterable[dict[str, float]]) -> dict[str, float]:
    costs = list(costs)
    names = {name for cost in costs for name in cost if name != MONITOR}
    return {name: sum(cost.get(name, 0.0) for cost in costs) / len(costs) for name in names}


def _shifts(number: int) -> list[float]:
    """Spread `number` marks around 0 so that they don't hide each other."""
    return [0.0] if number == 1 else [float(shift) for shift in np.linspace(0.18, -0.18, number)]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
