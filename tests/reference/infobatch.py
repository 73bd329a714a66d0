"""InfoBatch, literally: who is easy, and what the samples of an epoch may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def easy(losses: Sequence[float]) -> set[int]:
    """Places of the losses below the mean, in exact arithmetic; nan stands for a loss that is not known."""
    known = [Fraction(loss) for loss in losses if not math.isnan(loss)]
    if not known:
        return set()
    mean = sum(known) / len(known)
    return {place for place, loss in enumerate(losses) if not math.isnan(loss) and Fraction(loss) < mean}


def pruned_epochs(epochs: int, delta: Fraction) -> list[int]:
    """Epochs, from 0, that end within the share `delta` of all."""
    return [epoch for epoch in range(epochs) if epoch + 1 <= delta * epochs]


def sizes(easy_ones: int, ratio: Fraction) -> set[int]:
    """How many of the easy ones may be left: the two whole numbers next to their kept share."""
    share = easy_ones * (1 - ratio)
    return {math.floor(share), math.ceil(share)}
