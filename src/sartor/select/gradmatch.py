"""GradMatch: a few weighted samples of each class whose last-layer gradients add up to the gradient of all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.errors import check_range
from sartor.registry import SELECTORS
from sartor.scanning import Scan
from sartor.select.budget import check_budget, class_budgets
from sartor.select.head_gradients import HeadGradients
from sartor.select.pursuit import pursue
from sartor.types import Subset


@SELECTORS.register("gradmatch")
@dataclass(frozen=True)
class GradMatch:
    """Orthogonal matching pursuit on last-layer gradients, class by class (Killamsetty et al. 2021, Alg. 2), weighted.

    In each class w >= 0 minimises |sum_i w_i g_i - G|^2 + ridge * m * |w|^2, where G is the sum of the class's
    gradients and m the mean of their squared norms, so that `ridge` means the same at any scale. Budgets follow the
    class sizes by largest remainder, at least one each. Where fewer samples than that match G as well as can be, the
    rest is drawn at random: see `with_fill`.
    Differs: the ridge is relative; no sample is taken twice; the budget is met exactly.
    """

    least_per_class: ClassVar[int] = 1

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
            matched = pursue(HeadGradients.of(scan, members), budget, ridge=self.ridge)
            chosen, own = with_fill(*matched, n=len(members), k=budget, generator=generator)
            rows.append(scan.rows[members[chosen]])
            weights.append(own)
        return Subset.of(torch.cat(rows), torch.cat(weights))


def with_fill(
    chosen: Int64[Tensor, "m"], weights: Float64[Tensor, "m"], *, n: int, k: int, generator: torch.Generator
) -> tuple[Int64[Tensor, "k"], Float64[Tensor, "k"]]:
    """Complete m chosen of n samples to k by random ones, without a change of the sum of the weights.

    Those drawn get the mean weight of those chosen; then all are scaled back to the old sum. A random part of a class
    stands for the class, so the direction that is matched stays what it was on average. Where none was chosen, as
    when all gradients are zero, each weighs n / k.
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
