"""Graph cut: samples that are similar to all, but not to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.errors import check_choice, check_range
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget
from sartor.select.facility import CHUNK, by_class
from sartor.select.greedy import plain_greedy
from sartor.select.similarity import (
    MEMORY,
    METRICS,
    Similarities,
    Vectors,
    check_memory,
    similarities,
    similarity_flops,
)
from sartor.types import Subset


class Cut:
    """The set function f(S) = sum over i, and j in S, of s_ij - lam * sum over i and j in S of s_ij.

    Submodular for lam >= 0; monotone for lam <= 1/2. The gains of all are kept up to date.
    """

    def __init__(self, similarities: Similarities, lam: float) -> None:
        self.similarities, self.lam = similarities, lam
        self.now = torch.empty(len(similarities), dtype=torch.float64)
        """Gains at the moment."""
        for some in torch.arange(len(similarities)).split(max(1, CHUNK // len(similarities))):
            rows = similarities.rows(some)
            own = rows[torch.arange(len(some)), some].double()
            self.now[some] = rows.sum(dim=1, dtype=torch.float64) - lam * own

    def __len__(self) -> int:
        return len(self.similarities)

    def gains(self, candidates: Int64[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Return f(S + j) - f(S) for each candidate j."""
        return self.now[candidates]

    def add(self, pick: int) -> None:
        """Let a position enter S, in O(n)."""
        self.now -= 2 * self.lam * self.similarities.rows(torch.tensor([pick]))[0].double()


@SELECTORS.register("graph-cut")
@dataclass(frozen=True)
class GraphCut:
    """Samples whose features are similar to those of all but not of each other: greedy graph cut, without weights.

    f(S) = sum over i, and j in S, of s_ij - lam * sum over i and j in S of s_ij (Iyer et al. 2021), with s_ij =
    (1 + cosine) / 2 or 1 - distance / largest distance. `lam` weighs redundancy: with 0 the most typical samples are
    chosen; up to 1/2 f is monotone and the greedy set has at least 1 - 1/e of the largest f; above there is no such
    promise. A pool or class whose similarities take more than `memory` GiB has them computed when they are needed.
    `balanced` works within each class, with its share of k by largest remainder.
    """

    metric: str = "cosine"
    lam: float = 0.5
    memory: float = MEMORY
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, METRICS)
        check_range("lam", self.lam, 0, float("inf"), high_open=True)
        check_memory(self.memory)

    @property
    def needs(self) -> frozenset[str]:
        """Features, and the targets where classes keep their shares."""
        return frozenset({"features"} | ({"targets"} if self.balanced else set()))

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows of the cut. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)

        def cut(members: Tensor | None, budget: int) -> Tensor:
            vectors = Vectors.of_features(scan, members)
            return plain_greedy(Cut(similarities(vectors, self.metric, memory=self.memory), self.lam), budget)

        chosen = by_class(scan.targets, k, cut) if self.balanced else cut(None, k)
        classes = scan.classes if self.balanced else 1
        flops = self.arithmetic(len(scan), k, classes=classes, features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a selection, 2 per multiply-add, as if classes were of equal size."""
        groups = max(classes, 1) if self.balanced else 1
        m, budget = n / groups, k / groups
        own = similarity_flops(m, m + budget, product=features, metric=self.metric, memory=self.memory)
        return groups * (own + m * m + 2 * m * budget)
