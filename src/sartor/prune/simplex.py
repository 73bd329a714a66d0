"""Projection onto the capped simplex: the nearest numbers in [0, 1] whose sum is at most a budget."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sartor.errors import PruningError

BLOCK = 2**15
"""Numbers that a CPU works on in one go: as many as stay in its cache."""


@torch.no_grad()
def project(scores: Float[Tensor, "n"], budget: float) -> None:
    """Replace `scores`, in place, by their Euclidean projection onto {0 <= s <= 1, sum s <= budget}.

    The projection is clamp(s - v, 0, 1) with v = 0 if that meets the budget, else the v that spends it.
    Raises: PruningError: for a negative budget, or scores that are not finite.
    Source: Zhou et al. 2021 (ProbMask), Theorem 1. Differs: v is exact; the original halves an interval 20 times.
    """
    scores.sub_(shift(scores, budget)).clamp_(0, 1)


@torch.no_grad()
def shift(scores: Float[Tensor, "n"], budget: float) -> float:
    """Return v with sum clamp(s - v, 0, 1) = budget, 0 where the sum is below; exact but for float64 rounding.

    The sum falls along straight pieces. An interval that holds v shrinks by Newton's steps, which end on v once the
    piece is the right one; where a step leaves the interval, or the one before was of little use, it is halved.
    Work: O(n) a step, commonly 3 to 8 of them. Memory: that of the scores.
    """
    low, high = 0.0, float(scores.max()) if len(scores) else 0.0
    if not (budget >= 0 and abs(float(scores.sum(dtype=torch.float64))) < float("inf")):
        raise PruningError(f"scores must be finite and their budget ({budget:g}) at least 0; lower the learning rate.")
    excess, slope = _excess(scores, low, budget)
    if excess <= 0:
        return 0.0
    middle, before = low, float("inf")
    while abs(excess) > 1e-12 * max(1.0, budget):
        newton = middle + excess / slope if slope and abs(excess) < before / 2 else low
        middle, before = newton if low < newton < high else (low + high) / 2, abs(excess)
        if not low < middle < high:
            return high
        excess, slope = _excess(scores, middle, budget)
        low, high = (middle, high) if excess > 0 else (low, middle)
    return middle


def blocks(row: Float[Tensor, "n"]) -> tuple[Tensor, ...]:
    """Cut a row into parts that are worked on one after the other: short ones on a CPU, all at once elsewhere."""
    return row.split(BLOCK if row.device.type == "cpu" else max(1, len(row)))


def _excess(scores: Float[Tensor, "n"], v: float, budget: float) -> tuple[float, int]:
    """Return sum clamp(s - v, 0, 1) - budget, and how many scores lie strictly inside: the rate at which it falls."""
    total, inside = 0.0, 0
    for block in blocks(scores):
        clamped = (block.double() - v).clamp_(0, 1)
        total += float(clamped.sum())
        inside += int(((clamped > 0) & (clamped < 1)).sum())
    return total - budget, inside
