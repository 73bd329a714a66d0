"""The one-cycle schedule as a walk: the whole curve, one step after the other."""

from __future__ import annotations


def one_cycle(steps: int, peak_at: float) -> list[float]:
    """Two straight lines through (0, 0), (peak, 1) and (steps, 0), read off in the middle of each step."""
    peak = peak_at * steps
    shares = []
    for step in range(steps):
        middle = (step + (step + 1)) / 2
        left, right = ((0.0, 0.0), (peak, 1.0)) if middle < peak else ((peak, 1.0), (float(steps), 0.0))
        slope = (right[1] - left[1]) / (right[0] - left[0])
        shares.append(left[1] + slope * (middle - left[0]))
    return shares
