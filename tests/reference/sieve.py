"""The sieve, literally, as one list that is sorted anew each time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sift(
    rows: Sequence[int],
    losses: Sequence[float],
    visits: Sequence[int],
    inside: set[int],
    k: int,
    share: float,
    shuffled: Sequence[int],
) -> list[int]:
    """The next subset; `shuffled` are the places of those who wait, in the order in which equals come in."""
    leaving = min(max(1, math.floor(share * k + 0.5)), len(rows) - k)
    hardness = {row: math.inf if math.isnan(loss) else loss for row, loss in zip(rows, losses)}
    present = sorted(sorted(inside), key=lambda row: -hardness[row])
    chosen = present[: k - leaving] if inside else []
    waiting = [row for row in rows if row not in inside]
    counts = dict(zip(rows, visits))
    queue = sorted((waiting[place] for place in shuffled), key=lambda row: counts[row])
    for row in queue:
        if len(chosen) < k:
            chosen.append(row)
    return sorted(chosen)
