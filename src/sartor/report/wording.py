"""Numbers as people read them: percent, points, intervals, FLOPs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sartor.report.statistics import Interval

NOTHING = "–"
"""Stands where a number was not measured."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share in [0, 1] as a percentage."""
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


def brief_percent(share: float | None) -> str:
    """Write a share as a percentage with the digits that matter: 0.3 %, 32 %, 128 %."""
    return percent(share, 0 if share is not None and share >= 0.0995 else 1)


def signed(points: float) -> str:
    """Write a difference in percentage points with its sign: one digit, or two where one would read as zero."""
    text = f"{abs(points):.1f}"
    if float(text) == 0:
        text = f"{abs(points):.2f}"
        if float(text) == 0:
            return "0.0"
    return ("+" if points > 0 else "−") + text


def span(interval: Interval) -> str:
    """Write the ends of a difference's interval: `−1.3 to +0.1`."""
    return NOTHING if math.isnan(interval.low) else f"{signed(interval.low)} to {signed(interval.high)}"


def plus_minus(interval: Interval | None) -> str:
    """Write a mean in percent with half its interval: `97.9 ± 0.3`."""
    if interval is None:
        return NOTHING
    return f"{interval.mean:.1f}" + ("" if math.isnan(interval.low) else f" ± {interval.half_width:.1f}")


def flops(count: float, unit: str = "FLOP") -> str:
    """Write a number of floating-point operations with three digits and a prefix: `24.4 GFLOP`."""
    for size, prefix in _PREFIXES:
        if count >= size:
            return f"{count / size:.3g} {prefix}{unit}"
    return f"{count:.0f} {unit}".rstrip()


def seconds(duration: float) -> str:
    """Write a duration in seconds, minutes or hours."""
    if duration < 120:
        return f"{duration:.2f} s" if duration < 10 else f"{duration:.0f} s"
    return f"{duration / 60:.1f} min" if duration < 7200 else f"{duration / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 seed`, `5 seeds`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str], last: str = "and") -> str:
    """Join names as a sentence does: `a, b and c`."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""


def short(name: str, limit: int = 32) -> str:
    """Return an arm's name as a figure has room for it: options of options left out, the end cut off if need be.

    >>> short("swast-cut(pruner='probmask(lr=0.02, trials=5)')")
    'swast-cut(pruner=probmask(…))'
    """
    plain, bracket, options = name.replace("'", "").replace('"', "").partition("(")
    text = plain + bracket + (re.sub(r"\([^()]*\)", "(…)", options) if len(name) > limit else options)
    return text if len(text) <= limit else text[: limit - 1] + "…"
