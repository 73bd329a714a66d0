"""Herding, word for word: the mean of every larger set is computed, and the nearest to the mean of all is taken."""

from __future__ import annotations


def gap(points, chosen):
    """Return |n sum of those chosen - t sum of all|^2 for t chosen of n: how far means are apart, times (n t)^2."""
    n, t = len(points), len(chosen)
    everything = [sum(column) for column in zip(*points)]
    some = [sum(points[i][j] for i in chosen) for j in range(len(everything))]
    return sum((n * a - t * b) ** 2 for a, b in zip(some, everything))


def herd(points, k):
    """Return k positions, in order: each time the one that brings the means nearest, of equal ones the lowest."""
    chosen = []
    for _ in range(k):
        free = [i for i in range(len(points)) if i not in chosen]
        chosen.append(min(free, key=lambda i: gap(points, [*chosen, i])))
    return chosen
