"""CRAIG: the samples whose gradients stand for those of all others, weighted by how many they stand for."""

from __future__ import annotations

import math
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
from sartor.select.facility import Coverage, Covering
from sartor.select.greedy import EPS
from sartor.select.similarity import MEMORY, Index, Vectors
from sartor.types import Subset

VARIANTS = ("class", "batch", "all")
Medoids = tuple[Int64[Tensor, "k"], Float64[Tensor, "k"]]
"""Positions in the scan, and their weights."""


@dataclass(frozen=True, eq=False)
class MeanGradients:
    """The inner products of mini-batches' mean gradients."""

    products: Float64[Tensor, "a a"]

    @classmethod
    def of(cls, batches: BatchGradients) -> MeanGradients:
        """Divide the sums over mini-batches by their sizes."""
        sizes = batches.sizes.double()
        return cls(batches.products / sizes / sizes[:, None])

    def __len__(self) -> int:
        return len(self.products)

    def norms(self) -> Float64[Tensor, "a"]:
        """Return the Euclidean norms."""
        return self.products.diagonal().sqrt()

    def between(self, rows: Index, columns: Index) -> Float64[Tensor, "p q"]:
        """Return the inner products of some with others."""
        return self.products[rows][:, columns]


def medoids(
    scan: Scan, members: Int64[Tensor, "n"] | None, k: int, covering: Covering, *, generator: torch.Generator
) -> Medoids:
    """Return the medoids of some samples' last-layer gradients (of all, for None), and their clusters' sizes."""
    coverage = covering.coverage(Vectors.of_gradients(scan, members))
    chosen = covering.grow(coverage, k, generator=generator)
    weights = torch.bincount(coverage.clusters(chosen))[chosen].double()
    return chosen if members is None else members[chosen], weights


@SELECTORS.register("craig")
@dataclass(frozen=True)
class CRAIG:
    """Medoids of the last-layer gradients by greedy facility location, weighted (Mirzasoleiman et al. 2020, Alg. 1).

    They minimise sum_i min_{j in S} |g_i - g_j|, which bounds how far the weighted gradient of S is from that of all.
    The weight of a medoid is the number of samples that are nearest to it, itself included: they add up to n.
    `per` tells of what: "class" by class, "batch" random mini-batches of about `batch_size`, taken whole and with one
    weight, or "all" samples at once. `greedy` is "lazy", which is exact, or "stochastic", which looks at a random part,
    by `eps`, at each step. A class or pool whose similarities take more than `memory` GiB has them computed when they
    are needed: the same, but slower.
    Differs: the gradient in the last layer's weights; the authors take that in its input. The budget is met exactly.
    """

    needs_linear_head: ClassVar[bool] = True

    per: str = "class"
    greedy: str = "lazy"
    eps: float = EPS
    batch_size: int = 128
    memory: float = MEMORY

    def __post_init__(self) -> None:
        check_choice("per", self.per, VARIANTS)
        check_range("batch_size", self.batch_size, 1, float("inf"), high_open=True)
        idle = "memory" if self.per == "batch" else "batch_size"
        if getattr(self, idle) != getattr(CRAIG, idle):
            raise ConfigError(f"{idle} has no effect with per={self.per!r}; leave it out.")
        _ = self._covering

    @property
    def needs(self) -> frozenset[str]:
        """Logits, features and targets."""
        return frozenset({"logits", "features", "targets"})

    @property
    def least_per_class(self) -> int:
        """How many samples each class needs: one, where classes are covered one by one."""
        return 1 if self.per == "class" else 0

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows and their weights. Raises: SelectionError: for a k out of reach, or below one a class."""
        check_budget(scan, k)
        if self.per == "batch":
            positions, weights = self._of_batches(scan, k, generator)
        elif self.per == "all":
            positions, weights = medoids(scan, None, k, self._covering, generator=generator)
        else:
            budgets = class_budgets(scan.targets, k, none_empty=True)
            members = members_by_class(scan.targets)
            found = [
                medoids(scan, members[label], budgets[label], self._covering, generator=generator) for label in members
            ]
            positions, weights = (torch.cat(parts) for parts in zip(*found))
        flops = self.arithmetic(len(scan), k, classes=scan.logits.shape[1], features=scan.features.shape[1])
        return Subset.of(scan.rows[positions], weights, flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a selection, 2 per multiply-add, as if classes were of equal size."""
        if self.per == "batch":
            atoms = len(even_sizes(n, self.batch_size))
            own = batch_flops(n, atoms, classes=classes, features=features)
            return own + self._covering.flops(atoms, k * atoms / n, product=0)
        groups = classes if self.per == "class" else 1
        return groups * self._covering.flops(n / groups, k / groups, product=classes + features)

    def _of_batches(self, scan: Scan, k: int, generator: torch.Generator) -> Medoids:
        """Return the samples of medoid mini-batches: of the one found last only as many as k leaves room for.

        A sample weighs the size of the cluster, in samples, over that of its mini-batch; all is scaled to the sum n.
        """
        batches = mini_batches(len(scan), self.batch_size, generator=generator)
        sums = BatchGradients.of(scan, batches)
        enough = min(len(sums), -(-k // int(sums.sizes.min())))
        coverage = self._covering.coverage(MeanGradients.of(sums))
        chosen = self._covering.grow(coverage, enough, generator=generator)
        chosen = chosen[: 1 + int((sums.sizes[chosen].cumsum(0) < k).sum())]
        coverage = Coverage(coverage.similarities)
        for medoid in chosen.tolist():
            coverage.add(medoid)
        served = torch.bincount(coverage.clusters(chosen), weights=sums.sizes.double())[chosen]
        weights = (served / sums.sizes[chosen]).repeat_interleave(sums.sizes[chosen])[:k]
        return torch.cat([batches[medoid] for medoid in chosen])[:k], weights * (len(scan) / weights.sum())

    @property
    def _covering(self) -> Covering:
        return Covering("euclidean", self.greedy, self.eps, math.inf if self.per == "batch" else self.memory)
