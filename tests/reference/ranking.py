"""Top-k by sorting and Hamilton's method in exact fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def top_mask(scores: Sequence[float], k: int, *, largest: bool) -> list[bool]:
    """Sort by score, then by index; mark the first k."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i] if largest else scores[i], i))
    return [i in order[:k] for i in range(len(scores))]


def largest_remainder(total: int, shares: Sequence[int]) -> list[int]:
    """Give each its whole quota, then one more to those with the largest remainders, the lower index first."""
    quotas = [Fraction(total * share, sum(shares)) for share in shares]
    parts = [math.floor(quota) for quota in quotas]
    order = sorted(range(len(shares)), key=lambda i: (parts[i] - quotas[i], i))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts
