"""Moderate, word for word: centres, distances, a sort, a window."""

from __future__ import annotations

import statistics


def distances(features, targets, center):
    """Return each sample's distance to its class's centre, in plain Python."""
    middle = {"median": statistics.median, "mean": statistics.fmean}[center]
    found = []
    for feature, target in zip(features, targets):
        members = [other for other, label in zip(features, targets) if label == target]
        centre = [middle([member[j] for member in members]) for j in range(len(feature))]
        found.append(sum((a - b) ** 2 for a, b in zip(feature, centre)) ** 0.5)
    return found


def window(scores, k):
    """Return the k positions in the middle of the ranking, ascending."""
    ranked = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    below = (len(scores) - k) // 2
    return sorted(ranked[below : below + k])
