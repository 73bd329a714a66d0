"""Slow, literal versions of the polynomial experiments: exact fractions, losses summed point by point."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.optimize import minimize


def solve(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination of a regular system."""
    n = len(matrix)
    rows = [[*row, value] for row, value in zip(matrix, right)]
    for i in range(n):
        pivot = next(r for r in range(i, n) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(n):
            if r != i:
                rows[r] = [a - rows[r][i] * b for a, b in zip(rows[r], rows[i])]
    return [row[n] for row in rows]


def fit(x: Sequence[Fraction], y: Sequence[Fraction], degree: int) -> list[Fraction]:
    """Monomial coefficients: of least squares for many points, of the smallest norm through few distinct ones."""
    columns = [[point**power for power in range(degree + 1)] for point in x]
    if len(x) > degree:
        gram = [[sum(row[i] * row[j] for row in columns) for j in range(degree + 1)] for i in range(degree + 1)]
        right = [sum(row[i] * value for row, value in zip(columns, y)) for i in range(degree + 1)]
        return solve(gram, right)
    gram = [[sum(a * b for a, b in zip(one, two)) for two in columns] for one in columns]
    weights = solve(gram, list(y))
    return [sum(w * row[i] for w, row in zip(weights, columns)) for i in range(degree + 1)]


def loss(theta: Sequence[float], x: Sequence[float], y: Sequence[float]) -> float:
    """Mean squared error of a polynomial."""
    return sum((sum(c * p**i for i, c in enumerate(theta)) - v) ** 2 for p, v in zip(x, y)) / len(x)


def difficulty(full: tuple, subset: tuple, degree: int, starts: int = 40) -> float:
    """sup |L - L^| / L, climbed from many places; the largest value found, which is no more than the supremum."""
    random = np.random.default_rng(0)

    def negative(theta: np.ndarray) -> float:
        whole = loss(theta, *full)
        return -abs(whole - loss(theta, *subset)) / whole

    best = 0.0
    for size in (0.3, 1.0, 10.0, 100.0):
        for _ in range(starts // 4):
            found = minimize(negative, size * random.standard_normal(degree + 1), method="Nelder-Mead")
            best = max(best, -found.fun)
    return best
