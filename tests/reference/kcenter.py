"""Greedy k-center, word for word: every point's distance to every centre, anew at each step."""

from __future__ import annotations

from itertools import combinations


def squared_distance(one, other):
    """Return |one - other|^2; of whole numbers exactly."""
    return sum((a - b) ** 2 for a, b in zip(one, other))


def farthest_first(points, k, first=None, centres=()):
    """Return k positions, in order: each time the one that is farthest from all centres, of equal ones the lowest."""
    chosen = [] if first is None else [first]
    while len(chosen) < k:
        held = [*centres, *(points[i] for i in chosen)]
        free = [i for i in range(len(points)) if i not in chosen]
        chosen.append(max(free, key=lambda i: (min(squared_distance(points[i], centre) for centre in held), -i)))
    return chosen


def nearest_to_mean(points):
    """Return the position nearest to the mean of all, of equal ones the lowest; nothing is divided."""
    n, total = len(points), [sum(column) for column in zip(*points)]
    return min(range(n), key=lambda i: squared_distance([n * a for a in points[i]], total))


def radius(points, chosen):
    """Return the largest squared distance of any point to the nearest one chosen."""
    return max(min(squared_distance(point, points[i]) for i in chosen) for point in points)


def smallest_radius(points, k):
    """Return the smallest squared radius that any k of the points have."""
    return min(radius(points, chosen) for chosen in combinations(range(len(points)), k))
