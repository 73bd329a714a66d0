"""A history that keeps every trajectory whole, and counts in plain Python afterwards."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

WINDOW = 10


class Trajectories:
    """For each row, all that was said of it: a list of (logits, target)."""

    def __init__(self, rows):
        self.visits = {row: [] for row in rows}

    def visit(self, row, logits, target):
        self.visits[row].append((logits, target))

    def margins(self, row):
        """The label's logit minus the largest other one, at every visit."""
        return [z[y] - max(other for j, other in enumerate(z) if j != y) for z, y in self.visits[row]]

    def right(self, row):
        return [margin > 0 for margin in self.margins(row)]

    def forgotten(self, row):
        """Visits at which a sample that was right the last time is wrong."""
        right = self.right(row)
        return sum(before and not after for before, after in pairwise(right))

    def probabilities(self, row):
        """The label's share of the softmax, at every visit."""
        return [math.exp(z[y] - max(z)) / sum(math.exp(value - max(z)) for value in z) for z, y in self.visits[row]]

    def uncertainty_of_windows(self, row):
        """Standard deviation (n - 1) times 1 - mean, of every ten visits in a row."""
        p = self.probabilities(row)
        windows = [p[start : start + WINDOW] for start in range(len(p) - WINDOW + 1)]
        return [statistics.stdev(window) * (1 - statistics.fmean(window)) for window in windows]
