"""CREST: coresets of mini-batches, kept for as long as a quadratic tells the loss, without what is learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.data.loader import even_sizes
from sartor.errors import check_effects, check_range
from sartor.network_view import NetworkView
from sartor.registry import SAMPLERS
from sartor.select.budget import check_budget
from sartor.select.craig import medoids
from sartor.select.facility import Covering
from sartor.select.greedy import EPS
from sartor.select.region import Region
from sartor.select.similarity import MEMORY
from sartor.types import Subset

SCANNED = frozenset({"logits", "features", "targets"})
COVERING = Covering("euclidean", "lazy", EPS, MEMORY)
"""How CRAIG chooses."""


@SAMPLERS.register("crest")
@dataclass(frozen=True)
class CREST:
    """Mini-batch coresets of random subsets, chosen anew when a quadratic no longer tells the loss (Yang et al. 2023).

    From each random subset, `candidates` times its size, CRAIG's greedy takes the medoids of a mini-batch of about
    `batch_size`; k samples in all, each weighted by its cluster. Every `every` epochs the loss of the random subsets is
    compared with loss + slope + curvature at the weights of the last choice: up to a relative error of `threshold` the
    coreset stays. Every `period` epochs samples whose losses all lay below `learnt` are left out for good.
    Differs: subsets are disjoint, so that a sample has one weight; checks are between epochs (docs/methods/crest.md).
    """

    every: int = 1
    threshold: float = 0.1
    candidates: int = 4
    batch_size: int = 128
    learnt: float = 0.1
    period: int = 20
    head: str | None = None

    def __post_init__(self) -> None:
        for name in ("every", "candidates", "batch_size", "period"):
            check_range(name, getattr(self, name), 1, math.inf, high_open=True)
        for name in ("threshold", "learnt"):
            check_range(name, getattr(self, name), 0, math.inf)
        check_effects(self, {"learnt above 0": (self.learnt > 0, ("period",))})

    @property
    def needs(self) -> frozenset[str]:
        """The network, what the sampler itself has kept, the subset of the moment, and the epoch."""
        return frozenset({"network", "memory", "subset", "epoch"})

    @property
    def scans(self) -> frozenset[str]:
        """Logits, features and targets, of the samples of random subsets."""
        return SCANNED

    def begin(self, rows: Int64[Tensor, "n"]) -> Region:
        """Return the memory of a training on these rows that has not begun."""
        return Region(rows)

    def due(self, epoch: int) -> bool:
        """Tell whether the quadratic is judged before this epoch; 0 is the first epoch that the sampler governs."""
        return epoch % self.every == 0

    def most_looks(self, n: int, k: int, *, first: bool) -> tuple[int, int]:
        """Return how many samples a choice of k out of n scans at most, and of how many it takes the curvature."""
        return self.watched(n, k) * (1 if first else 2), k

    def watched(self, n: int, k: int) -> int:
        """Return how many samples the random subsets hold."""
        return min(n, self.candidates * k)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of choosing medoids, 2 per multiply-add, as if mini-batches were of equal size."""
        batches = len(even_sizes(k, self.batch_size))
        from_each = self.watched(n, k) / batches
        return batches * COVERING.flops(from_each, k / batches, product=classes + features)

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
        network: NetworkView,
        memory: Region,
        subset: Subset | None,
        epoch: int,
    ) -> Subset:
        """Return the `subset` where its quadratic still tells the loss, otherwise k rows and their weights.

        Raises: SelectionError: for a k out of reach, or a network that cannot be differentiated twice.
        """
        check_budget(rows, k)
        error = None
        if subset is not None and memory.batches:
            loss = memory.note(network.scan(memory.watched, {"logits", "targets"}))
            error = memory.error(network.weights(), loss)
        memory.since = epoch if memory.since is None else memory.since
        if self.learnt and epoch >= memory.since + self.period:
            memory.leave_out(self.learnt, least=self.watched(len(rows), k))
            memory.since = epoch
        kept = subset if error is not None and error <= self.threshold else None
        memory.told = {"error": error, "kept": kept is not None, "left_out": int(memory.learnt.sum())}
        return self.choose(rows, k, network, memory, generator) if kept is None else kept

    def choose(
        self, rows: Int64[Tensor, "n"], k: int, network: NetworkView, memory: Region, generator: torch.Generator
    ) -> Subset:
        """Take the medoids of disjoint random subsets, and the quadratic of the loss at the weights of the moment."""
        active = rows[~memory.learnt]
        drawn = active[torch.randperm(len(active), generator=generator)[: self.watched(len(rows), k)]]
        seen = network.scan(drawn.sort().values, SCANNED)
        memory.begin(network.weights(), seen.rows, memory.note(seen))
        chosen: list[Tensor] = []
        weights: list[Float64[Tensor, "m"]] = []
        sizes = even_sizes(k, self.batch_size)
        for some, size in zip(drawn.tensor_split(len(sizes)), sizes):
            positions, clusters = medoids(seen, seen.at(some), size, COVERING, generator=generator)
            chosen.append(seen.rows[positions])
            weights.append(clusters)
            memory.average(*network.slope_and_curvature(chosen[-1], clusters / clusters.mean(), generator=generator))
        classes, features = seen.logits.shape[1], seen.features.shape[1]
        flops = self.arithmetic(len(rows), k, classes=classes, features=features)
        return Subset.of(torch.cat(chosen), torch.cat(weights), flops=flops)
