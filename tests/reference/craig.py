"""CRAIG, word for word: gradients are built, all distances measured, every set is evaluated whole."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from reference import submodular


def medoids(vectors, k):
    """Return k medoids, in order, and how many vectors each is the nearest to, itself included."""
    distance = cdist(vectors, vectors)
    similarity = distance.max() - distance
    chosen = submodular.greedy(lambda some: submodular.facility_location(similarity, some), len(vectors), k)
    return chosen, submodular.cluster_sizes(distance, chosen)


def cost(vectors, chosen):
    """Return the sum of the distances to the nearest one chosen."""
    return cdist(vectors, vectors[list(chosen)]).min(1).sum()


def by_batches(gradients, batches, k):
    """Return the weight of every sample that whole mini-batches choose; of the last one its first samples."""
    means = np.array([np.mean([gradients[i] for i in batch], axis=0) for batch in batches])
    chosen, held = [], 0
    for place in medoids(means, len(batches))[0]:
        if held < k:
            chosen.append(place)
            held += len(batches[place])
    distance = cdist(means, means)
    served = dict.fromkeys(chosen, 0)
    for place, row in enumerate(distance):
        served[place if place in served else min(chosen, key=lambda j: row[j])] += len(batches[place])
    weights = {i: served[place] / len(batches[place]) for place in chosen for i in batches[place]}
    weights = dict(list(weights.items())[:k])
    return {i: weight * len(gradients) / sum(weights.values()) for i, weight in weights.items()}
