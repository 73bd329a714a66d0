"""Distributions as SVG in the page's own colours: all samples, and the chosen ones among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 6, 12, 40
BINS, GROUPS = 60, 50
SKEWED = 20.0
"""Where the fullest bin holds so many times the median of the others, heights are square roots of counts."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Counts of all samples and of the chosen ones between `low` and `high`; what lies beyond is in the end bins."""

    low: float
    high: float
    everything: Int64[Tensor, "b"]
    chosen: Int64[Tensor, "b"]
    beyond: int


def visible_range(values: Float[Tensor, "n"]) -> tuple[float, float]:
    """Return the ends of the finite values; of many, those of all but 0.4 % where that halves the range."""
    finite = values[values.isfinite()].sort().values
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite[0]), float(finite[-1])
    if len(finite) >= 500:
        cut = max(1, len(finite) // 500)
        inner = float(finite[cut]), float(finite[-1 - cut])
        if 0 < 2 * (inner[1] - inner[0]) < high - low:
            low, high = inner
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def binned(values: Float[Tensor, "n"], chosen: Bool[Tensor, "n"], low: float, high: float, bins: int) -> Bins:
    """Count values in bins of equal width; a value that is no number is left out."""
    known = ~values.isnan()
    values, chosen = values[known], chosen[known]
    places = ((values - low) * (bins / (high - low))).nan_to_num(posinf=bins, neginf=0).clamp(0, bins - 1).long()
    beyond = int(((values < low) | (values > high)).sum())
    everything, mine = (torch.bincount(part, minlength=bins) for part in (places, places[chosen]))
    return Bins(low, high, everything, mine, beyond)


def distribution(
    values: Float[Tensor, "n"], chosen: Bool[Tensor, "n"], ends: tuple[float, float], name: str
) -> tuple[str, bool, int]:
    """Draw how the values are distributed; return the SVG, whether its heights are roots, and how many lie beyond."""
    low, high = ends
    found = binned(values, chosen, low, high, BINS)
    top = int(found.everything.max())
    others = found.everything[found.everything > 0]
    rooted = top > SKEWED * float(others.median())
    marks = [rounded(top * share) for share in (1 / 16, 1 / 4, 1) if top * share >= 1] if rooted else nice_ticks(0, top)

    def height(count: float) -> float:
        share = count / top
        return (math.sqrt(share) if rooted else share) * (HEIGHT - TOP - BOTTOM)

    parts = [
        *rules([(height(mark), f"{mark:,.0f}") for mark in marks if mark and mark == round(mark)]),
        *columns(found, height),
    ]
    parts += along([(place(tick, low, high), short(tick)) for tick in nice_ticks(low, high)], name)
    return svg(parts, f"distribution of the {name}"), rooted, found.beyond


def columns(found: Bins, height: object) -> Iterator[str]:
    """Yield a bar for each bin, and the part of it that is chosen."""
    assert callable(height)
    wide = (WIDTH - LEFT - RIGHT) / len(found.everything)
    step = (found.high - found.low) / len(found.everything)
    for number, (count, mine) in enumerate(zip(found.everything.tolist(), found.chosen.tolist())):
        if count:
            start = found.low + number * step
            text = f"{short(start)} to {short(start + step)}: {mine:,} of {count:,} chosen"
            bars = bar(LEFT + number * wide, wide, height(count), "all") + (
                bar(LEFT + number * wide, wide, height(mine), "mine") if mine else ""
            )
            yield f"<g><title>{text}</title>{bars}</g>"


def by_rank(values: Float[Tensor, "n"], chosen: Bool[Tensor, "n"], name: str) -> str:
    """Draw which share of each fiftieth of the samples was chosen, the fiftieths in the order of their values."""
    picked = chosen[values.argsort(stable=True)].double()
    groups = min(GROUPS, len(picked))
    wide, tall = (WIDTH - LEFT - RIGHT) / groups, HEIGHT - TOP - BOTTOM
    parts = list(rules([(tall * share, f"{100 * share:.0f} %") for share in (0.25, 0.5, 0.75, 1)]))
    for number, group in enumerate(picked.tensor_split(groups)):
        share = float(group.mean())
        text = (
            f"samples {100 * number / groups:.0f} % to {100 * (number + 1) / groups:.0f} %: {100 * share:.0f} % chosen"
        )
        bars = bar(LEFT + number * wide, wide, tall, "none") + bar(LEFT + number * wide, wide, share * tall, "mine")
        parts.append(f"<g><title>{text}</title>{bars}</g>")
    level = HEIGHT - BOTTOM - tall * float(picked.mean())
    parts.append(f'<line class="mean" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>')
    ends = [(LEFT + 0.0, "lowest"), ((LEFT + WIDTH - RIGHT) / 2, "median"), (WIDTH - RIGHT - 0.0, "highest")]
    return svg([*parts, *along(ends, f"samples in the order of their {name}")], f"share chosen by {name}")


def sparkline(found: Bins, label: str) -> str:
    """Draw the bins of one class, small."""
    top, wide = max(1, int(found.everything.max())), 120 / len(found.everything)
    parts = []
    for number, (count, mine) in enumerate(zip(found.everything.tolist(), found.chosen.tolist())):
        for value, kind in ((count, "all"), (mine, "mine")):
            if value:
                tall = 26 * math.sqrt(value / top)
                box = f'x="{number * wide:.1f}" y="{26 - tall:.1f}" width="{wide - 0.6:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="{kind}" {box}/>')
    frame = 'class="spark" viewBox="0 0 120 26" preserveAspectRatio="none" role="img"'
    return f'<svg {frame} aria-label="{label}">{"".join(parts)}</svg>'


def bar(x: float, wide: float, tall: float, kind: str) -> str:
    """Draw a bar that stands on the axis, a gap at its right."""
    gap = min(1.2, 0.2 * wide)
    box = f'x="{x:.2f}" y="{HEIGHT - BOTTOM - tall:.2f}" width="{wide - gap:.2f}" height="{tall:.2f}"'
    return f'<rect class="{kind}" {box}/>'


def rules(marks: list[tuple[float, str]]) -> Iterator[str]:
    """Yield a line across, with its number at the left, for each height; and the axis."""
    for tall, text in [(0.0, "0"), *marks]:
        y = HEIGHT - BOTTOM - tall
        kind = "axis" if tall == 0 else "rule"
        yield f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def along(marks: list[tuple[float, str]], name: str) -> Iterator[str]:
    """Yield the numbers below the axis, and what they are."""
    for x, text in marks:
        anchor = "start" if x < LEFT + 8 else "end" if x > WIDTH - RIGHT - 8 else "middle"
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{text}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{name}</text>'


def svg(parts: list[str], label: str) -> str:
    """Return the element."""
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def place(value: float, low: float, high: float) -> float:
    """Return where a value stands along the axis."""
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers between two ends."""
    rough = (high - low) / 6
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def rounded(count: float) -> int:
    """Round a count down to one digit: 1, 2, 5 or 10 times a power of ten, or the like."""
    size = 10 ** math.floor(math.log10(count))
    return max(1, int(count // size * size))


def short(value: float) -> str:
    """Write a number with three digits."""
    return f"{0.0 if abs(value) < 1e-12 else value:.3g}"
