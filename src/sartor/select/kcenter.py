"""k-center: the samples that leave none of the others far from a chosen one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError, check_choice
from sartor.ranking import top_indices
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, share_out
from sartor.select.points import Nearest, Points
from sartor.types import Subset

STARTS = ("center", "random", "labelled")
FRONT = 384
"""How many of the farthest points compete with each other before all are brought up to date."""


def farthest_first(
    points: Points, k: int, *, first: int | None = None, centres: Iterable[Float[Tensor, "b d"]] = ()
) -> Int64[Tensor, "k"]:
    """Choose k points, in order: each time the one farthest from the centres and those chosen, of equals the lowest.

    The first is the point `first`, unless there are `centres`. Once all others coincide with one of these, they are
    taken by position. Time O(k n d), most of it in matrix products; memory O(n), whatever k is.
    """
    nearest = Nearest(points)
    for some in centres:
        nearest.add(some.double())
    fresh = chosen = torch.tensor([] if first is None else [first], dtype=torch.int64)[:k]
    while len(chosen) < k:
        if len(fresh):
            nearest.add(points.read(fresh).double())
            nearest.squared[fresh] = -torch.inf
        fresh = front(nearest, k - len(chosen))
        chosen = torch.cat([chosen, fresh])
    return chosen


def front(nearest: Nearest, most: int) -> Int64[Tensor, "b"]:
    """Return, in order, the next points that are farthest: one at least, and `most` at most.

    Distances only shrink. So as long as the farthest of the FRONT points that were farthest is still farther than any
    other point was, it is the farthest of all, and the others need not be looked at.
    """
    squared = nearest.squared
    if float(squared.max()) <= 0:
        return (squared == 0).nonzero().squeeze(1)[:most]
    positions = top_indices(squared, min(FRONT, len(squared)))
    others = squared.index_fill(0, positions, -torch.inf)
    bound, border = float(others.max()), int(positions[-1]) if len(positions) == len(others) else int(others.argmax())
    block = Nearest(Points.held(nearest.points.read(positions).double()))
    block.squared = squared[positions]
    picks: list[int] = []
    while len(picks) < most:
        best = int(block.squared.argmax())
        farthest = float(block.squared[best])
        if picks and (farthest < bound or (farthest == bound and int(positions[best]) > border)):
            break
        picks.append(best)
        block.add(block.points.read(slice(best, best + 1)))
        block.squared[best] = -torch.inf
    return positions[picks]


@SELECTORS.register("k-center")
@dataclass(frozen=True)
class KCenter:
    """Samples whose features cover the pool: greedy k-center, farthest first (Sener and Savarese 2018), no weights.

    Each one is the farthest from those before it, so that the largest distance of any sample to the nearest chosen one
    is at most twice the smallest possible (Gonzalez 1985). The first is the one nearest to the mean of all features
    (`start="center"`), a random one ("random"), or the farthest from the samples that have labels already
    ("labelled"). `balanced` covers each class for itself, with its share of k by largest remainder.
    Differs: exactly the greedy algorithm; the authors' refinement by mixed-integer programming is left out.
    """

    start: str = "center"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        if self.balanced and self.start == "labelled":
            raise ConfigError(
                "balanced goes by the labels of the samples to choose from and start='labelled' is for those that have "
                "none yet; leave one of them out."
            )

    @property
    def needs(self) -> frozenset[str]:
        """Features, the targets where classes keep their shares, and the labelled samples where these come first."""
        beside = {"targets"} if self.balanced else {"labelled"} if self.start == "labelled" else set()
        return frozenset({"features"} | beside)

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows that cover the pool. Raises: SelectionError: for a k out of reach, other features."""
        check_budget(scan, k)
        if self.balanced:
            chosen = share_out(
                scan.targets,
                k,
                lambda members, budget: members[self._cover(Points.of(scan, members), budget, generator)],
            )
        elif self.start == "labelled":
            chosen = farthest_first(Points.of(scan), k, centres=_labelled(scan))
        else:
            chosen = self._cover(Points.of(scan), k, generator)
        classes = scan.classes if self.balanced else 1
        flops = self.arithmetic(len(scan), k, classes=classes, features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the distances, 2 per multiply-add, as if classes were of equal size.

        How many samples have labels already is not known here: as many as are chosen, it is taken to be.
        """
        groups = max(classes, 1) if self.balanced else 1
        centres = 2 * k if self.start == "labelled" else k
        return 2.0 * features * (n * (centres / groups + 2) + k * min(FRONT, n / groups))

    def _cover(self, points: Points, k: int, generator: torch.Generator) -> Int64[Tensor, "k"]:
        """Choose k points, the first as `start` says."""
        if self.start == "random":
            first = int(torch.randint(len(points), (1,), generator=generator))
        else:
            first = int(points.squared_distances(points.center()).argmin())
        return farthest_first(points, k, first=first)


def _labelled(scan: Scan) -> Iterable[Float[Tensor, "b d"]]:
    """Return the features of the labelled samples, a block at a time."""
    labelled, width = scan.labelled, scan.features.shape[1]
    if labelled.features.shape[1] != width:
        raise SelectionError(
            f"the labelled samples have {labelled.features.shape[1]} features, those to choose from {width}; scan both "
            "with the same model."
        )
    return (labelled.features_of(block) for block in labelled.blocks(FRONT))
