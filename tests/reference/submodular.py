"""Facility location and graph cut, word for word: values of sets, greedy by full evaluation, the best of all sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def similarities(vectors, metric):
    """Return (1 + cosine) / 2 or 1 - distance / largest distance of all pairs, one pair at a time."""
    n = len(vectors)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if metric == "cosine":
                length = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
                found[i, j] = (1 + (vectors[i] @ vectors[j] / length if length else 0)) / 2
            else:
                found[i, j] = np.linalg.norm(vectors[i] - vectors[j])
    if metric == "euclidean":
        found = 1 - found / found.max() if found.max() else np.ones((n, n))
    return found


def facility_location(similarity, chosen):
    """Return the sum, over all, of the similarity of the most similar one chosen."""
    return sum(max(row[j] for j in chosen) for row in similarity) if len(chosen) else 0.0


def graph_cut(similarity, chosen, lam):
    """Return the similarity of those chosen to all, less lam times that to each other."""
    everything = sum(similarity[i, j] for i in range(len(similarity)) for j in chosen)
    return everything - lam * sum(similarity[i, j] for i in chosen for j in chosen)


def greedy(value, n, k):
    """Return k of 0 ... n - 1, in order: each time what makes `value(set)` largest, of equal ones the lowest."""
    chosen, slack = [], None
    for _ in range(k):
        values = {j: value([*chosen, j]) for j in range(n) if j not in chosen}
        slack = 1e-10 * max(abs(found) for found in values.values()) if slack is None else slack
        chosen.append(min(j for j, found in values.items() if found >= max(values.values()) - slack))
    return chosen


def largest(value, n, k):
    """Return the largest value of any k of n."""
    return max(value(list(chosen)) for chosen in combinations(range(n), k))


def cluster_sizes(distance, chosen):
    """Return how many are nearest to each of those chosen, who belong to themselves; of equal ones, to the earlier."""
    sizes = dict.fromkeys(chosen, 0)
    for i, row in enumerate(distance):
        sizes[i if i in sizes else min(chosen, key=lambda j: row[j])] += 1
    return [sizes[j] for j in chosen]
