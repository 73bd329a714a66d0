"""EL2N, word for word."""

from __future__ import annotations

import math


def score(logits, target):
    """Return |softmax(logits) - onehot(target)| of one sample, in plain Python."""
    top = max(logits)
    powers = [math.exp(value - top) for value in logits]
    total = sum(powers)
    return math.sqrt(sum((power / total - (i == target)) ** 2 for i, power in enumerate(powers)))
