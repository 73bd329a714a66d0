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
    norms = np.linalg.norm(gradients, axis=1)
    zero = 1e-10 * norms.max() * norms.sum()
    target = gradients.sum(0)
    penalty = ridge * (norms**2).mean()
    held, weights = [], np.zeros(0)
    lowered = 0.0
    while len(held) < k:
        inner = gradients @ (target - weights @ gradients[held])
        free = [i for i in range(len(gradients)) if i not in held]
        best = max(inner[free])
        if best <= zero:
            break
        trial = sorted([*held, next(i for i in free if inner[i] >= best - zero)])
        solution = best_weights(gradients[trial], target, penalty)
        held = [i for i, weight in zip(trial, solution) if weight > 0]
        weights = solution[solution > 0]
        before, lowered = lowered, float(gradients[held] @ target @ weights)
        if lowered <= before * (1 + 1e-12):
            break
    return held, weights
