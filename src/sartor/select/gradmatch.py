"""GradMatch: a few weighted samples of each class whose last-layer gradients add up to the gradient of all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.linalg import cho_solve, qr_delete, solve_triangular
from torch import Tensor

from sartor.errors import check_range
from sartor.registry import SELECTORS
from sartor.select.budget import check_budget, class_budgets
from sartor.select.head_gradients import HeadGradients
from sartor.types import Subset

if TYPE_CHECKING:
    from sartor.scan import Scan

ROUNDING = 1e-10
"""What is smaller than this share of its scale is zero; far above float64's own errors, far below any use."""
LEAST_GAIN = 1e-12
"""A step that lowers the objective by a smaller share than this has gained nothing."""
AHEAD = 16
"""Gram columns computed at once, for the likeliest samples: half of the coming steps then find theirs ready."""


@SELECTORS.register("gradmatch")
@dataclass(frozen=True)
class GradMatch:
    """Orthogonal matching pursuit on last-layer gradients, class by class (Killamsetty et al. 2021, Alg. 2), weighted.

    In each class w >= 0 minimises |sum_i w_i g_i - G|^2 + ridge * m * |w|^2, where G is the sum of the class's
    gradients and m the mean of their squared norms, so that `ridge` means the same at any scale. Budgets follow the
    class sizes by largest remainder, at least one each. Where fewer samples than that match G as well as can be, the
    rest is drawn at random: see `with_fill`.
    Differs: the ridge is relative; no sample is taken twice; a budget is met exactly.
    """

    ridge: float = 0.5

    def __post_init__(self) -> None:
        check_range("ridge", self.ridge, 0, float("inf"), high_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """Logits, features and targets."""
        return frozenset({"logits", "features", "targets"})

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows and their weights. Raises: SelectionError: for a k out of reach, or below one a class."""
        check_budget(scan, k)
        rows, weights = [], []
        for label, budget in class_budgets(scan.targets, k, none_empty=True).items():
            members = (scan.targets == label).nonzero().squeeze(1)
            gradients = HeadGradients.of(scan, members)
            chosen, own = with_fill(*pursue(gradients, budget, ridge=self.ridge), len(members), budget, generator)
            rows.append(scan.rows[members[chosen]])
            weights.append(own)
        return Subset.of(torch.cat(rows), torch.cat(weights))


def pursue(
    gradients: HeadGradients, k: int, *, ridge: float
) -> tuple[Int64[Tensor, "m"], Float64[Tensor, "m"]]:
    """Choose m <= k samples and weights > 0 whose gradients add up to the sum of all of them.

    Each step takes the sample whose gradient has the largest inner product with what is still missing (ties within
    rounding go to the lower position) and replaces the weights by the minimiser over w >= 0 on the samples held. One
    whose weight becomes zero is let go and may come back. Ends at k samples, where no inner product is positive (then w is optimal
    over all samples), or where a step gains nothing. The objective falls with every step, so the pursuit ends.
    Time O(k n (c + d + k)), memory O(n (c + d + k)).
    """
    norms = gradients.squared_norms()
    slack = ROUNDING * float(norms.max().sqrt() * norms.sqrt().sum())
    fit = _Fit(gradients, k, ridge * float(norms.mean()))
    lowered, dropped = 0.0, set[int]()
    while len(fit.held) < k:
        missing = fit.correlations()
        entering = _best(missing, sorted(dropped), slack)
        if entering is None:
            dropped.clear()
            missing[fit.held] = -torch.inf
            entering = _best(missing, None, slack)
        if entering is None or not fit.admit(entering, missing):
            break
        dropped = (dropped - {entering}) | fit.settle()
        before, lowered = lowered, fit.lowered()
        if lowered <= before * (1 + LEAST_GAIN):
            break
    return torch.tensor(fit.held, dtype=torch.int64), torch.from_numpy(fit.weights)


def with_fill(
    chosen: Int64[Tensor, "m"],
    weights: Float64[Tensor, "m"],
    n: int,
    k: int,
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "k"], Float64[Tensor, "k"]]:
    """Complete m of n samples to k by random ones, without a change of the sum of the weights.

    Those drawn get the mean weight of those chosen, then all are scaled back to the old sum: a random part of a class
    stands for the class, so the expected direction stays. Where none was chosen, as for gradients that
    are all zero, each weighs n / k.
    """
    short = k - len(chosen)
    if short == 0:
        return chosen, weights
    free = torch.ones(n, dtype=torch.bool)
    free[chosen] = False
    others = free.nonzero().squeeze(1)
    drawn = others[torch.randperm(len(others), generator=generator)[:short]]
    if len(chosen) == 0:
        return drawn, torch.full((k,), n / k, dtype=torch.float64)
    alike = weights.mean().expand(short)
    return torch.cat([chosen, drawn]), torch.cat([weights, alike]) * (len(chosen) / k)


def _best(missing: Float64[Tensor, "n"], among: list[int] | None, slack: float) -> int | None:
    """Return the position with the largest value, the lowest of equal ones; None if it is not positive."""
    values = missing if among is None else missing[among]
    if len(values) == 0 or float(values.max()) <= slack:
        return None
    first = int((values >= values.max() - slack).nonzero()[0])
    return first if among is None else among[first]


class _Fit:
    """Non-negative ridge least squares on the samples held, kept up to date as they come and go."""

    def __init__(self, gradients: HeadGradients, k: int, ridge: float) -> None:
        self.gradients, self.ridge = gradients, ridge
        self.target = gradients.along(gradients.total())
        self.held: list[int] = []
        self.weights = np.zeros(0)
        self.columns = torch.empty(k, len(gradients), dtype=torch.float64)
        self.ahead: dict[int, Tensor] = {}
        self.factor = Cholesky()

    def lowered(self) -> float:
        """Return how far the objective lies below that of no samples at all."""
        return float(self.target[self.held].numpy() @ self.weights)

    def correlations(self) -> Float64[Tensor, "n"]:
        """Return every gradient's inner product with what is still missing of the sum."""
        return self.target - self.columns[: len(self.held)].T @ torch.from_numpy(self.weights)

    def admit(self, position: int, missing: Float64[Tensor, "n"]) -> bool:
        """Hold one more sample, with weight 0 for now; False where its gradient depends on those held."""
        if position not in self.ahead:
            likely = torch.cat([torch.tensor([position]), missing.topk(min(AHEAD, len(missing)) - 1).indices])
            self.ahead = dict(zip(likely.tolist(), self.gradients.columns(likely)))
        column = self.ahead[position]
        if not self.factor.append(column[self.held].numpy(), float(column[position]) + self.ridge):
            return False
        self.columns[len(self.held)] = column
        self.held.append(position)
        self.weights = np.append(self.weights, 0.0)
        return True

    def settle(self) -> set[int]:
        """Set the weights to the least-squares solution; let go, and return, samples that it would not have positive.

        The inner loop of Lawson and Hanson (1974, ch. 23): walk from the old weights towards the solution until the
        first one is zero, let that go, solve again.
        """
        dropped = set[int]()
        while self.held:
            solution = self.factor.solve(self.target[self.held].numpy())
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
        self.weights = np.delete(self.weights, place)
        self.factor.delete(place)
        return self.held.pop(place)


@dataclass
class Cholesky:
    """The factor R, upper triangular with R^T R = A, of a matrix that grows and shrinks by a row and column."""

    upper: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0), order="F"))

    def append(self, across: NDArray[Any], diagonal: float) -> bool:
        """Border A by a column and its diagonal entry, in O(m^2); False where A would not stay positive definite."""
        size = len(self.upper)
        above = solve_triangular(self.upper, across, trans=1, check_finite=False) if size else across
        pivot = diagonal - float(above @ above)
        if pivot <= LEAST_GAIN * diagonal:
            return False
        grown = np.zeros((size + 1, size + 1), order="F")
        grown[:size, :size], grown[:size, size], grown[size, size] = self.upper, above, np.sqrt(pivot)
        self.upper = grown
        return True

    def delete(self, place: int) -> None:
        """Take a row and column out of A, in O(m^2), by Givens rotations."""
        size = len(self.upper)
        _, reduced = qr_delete(np.eye(size), self.upper, place, which="col", check_finite=False)
        self.upper = np.asfortranarray(reduced[: size - 1])

    def solve(self, right: NDArray[Any]) -> NDArray[Any]:
        """Return A^-1 right, in O(m^2)."""
        return cho_solve((self.upper, False), right, check_finite=False)
