"""Mathematics of the polynomial experiments: fits, pruned fits, and the difficulty I(D, D^) in closed form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.polynomial import chebyshev, legendre, polynomial

from sartor.randomness import generator

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "runge": lambda x: 1 / (1 + 25 * x**2),
    "sine": lambda x: np.sin(np.pi * x),
    "exponential": np.exp,
    "absolute": np.abs,
    "step": lambda x: np.where(x < 0, 0.0, 1.0),
}
"""What is sampled, on [-1, 1]."""
BASES: dict[str, Callable[[Any, int], Any]] = {
    "monomial": polynomial.polyvander,
    "legendre": legendre.legvander,
    "chebyshev": chebyshev.chebvander,
}
"""Columns of a polynomial's values: x, degree -> (n, degree + 1)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Points of a function on [-1, 1], sorted, and which of them are noisy."""

    x: Float[ndarray, "n"]
    y: Float[ndarray, "n"]
    noisy: Bool[ndarray, "n"]

    def only(self, which: Bool[ndarray, "n"]) -> Sample:
        """Return some of the points."""
        return Sample(self.x[which], self.y[which], self.noisy[which])

    def joined(self, other: Sample) -> Sample:
        """Return the points of both, sorted."""
        x = np.concatenate([self.x, other.x])
        order = np.argsort(x, kind="stable")
        y, noisy = np.concatenate([self.y, other.y]), np.concatenate([self.noisy, other.noisy])
        return Sample(x[order], y[order], noisy[order])


def draw(function: str, n: int, noisy: int, *, seed: int, purpose: str, spaced: bool, noise: float = 0.1) -> Sample:
    """Draw n points of a function; `noisy` of them get Gaussian noise of standard deviation `noise`.

    `spaced` puts them at equal distances from -1 to 1 and the noisy ones evenly among them (of ten every other one);
    else both are at random.
    """
    source = generator(seed, purpose)
    uniform = torch.rand(n, generator=source, dtype=torch.float64).numpy()
    x = np.linspace(-1, 1, n) if spaced else np.sort(2 * uniform - 1)
    marked = np.zeros(n, dtype=bool)
    even = np.arange(1, 2 * noisy, 2) * n // (2 * max(1, noisy))
    marked[even if spaced else torch.randperm(n, generator=source).numpy()[:noisy]] = True
    errors = noise * torch.randn(n, generator=source, dtype=torch.float64).numpy()
    return Sample(x, FUNCTIONS[function](x) + errors * marked, marked)


def fit(x: Float[ndarray, "n"], y: Float[ndarray, "n"], degree: int, basis: str) -> Float[ndarray, "p"]:
    """Return the coefficients of least squares; of many solutions the one of the smallest norm."""
    return np.linalg.lstsq(BASES[basis](x, degree), y, rcond=None)[0]


def smallest(coefficients: Float[ndarray, "p"], count: int) -> list[int]:
    """Return the places of the `count` smallest magnitudes, of equal ones the first."""
    return np.argsort(np.abs(coefficients), kind="stable")[:count].tolist()


def alike(coefficients: Float[ndarray, "p"], shares: Sequence[float]) -> list[int]:
    """Return places whose magnitudes, relative to the largest, are nearest to `shares`, each place once."""
    relative = np.abs(coefficients) / max(np.abs(coefficients).max(), np.finfo(float).tiny)
    places: list[int] = []
    for share in shares:
        places.append(min(set(range(len(relative))) - set(places), key=lambda i: (abs(relative[i] - share), i)))
    return places


def without(coefficients: Float[ndarray, "p"], places: Sequence[int]) -> Float[ndarray, "p"]:
    """Return the coefficients with 0 in some places."""
    kept = coefficients.copy()
    kept[list(places)] = 0.0
    return kept


def error(coefficients: Float[ndarray, "p"], function: str, basis: str) -> float:
    """Return the mean squared distance to the function itself on 1001 points of [-1, 1]."""
    x, columns = grid(basis, len(coefficients) - 1)
    return float(np.mean((columns @ coefficients - FUNCTIONS[function](x)) ** 2))


@functools.cache
def grid(basis: str, degree: int) -> tuple[Float[ndarray, "m"], Float[ndarray, "m p"]]:
    """Return 1001 points of [-1, 1] and the values of a basis there."""
    x = np.linspace(-1, 1, 1001)
    return x, BASES[basis](x, degree)


def difficulty(full: Sample, subset: Sample, degree: int, *, tolerance: float = 1e-12) -> float:
    """Return I(D, D^) = sup over theta of |L(theta) - L^(theta)| / L(theta) for polynomials (SWaST, Eq. 2); inf if L
    can be 0 where L^ is not.

    With phi = (theta, 1), L = phi' A phi and L^ = phi' B phi with A = Z'Z / n and Z = [columns, -y], so that
    I = max |1 - lambda| over the generalised eigenvalues of B phi = lambda A phi. They are taken as squared singular
    values of Z^ V / S, where Z = U S V' (Legendre columns, so that Z is well conditioned): A is never formed.
    Directions in which both losses vanish do not count.
    """
    z, other = (np.column_stack([legendre.legvander(s.x, degree), -s.y]) for s in (full, subset))
    _, values, rows = np.linalg.svd(z, full_matrices=True)
    rank = int((values > tolerance * values[0]).sum())
    scale = np.linalg.norm(other)
    if np.linalg.norm(other @ rows[rank:].T) > 1e-9 * scale:
        return float("inf")
    ratios = np.linalg.svd(other @ (rows[:rank].T / values[:rank]), compute_uv=False) ** 2 * len(z) / len(other)
    if len(ratios) < rank:
        ratios = np.append(ratios, 0.0)
    return float(np.abs(1 - ratios).max())


def subset_cap(n: int, m: int) -> float:
    """Return the most that I(D, D^) can be where D^ is m of the n points of D, all with equal weight.

    n L >= m L^ >= 0, so that L^ / L lies between 0 and n / m.
    """
    return max(1.0, n / m - 1)
