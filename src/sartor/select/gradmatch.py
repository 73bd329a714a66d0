"""GradMatch: a few weighted samples whose last-layer gradients add up to the gradient of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.data.loader import even_sizes
from sartor.errors import ConfigError, check_choice, check_range
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.batch_gradients import BatchGradients, batch_flops, mini_batches
from sartor.select.budget import check_budget, class_budgets, members_by_class
from sartor.select.head_gradients import HeadGradients
from sartor.select.pursuit import pursue, pursuit_flops
from sartor.types import Subset

VARIANTS = ("class", "class-gradient", "batch", "all")
Match = tuple[Int64[Tensor, "k"], Float64[Tensor, "k"]]
"""Positions in the scan and their raw weights."""


@SELECTORS.register("gradmatch")
@dataclass(frozen=True)
class GradMatch:
    """Orthogonal matching pursuit on last-layer gradients (Killamsetty et al. 2021, Alg. 2), weighted.

    w >= 0 minimises |sum_i w_i g_i - G|^2 + ridge * m * |w|^2, G the sum of the gradients, m the mean of their squared
    norms, so that `ridge` means the same at any scale. `per` tells of what: "class" by class, "class-gradient" the same
    with the part of g in the class's own logit, "batch" random mini-batches of about `batch_size`, taken whole with one
    weight, or "all" samples at once. Where fewer samples than k match G as well as can be, the rest is drawn at random:
    see `with_fill`.
    Differs: the ridge is relative; nothing is taken twice; the budget is met exactly: the mini-batch that enters last
    gives a random part; mini-batches count by their samples.
    """

    needs_linear_head: ClassVar[bool] = True

    ridge: float = 0.5
    per: str = "class"
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_choice("per", self.per, VARIANTS)
        check_range("ridge", self.ridge, 0, float("inf"), high_open=True)
        check_range("batch_size", self.batch_size, 1, float("inf"), high_open=True)
        if self.per != "batch" and self.batch_size != GradMatch.batch_size:
            raise ConfigError(f"batch_size is for per='batch' and has no effect with per={self.per!r}; leave it out.")

    @property
    def needs(self) -> frozenset[str]:
        """Logits, features and targets."""
        return frozenset({"logits", "features", "targets"})

    @property
    def least_per_class(self) -> int:
        """How many samples each class needs: one, where classes are matched one by one."""
        return 1 if self.by_class else 0

    @property
    def by_class(self) -> bool:
        """Whether each class is matched for itself."""
        return self.per in ("class", "class-gradient")

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows and their weights. Raises: SelectionError: for a k out of reach, or below one a class."""
        check_budget(scan, k)
        match = self._match_batches if self.per == "batch" else self._match_samples
        positions, weights = match(scan, k, generator)
        flops = self.arithmetic(len(scan), k, classes=scan.logits.shape[1], features=scan.features.shape[1])
        return Subset.of(scan.rows[positions], weights, flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a selection, 2 per multiply-add, as if classes were of equal size and none was let go."""
        if self.per == "batch":
            atoms = len(even_sizes(n, self.batch_size))
            own = batch_flops(n, atoms, classes=classes, features=features)
            return own + pursuit_flops(atoms, k * atoms / n, product=0)
        groups = classes if self.by_class else 1
        outputs = 1 if self.per == "class-gradient" else classes
        target = 4.0 * n * outputs * features
        return target + groups * pursuit_flops(n / groups, k / groups, product=outputs + features)

    def _match_samples(self, scan: Scan, k: int, generator: torch.Generator) -> Match:
        """Match class by class, or all at once."""
        groups = scan.targets if self.by_class else torch.zeros_like(scan.targets)
        matches = []
        budgets = class_budgets(groups, k, none_empty=True)
        for label, members in members_by_class(groups).items():
            gradients = HeadGradients.of(scan, members)
            if self.per == "class-gradient":
                gradients = gradients.of_outputs(slice(label, label + 1))
            matched = pursue(gradients, budgets[label], ridge=self.ridge)
            chosen, weights = with_fill(*matched, n=len(members), k=budgets[label], generator=generator)
            matches.append((members[chosen], weights))
        positions, all_weights = zip(*matches)
        return torch.cat(positions), torch.cat(all_weights)

    def _match_batches(self, scan: Scan, k: int, generator: torch.Generator) -> Match:
        """Match with mini-batches; of the one that entered last only as many samples as k leaves room for."""
        batches = mini_batches(len(scan), self.batch_size, generator=generator)
        gradients = BatchGradients.of(scan, batches)
        held, weights = pursue(gradients, k, ridge=self.ridge)
        chosen = torch.cat([torch.zeros(0, dtype=torch.int64), *(batches[place] for place in held)])[:k]
        weights = weights.repeat_interleave(gradients.sizes[held])[:k]
        return with_fill(chosen, weights, n=len(scan), k=k, generator=generator)


def with_fill(
    chosen: Int64[Tensor, "m"], weights: Float64[Tensor, "m"], *, n: int, k: int, generator: torch.Generator
) -> Match:
    """Complete m chosen of n samples to k by random ones, without a change of the sum of the weights.

    Those drawn get the mean weight of those chosen; then all are scaled back to the old sum. A random part of the
    samples stands for all, so the direction that is matched stays what it was on average. Where none was chosen, as
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
