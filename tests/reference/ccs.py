"""CCS, word for word: strata as lists, and a loop that takes the smallest one off."""

from __future__ import annotations

from fractions import Fraction


def strata(scores, count):
    """Return the positions in each of `count` ranges of equal width, the highest score in the last one."""
    low, width = Fraction(min(scores)), Fraction(max(scores) - min(scores)) / count
    found = [[] for _ in range(count)]
    for position, score in enumerate(scores):
        place = next((i for i in range(count) if low + i * width <= score < low + (i + 1) * width), None)
        if place is None:
            place = count - 1 if width else 0
        found[place].append(position)
    return found


def budgets(sizes, k):
    """Return how many are drawn from each range (Zheng et al. 2023, Algorithm 1, the loop)."""
    left, given = dict(enumerate(sizes)), {}
    while left:
        smallest = min(left, key=lambda i: (left[i], i))
        given[smallest] = min(left[smallest], k // len(left))
        k -= given[smallest]
        del left[smallest]
    return [given[i] for i in range(len(sizes))]
