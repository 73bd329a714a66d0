"""Non-negative orthogonal matching pursuit, word for word: gradients are built, every step is solved from scratch."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls


def built_gradients(errors, features, *, bias):
    """Return the n x (c * (d + bias)) gradients of the last Linear, one row for each sample."""
    rows = []
    for error, feature in zip(np.asarray(errors, dtype=np.float64), np.asarray(features, dtype=np.float64)):
        inputs = np.append(feature, 1.0) if bias else feature
        rows.append(np.outer(error, inputs).ravel())
    return np.array(rows)


def best_weights(gradients, target, penalty):
    """Return the minimiser over w >= 0 of |w G - target|^2 + penalty * |w|^2."""
    count = len(gradients)
    stacked = np.vstack([gradients.T, np.sqrt(penalty) * np.eye(count)])
    weights, _ = nnls(stacked, np.concatenate([target, np.zeros(count)]), maxiter=50 * count)
    positive = weights > 1e-10 * weights.max()
    weights[~positive] = 0
    held = gradients[positive]
    weights[positive] = np.linalg.solve(held @ held.T + penalty * np.eye(len(held)), held @ target)
    return weights


def objective(gradients, weights, ridge):
    """Return |sum_i w_i g_i - sum_i g_i|^2 + ridge * mean(|g|^2) * |w|^2, w over all samples."""
    missing = gradients.sum(0) - weights @ gradients
    return missing @ missing + ridge * (gradients**2).sum(1).mean() * (weights @ weights)


def pursue(gradients, k, ridge):
    """Return the chosen positions, ascending, and their weights."""
    held, weights, _ = pursue_atoms(gradients, [1] * len(gradients), k, ridge)
    return held, weights


def pursue_atoms(gradients, sizes, k, ridge):
    """Do so until what is held stands for k samples; return, besides, the position that entered last."""
    norms = np.linalg.norm(gradients, axis=1)
    zero = 1e-10 * norms.max() * norms.sum()
    target = gradients.sum(0)
    penalty = ridge * (norms**2).mean()
    held, weights, last = [], np.zeros(0), None
    lowered = 0.0
    while sum(sizes[i] for i in held) < k:
        inner = gradients @ (target - weights @ gradients[held])
        free = [i for i in range(len(gradients)) if i not in held]
        best = max(inner[free])
        if best <= zero:
            break
        last = next(i for i in free if inner[i] >= best - zero)
        trial = sorted([*held, last])
        solution = best_weights(gradients[trial], target, penalty)
        held = [i for i, weight in zip(trial, solution) if weight > 0]
        weights = solution[solution > 0]
        before, lowered = lowered, float(gradients[held] @ target @ weights)
        if lowered <= before * (1 + 1e-12):
            break
    return held, weights, last


def match_batches(gradients, batches, k, ridge):
    """Return the weight of every sample that whole mini-batches choose; the last one only gives its first samples."""
    sums = np.array([sum(gradients[i] for i in batch) for batch in batches])
    held, weights, last = pursue_atoms(sums, [len(batch) for batch in batches], k, ridge)
    found = {}
    for place, weight in zip(held, weights):
        if place != last:
            found.update(dict.fromkeys(batches[place], weight))
    if last in held:
        room = k - len(found)
        found.update(dict.fromkeys(batches[last][:room], weights[held.index(last)]))
    return found


def own_row(gradients, label, classes):
    """Return the part of built gradients in the row of one class's logit."""
    return gradients.reshape(len(gradients), classes, -1)[:, label]
