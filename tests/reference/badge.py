"""BADGE, word for word: gradients are built, every distance is computed anew at each draw; plain Python."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from reference.uncertainty import softmax


def gradient(logits, features, *, bias):
    """Return the gradient of cross-entropy in the last Linear if the likeliest class, of equals the first, is right."""
    likely = softmax(logits)
    label = likely.index(max(likely))
    others = math.fsum(share for place, share in enumerate(likely) if place != label)
    errors = [-others if place == label else share for place, share in enumerate(likely)]
    return [error * value for error in errors for value in ([*features, 1.0] if bias else features)]


def squared_distance(one, other):
    """Return |one - other|^2."""
    return math.fsum((a - b) ** 2 for a, b in zip(one, other))


def to_nearest(points, chosen):
    """Return the squared distance of each point to the nearest of those chosen; those chosen have exactly 0."""
    return [min(squared_distance(point, points[i]) for i in chosen) for point in points]


def longest(points):
    """Return the position of the longest point, of equals the first."""
    return max(range(len(points)), key=lambda i: (squared_distance(points[i], [0.0] * len(points[i])), -i))


def seeded(points, k, first, uniforms):
    """Draw k positions by squared distance to the nearest; a number in [0, 1) each says how far along their sum.

    Ends early once no point differs from all those chosen.
    """
    chosen = [first]
    while len(chosen) < k:
        sums = list(accumulate(to_nearest(points, chosen)))
        if not sums[-1]:
            break
        chosen.append(bisect_right(sums, next(uniforms) * sums[-1]))
    return chosen


def chances(points, first, *, power=2, stale=False):
    """Return the chance of each ordered pair of a second and a third draw.

    `power` is that of the distance, 2 for k-means++; `stale` has the second draw's distances for the third as well.
    """
    found = {}
    for second, chance in enumerate(shares(points, [first], power)):
        if chance:
            again = shares(points, [first] if stale else [first, second], power)
            left = 1 - again[second]
            found |= {(second, i): chance * again[i] / left for i in range(len(points)) if i != second and again[i]}
    return found


def shares(points, chosen, power):
    """Return each point's share of the sum of distances to the nearest, each to a power."""
    values = [value ** (power / 2) for value in to_nearest(points, chosen)]
    return [value / math.fsum(values) for value in values]
