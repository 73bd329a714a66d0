"""Exact counts: a share of n, the k largest of n (ties by index, or drawn), a total split among groups."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from jaxtyping import Bool, Int64, Real
from torch import Tensor


def top_mask(
    scores: Real[Tensor, "n"], k: int, *, largest: bool = True, generator: torch.Generator | None = None
) -> Bool[Tensor, "n"]:
    """Mark the k largest (or smallest) scores; of equal ones at the border the lower indices win, or a draw.

    A generator is drawn from only where there are such.

    Time O(n), by selection rather than by sorting. Raises: ValueError: unless 0 <= k <= n, or if a score is NaN.
    """
    n = scores.numel()
    if bool(scores.isnan().any()):
        raise ValueError("a score is nan, which has no rank.")
    if not 0 <= k <= n:
        raise ValueError(f"k is {k}; it must lie in [0, {n}].")
    if k == 0:
        return torch.zeros(n, dtype=torch.bool, device=scores.device)
    if k == n:
        return torch.ones(n, dtype=torch.bool, device=scores.device)
    border = scores.kthvalue(n - k + 1 if largest else k).values
    chosen = scores >= border if largest else scores <= border
    surplus = int(chosen.sum()) - k
    if surplus > 0:
        ties = (scores == border).nonzero().squeeze(1)
        if generator is not None:
            ties = ties[torch.randperm(len(ties), generator=generator).to(ties.device)]
        chosen[ties[len(ties) - surplus :]] = False
    return chosen


def top_indices(
    scores: Real[Tensor, "n"], k: int, *, largest: bool = True, generator: torch.Generator | None = None
) -> Int64[Tensor, "k"]:
    """Return the indices, ascending, that `top_mask` marks."""
    return top_mask(scores, k, largest=largest, generator=generator).nonzero().squeeze(1)


def size_of(share: float, n: int) -> int:
    """Turn a share of n samples into a number: floor(share * n + 1/2)."""
    return math.floor(share * n + 0.5)


def largest_remainder(total: int, shares: Real[Tensor, "g"]) -> Int64[Tensor, "g"]:
    """Split `total` into whole numbers proportional to `shares` (Hamilton's method; ties go to the lower index).

    Computed in fractions, so that equal remainders are equal.

    >>> largest_remainder(10, torch.tensor([1.0, 1.0, 1.0])).tolist()
    [4, 3, 3]
    """
    parts = [Fraction(share) for share in shares.tolist()]
    whole_of_all = sum(parts)
    exact = [part * total / whole_of_all for part in parts]
    whole = [math.floor(share) for share in exact]
    order = sorted(range(len(parts)), key=lambda index: whole[index] - exact[index])
    for index in order[: total - sum(whole)]:
        whole[index] += 1
    return torch.tensor(whole, dtype=torch.int64, device=shares.device)
