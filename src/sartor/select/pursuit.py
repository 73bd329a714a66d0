"""Non-negative orthogonal matching pursuit on gradients that are never built."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.select.atoms import Atoms
from sartor.select.cholesky import Cholesky

ROUNDING = 1e-10
"""What is smaller than this share of its scale is zero; far above float64's own errors, far below any use."""
LEAST_GAIN = 1e-12
"""A step that lowers the objective by a smaller share than this has gained nothing."""
SCREENING = 1e-5
"""Inner products in float32 are within this share of the norms' product; whatever could be best is looked at again."""
AHEAD = 16
"""Gram columns computed at once, for the likeliest samples: most of the next steps then find theirs ready."""


def pursue(gradients: Atoms, k: int, *, ridge: float) -> tuple[Int64[Tensor, "m"], Float64[Tensor, "m"]]:
    """Choose atoms that stand for k samples, and weights w > 0, whose gradients add up to the sum G of all of them.

    The objective is |sum_i w_i g_i - G|^2 + ridge * mean(|g|^2) * |w|^2. Each step takes the atom with the largest
    inner product with what is missing of G (ties, within rounding, go to the lower position) and sets the weights to
    the minimiser over w >= 0 on the atoms held. One whose weight becomes 0 is let go and may come back. It ends with k
    samples (or more, by a part of the atom that entered last), where no inner product is positive (then w is optimal
    over all atoms), or where a step gains nothing. The objective falls with every step, so no set is held twice.
    Returns the atoms in the order in which they entered. For m of n atoms: m n numbers and O(m^2 n) time, beside the
    inner products.
    """
    fit = _Fit(gradients.near_one(), k, ridge)
    lowered, dropped = 0.0, set[int]()
    while fit.taken < k:
        entering = fit.best(torch.tensor(sorted(dropped))) if dropped else None
        if entering is None:
            dropped.clear()
            entering = fit.best(fit.screened())
        if entering is None or not fit.admit(*entering):
            break
        dropped = (dropped - {entering[0]}) | fit.settle()
        before, lowered = lowered, fit.lowered()
        if lowered <= before * (1 + LEAST_GAIN):
            break
    return torch.tensor(fit.held, dtype=torch.int64), torch.from_numpy(fit.weights)


def pursuit_flops(n: float, m: float, *, product: float) -> float:
    """Return the FLOPs, 2 per multiply-add, of picking m of n atoms when none is let go.

    A pick takes a column of the Gram matrix and n products with the weights; then, with t atoms held, t exact inner
    products and three triangular solves. `product` counts the multiply-adds of one inner product.
    """
    return 2 * m * n * product + m**2 * n + m**2 * product + m**3


class _Fit:
    """Non-negative ridge least squares on the atoms held, kept up to date as they come and go.

    Whatever decides is float64; float32 columns of the Gram matrix only narrow down who may be best.
    """

    def __init__(self, gradients: Atoms, k: int, ridge: float) -> None:
        self.gradients, self.sizes = gradients, gradients.sizes
        self.target = gradients.target()
        self.norms = gradients.norms()
        self.ridge = ridge * float(self.norms.square().mean())
        self.slack = ROUNDING * float(self.norms.max()) * float(self.norms.sum())
        self.held: list[int] = []
        self.taken = 0  # samples that the atoms held stand for
        self.weights, self.right = np.zeros(0), np.zeros(0)
        most = math.ceil(k / int(self.sizes.min()))
        self.factor = Cholesky(most)
        self.columns = torch.empty(most, len(gradients))
        self.ahead: dict[int, Tensor] = {}
        self.missing = self.target
        self.twins = gradients.first_twins().numpy()

    def lowered(self) -> float:
        """Return how far the objective lies below that of no atoms at all."""
        return float(self.right @ self.weights)

    def screened(self) -> Int64[Tensor, "m"]:
        """Return, ascending, the atoms not held that may have the largest inner product with what is missing.

        Of atoms that are the same, only the first: a dead network makes all samples of a class the same.
        """
        weights = torch.from_numpy(self.weights)
        self.missing = self.target - self.columns[: len(self.held)].T @ weights.float()
        self.missing[self.held] = -torch.inf
        doubt = SCREENING * float(self.norms[self.held] @ weights) * self.norms
        least = (self.missing - doubt).max() - self.slack
        positions = (self.missing + doubt >= least).nonzero().squeeze(1)
        _, firsts = np.unique(self.twins[positions.numpy()], return_index=True)
        return positions[torch.from_numpy(np.sort(firsts))]

    def best(self, positions: Int64[Tensor, "m"]) -> tuple[int, Float64[Tensor, "t"]] | None:
        """Return the one with the largest inner product with what is missing, and its products with those held.

        The lowest of equal ones; None if there is none whose inner product is positive.
        """
        held = torch.tensor(self.held, dtype=torch.int64)
        missing = self.target[positions] - self.gradients.along(positions, held, torch.from_numpy(self.weights))
        if float(missing.max()) <= self.slack:
            return None
        first = positions[(missing >= missing.max() - self.slack).nonzero()[0]]
        return int(first), self.gradients.gram(first, held)[0]

    def admit(self, position: int, across: Float64[Tensor, "t"]) -> bool:
        """Hold one more atom, with weight 0 for now; False where its gradient depends on those held."""
        if not self.factor.append(across.numpy(), float(self.norms[position] ** 2) + self.ridge):
            return False
        if position not in self.ahead:
            likely = self.missing.topk(min(AHEAD, len(self.missing)) - 1).indices
            likely = torch.cat([torch.tensor([position]), likely])
            self.ahead = dict(zip(likely.tolist(), self.gradients.columns(likely)))
        self.columns[len(self.held)] = self.ahead[position]
        self.held.append(position)
        self.taken += int(self.sizes[position])
        self.weights, self.right = np.append(self.weights, 0.0), np.append(self.right, float(self.target[position]))
        return True

    def settle(self) -> set[int]:
        """Set the weights to the least-squares solution; let go, and return, atoms that it would not have positive.

        The inner loop of Lawson and Hanson (1974, ch. 23): walk from the old weights towards the solution until the
        first one is zero, let that go, solve again.
        """
        dropped = set[int]()
        while self.held:
            solution = self.factor.solve(self.right)
            vanishing = np.flatnonzero(solution <= ROUNDING * solution.max())
            if len(vanishing) == 0:
                self.weights = solution
                break
            old, new = self.weights[vanishing], np.minimum(solution[vanishing], 0)
            reach = old / np.maximum(old - new, np.finfo(float).tiny)
            self.weights = self.weights + reach.min() * (solution - self.weights)
            for place in vanishing[reach == reach.min()][::-1]:
                dropped.add(self._release(int(place)))
        return dropped

    def _release(self, place: int) -> int:
        last = len(self.held) - 1
        self.columns[place:last] = self.columns[place + 1 : last + 1].clone()
        self.weights, self.right = np.delete(self.weights, place), np.delete(self.right, place)
        self.factor.delete(place)
        position = self.held.pop(place)
        self.taken -= int(self.sizes[position])
        return position
