"""Facility location: the samples to which all others are most similar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sartor.errors import check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, share_out
from sartor.select.greedy import EPS, check_greedy, maximise, sample_size
from sartor.select.similarity import (
    MEMORY,
    METRICS,
    Products,
    Similarities,
    Vectors,
    check_memory,
    similarities,
    similarity_flops,
)
from sartor.types import Subset

CHUNK = 2**20
"""Similarities that are looked at at once: about what a processor keeps near."""
LAZY_LOOKS = 40
"""Gains that a lazy choice brings up to date for each pick, about, beside all of them once."""


class Coverage:
    """The set function f(S) = sum over i of max over j in S of s_ij >= 0, with f of nothing 0.

    Monotone and submodular. Who serves whom is kept: each sample has the one of S that is most similar to it, the
    earlier of equal ones.
    """

    def __init__(self, similarities: Similarities) -> None:
        self.similarities = similarities
        self.covered: Float32[Tensor, "n"] = torch.zeros(len(similarities))
        """Of each sample, the similarity of the most similar one in S."""
        self.server: Int64[Tensor, "n"] = torch.full((len(similarities),), -1)
        """Of each sample, the most similar one in S; -1 while S is empty."""

    def __len__(self) -> int:
        return len(self.similarities)

    def value(self) -> float:
        """Return f(S)."""
        return float(self.covered.sum(dtype=torch.float64))

    def gains(self, candidates: Int64[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Return f(S + j) - f(S) for each candidate j, in O(m n)."""
        found = []
        for some in candidates.split(max(1, CHUNK // len(self))):
            more = self.similarities.rows(some) - self.covered
            found.append(more.clamp_(min=0).sum(dim=1, dtype=torch.float64))
        return torch.cat(found)

    def add(self, pick: int) -> None:
        """Let a position enter S, in O(n)."""
        row = self.similarities.rows(torch.tensor([pick]))[0]
        closer = (row > self.covered) | (self.server < 0)
        self.server[closer] = pick
        self.covered = self.covered.maximum(row)

    def clusters(self, chosen: Int64[Tensor, "k"]) -> Int64[Tensor, "n"]:
        """Return, for each sample, the one of S that it belongs to; those chosen belong to themselves."""
        server = self.server.clone()
        server[chosen] = chosen
        return server


@dataclass(frozen=True)
class Covering:
    """How k of n samples are chosen by facility location: from what similarities, and by which greedy algorithm.

    Raises: ConfigError: for a value out of range, or an `eps` without effect.
    """

    metric: str
    greedy: str
    eps: float
    memory: float

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, METRICS)
        check_greedy(self.greedy, self.eps)
        check_memory(self.memory)

    def coverage(self, products: Products) -> Coverage:
        """Return the coverage of vectors by none of them."""
        return Coverage(similarities(products, self.metric, memory=self.memory))

    def grow(self, coverage: Coverage, k: int, *, generator: torch.Generator) -> Int64[Tensor, "k"]:
        """Choose k positions, in order."""
        return maximise(coverage, k, greedy=self.greedy, eps=self.eps, generator=generator)

    def flops(self, n: float, k: float, *, product: int) -> float:
        """Return the FLOPs, 2 per multiply-add, with so many multiply-adds for an inner product.

        How many gains a lazy choice takes depends on the data: n, and `LAZY_LOOKS` for each pick, are charged.
        """
        evaluations = n + LAZY_LOOKS * k if self.greedy == "lazy" else k * sample_size(n, k, self.eps)
        own = similarity_flops(n, evaluations, product=product, metric=self.metric, memory=self.memory)
        return own + 2 * n * evaluations


def by_class(
    targets: Int64[Tensor, "n"], k: int, choose: Callable[[Int64[Tensor, "m"], int], Int64[Tensor, "b"]]
) -> Int64[Tensor, "k"]:
    """Choose class by class as `share_out` does; `choose` returns places in the class, and is not asked for none."""
    return share_out(targets, k, lambda members, budget: members[choose(members, budget)] if budget else members[:0])


@SELECTORS.register("facility-location")
@dataclass(frozen=True)
class FacilityLocation:
    """Samples to whose features all others are most similar: greedy facility location, without weights.

    f(S) = sum over i of max over j in S of s_ij (Lin and Bilmes 2011; Wei et al. 2015), with s_ij = (1 + cosine) / 2 or
    1 - distance / largest distance. The greedy set has at least 1 - 1/e of the largest f. `greedy` is "lazy", which is
    exact, or "stochastic", which looks at a random part, by `eps`, at each step. A pool or class whose similarities
    take more than `memory` GiB has them computed when they are needed: the same, but slower. `balanced` covers each
    class for itself, with its share of k by largest remainder.
    """

    metric: str = "cosine"
    greedy: str = "lazy"
    eps: float = EPS
    memory: float = MEMORY
    balanced: bool = False

    def __post_init__(self) -> None:
        _ = self._covering

    @property
    def needs(self) -> frozenset[str]:
        """Features, and the targets where classes keep their shares."""
        return frozenset({"features"} | ({"targets"} if self.balanced else set()))

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows that cover all. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)

        def cover(members: Tensor | None, budget: int) -> Tensor:
            coverage = self._covering.coverage(Vectors.of_features(scan, members))
            return self._covering.grow(coverage, budget, generator=generator)

        chosen = by_class(scan.targets, k, cover) if self.balanced else cover(None, k)
        classes = scan.classes if self.balanced else 1
        flops = self.arithmetic(len(scan), k, classes=classes, features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a selection, 2 per multiply-add, as if classes were of equal size."""
        groups = max(classes, 1) if self.balanced else 1
        return groups * self._covering.flops(n / groups, k / groups, product=features)

    @property
    def _covering(self) -> Covering:
        return Covering(self.metric, self.greedy, self.eps, self.memory)
