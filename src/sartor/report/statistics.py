"""Means, t-intervals and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

Outcome = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True)
class Interval:
    """A mean over n values with the ends of its t-interval; the ends are NaN where n is 1."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval: the number behind the +- sign."""
        return (self.high - self.low) / 2

    @property
    def outcome(self) -> Outcome:
        """Read the interval as a difference in which more is better.

        `better` and `worse` mean that the interval leaves out 0, `unclear` that it holds 0 (no difference could be
        shown, which is not the same as there being none), `unknown` that a single value gives no interval.
        """
        if math.isnan(self.low):
            return "unknown"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "unclear"


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the mean of `values` with Student's t-interval at `level` (n - 1 degrees of freedom).

    Raises: ValueError: when there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("values is empty; a mean needs at least one.")
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stdtrit(n - 1, (1 + level) / 2) * sample.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], *, level: float = 0.95
) -> Interval | None:
    """Return the interval of first - second over the seeds that both have, or None where they share none.

    A pair shares its seed, and so its noise and its initial weights; what they have in common cancels out.
    Differences are rounded at 1e-9, so that rounding errors of equal numbers are not read as a difference.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return mean_interval([round(first[seed] - second[seed], 9) for seed in seeds], level=level)


def equivalence(found: Interval, margin: float, *, level: float = 0.95) -> float:
    """Return the p-value of two one-sided t-tests: the smaller, the surer is it that the mean lies within +- margin.

    `level` is that of the interval. Below 0.05 the 90 % interval lies within the margin. That each of several effects
    is within it needs no correction for their number, that some are does. NaN of a single value.
    Source: Schuirmann 1987. Raises: ValueError: for a margin that is not above 0.
    """
    if margin <= 0:
        raise ValueError(f"margin is {margin:g}; it must be above 0.")
    if math.isnan(found.low):
        return math.nan
    error = found.half_width / float(stdtrit(found.n - 1, (1 + level) / 2))
    room = margin - abs(found.mean)
    if error == 0:
        return 0.0 if room > 0 else 1.0
    return float(stdtr(found.n - 1, -room / error))
