"""DUAL's draw, word for word: one sample after the other, and the probability of every outcome."""

from __future__ import annotations

from itertools import permutations

from scipy.stats import beta


def weights(scores, probabilities, kept, c_d):
    """Return score x beta density for samples with these mean probabilities (Cho et al. 2025, Sec. 3.3)."""
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:10]
    mean = sum(probabilities[i] for i in best) / len(best)
    b = 15 * (1 - mean) * (1 - (1 - kept) ** c_d)
    return [score * beta.pdf(p, 16 - b, b) for score, p in zip(scores, probabilities)]


def chance_of_each(weights, k):
    """Return how likely each sample is among k that are drawn in turn, each in proportion to what is left."""
    chances = [0.0] * len(weights)
    for drawn in permutations(range(len(weights)), k):
        likely, left = 1.0, sum(weights)
        for i in drawn:
            likely, left = likely * weights[i] / left, left - weights[i]
        for i in drawn:
            chances[i] += likely
    return chances
