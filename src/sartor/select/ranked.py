"""Selectors that rank all samples by one number and keep one end of the ranking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.ranking import top_indices
from sartor.seen import Scan
from sartor.select.budget import check_budget, share_out
from sartor.select.ties import distinct_ranks
from sartor.types import Subset


def keep_top(
    scores: Float[Tensor, "n"],
    k: int,
    *,
    largest: bool,
    targets: Int64[Tensor, "n"] | None = None,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "k"]:
    """Return the positions of the k largest (or smallest) scores; ties to the lower position, or drawn if one can.

    Where targets are given, each class is ranked for itself and gets its share of k by largest remainder.
    """

    def kept(members: Tensor, budget: int) -> Tensor:
        return members[top_indices(scores[members], budget, largest=largest, generator=generator)]

    return kept(torch.arange(len(scores)), k) if targets is None else share_out(targets, k, kept)


class Ranked(ABC):
    """What such selectors share; theirs are `parts`, `scores`, and the fields `keep` (which end) and `balanced`."""

    hardest: ClassVar[str] = "highest"
    """The end of the scores at which the hardest samples are."""
    by_lot: ClassVar[bool] = False
    """Whether equal scores at the border are drawn; otherwise the lower rows win, often those of the first classes."""
    parts: ClassVar[frozenset[str]]
    """What the scores are read from."""
    keep: str
    balanced: bool

    @property
    def needs(self) -> frozenset[str]:
        """What the scores are read from, and the targets where classes keep their shares."""
        return self.parts | ({"targets"} if self.balanced else set())

    @abstractmethod
    def scores(self, scan: Scan) -> Float[Tensor, "n"]:
        """Return the score of each sample."""

    @abstractmethod
    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the scores, 2 per multiply-add."""

    def largest(self, scan: Scan) -> bool:
        """Tell whether the largest scores are kept, or the smallest."""
        return self.keep == "highest"

    def ranked(self, scan: Scan, scores: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Return what is ranked: the scores themselves, where nothing else is said."""
        return scores

    @property
    def coarse(self) -> bool:
        """Tell whether the scores are counts of few things, so that many are equal and ties must go at random."""
        return False

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows at the kept end of the ranking. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        targets = scan.targets if self.balanced else None
        scores = self.scores(scan)
        ranks = distinct_ranks(scores, generator=generator) if self.coarse else self.ranked(scan, scores)
        drawing = generator if self.by_lot else None
        chosen = keep_top(ranks, k, largest=self.largest(scan), targets=targets, generator=drawing)
        classes = scan.classes if self.parts & {"logits", "members"} else 0
        features = scan.features.shape[1] if "features" in self.parts else 0
        return Subset.of(scan.rows[chosen], flops=self.arithmetic(len(scan), k, classes=classes, features=features))
