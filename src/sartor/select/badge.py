"""BADGE: samples whose gradients are long and differ from each other; no labels are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.errors import check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, draw
from sartor.select.head_gradients import HeadGradients
from sartor.types import Subset

Index = slice | Int64[Tensor, "m"]
RESOLUTION = 1e-14
"""Share of two squared norms that is taken off a squared distance, so that rounding leaves none between copies."""
PENDING = 256
"""How many centres are drawn before all distances are brought up to date, at most."""
REFUSALS = 64
"""How many draws are refused before all distances are brought up to date, at most."""
TILE = 2**18
"""Numbers that are worked on at once: in float64 what a processor keeps near."""


def likely_gradients(scan: Scan, index: Index) -> HeadGradients:
    """Return the last-layer gradients that some samples would have if their likeliest class were their label.

    Of equally likely classes the first counts. The error of the likeliest class is minus the sum of the others, so that
    it keeps its digits where the network is sure.
    """
    errors = scan.probabilities(index)
    likeliest = errors.argmax(dim=1, keepdim=True)
    errors.scatter_(1, likeliest, 0.0)
    errors.scatter_(1, likeliest, -errors.sum(dim=1, keepdim=True))
    inputs = scan.features_of(index)
    if scan.head_bias:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    return HeadGradients(errors, inputs)


@dataclass(frozen=True, eq=False)
class Sides:
    """Gradients e (x) [h; 1] in float64, by their two sides, with their squared norms."""

    errors: Float64[Tensor, "m c"]
    inputs: Float64[Tensor, "m d"]
    squares: Float64[Tensor, "m"]

    @classmethod
    def of(cls, gradients: HeadGradients) -> Sides:
        """Take both sides to float64."""
        return cls(gradients.errors.double(), gradients.inputs.double(), gradients.norms().square())

    def room(self, size: int) -> Sides:
        """Return room for so many gradients as wide as these."""
        return Sides(*(side.new_zeros(size, *side.shape[1:]) for side in (self.errors, self.inputs, self.squares)))

    def first(self, count: int) -> Sides:
        """Return the first few."""
        return Sides(self.errors[:count], self.inputs[:count], self.squares[:count])

    def put(self, place: int, one: Sides) -> None:
        """Put a single gradient in a place."""
        self.errors[place], self.inputs[place], self.squares[place] = one.errors[0], one.inputs[0], one.squares[0]

    def from_nearest(self, centres: Sides) -> Float64[Tensor, "m"]:
        """Return the least of the squared distances |g|^2 + |g'|^2 - 2 <e, e'> <[h; 1], [h'; 1]> from some others."""
        values = (self.errors @ centres.errors.T).mul_(self.inputs @ centres.inputs.T)
        values.mul_(-2).add_(centres.squares, alpha=1 - RESOLUTION)
        return values.amin(dim=1).add_(self.squares, alpha=1 - RESOLUTION).clamp_(min=0)


class Seeding:
    """k-means++ seeding (Arthur and Vassilvitskii 2007): gradients are drawn by their squared distance to the nearest.

    Distances only shrink. So a draw by distances that are out of date, accepted with a chance of the true one's share
    of the old one, is exactly a draw by the true ones, however many were refused before it. Most are accepted, and all
    distances are brought up to date by one matrix product for many centres: n (c + d) multiply-adds for each.
    """

    def __init__(self, n: int, read: Callable[[Index], HeadGradients]) -> None:
        one = Sides.of(read(slice(0, 1)))
        self.read = read
        self.fresh, self.pending = one.room(PENDING), 0
        """Room for the centres that were drawn since all distances were up to date, and how many of them there are."""
        self.step = max(1, TILE // max(PENDING, one.inputs.shape[1], one.errors.shape[1]))
        self.squared: Float64[Tensor, "n"] = torch.full((n,), torch.inf, dtype=torch.float64)
        """Squared distances to the nearest centre, when they were last up to date."""
        self.free = torch.ones(n, dtype=torch.bool)

    def grow(self, first: int, k: int, *, generator: torch.Generator) -> Int64[Tensor, "k"]:
        """Choose k, in order; once none differs from all those chosen, the others are drawn uniformly."""
        chosen = [first]
        self._take(first, self._one(first))
        while len(chosen) < k:
            self._bring_up_to_date()
            if not float(self.squared.max()) > 0:
                rest = draw(self.free.nonzero().squeeze(1), k - len(chosen), generator=generator)
                return torch.cat([torch.tensor(chosen), rest])
            chosen += self._some(k - len(chosen), generator)
        return torch.tensor(chosen)

    def _one(self, position: int) -> Sides:
        return Sides.of(self.read(slice(position, position + 1)))

    def _take(self, position: int, one: Sides) -> None:
        self.fresh.put(self.pending, one)
        self.pending += 1
        self.free[position] = False

    def _bring_up_to_date(self) -> None:
        centres = self.fresh.first(self.pending)
        for start in range(0, len(self.squared), self.step):
            block = slice(start, min(start + self.step, len(self.squared)))
            self.squared[block] = self.squared[block].minimum(Sides.of(self.read(block)).from_nearest(centres))
        self.squared[~self.free] = 0
        self.pending = 0

    def _some(self, most: int, generator: torch.Generator) -> list[int]:
        """Draw until there are `most`, or PENDING, or too many are refused; the first one never is."""
        limits, last = self.squared.cumsum(0), int(self.squared.nonzero()[-1])
        drawn, refused = list[int](), 0
        while len(drawn) < min(most, PENDING) and refused < REFUSALS:
            place, height = torch.rand(2, generator=generator, dtype=torch.float64)
            position = min(int(torch.searchsorted(limits, place * limits[-1], right=True)), last)
            one, old = self._one(position), self.squared[position]
            now = old.minimum(one.from_nearest(self.fresh.first(self.pending))[0]) if self.pending else old
            if bool(self.free[position]) and bool(height * old < now):
                self._take(position, one)
                drawn.append(position)
            else:
                refused += 1
        return drawn


@SELECTORS.register("badge")
@dataclass(frozen=True)
class BADGE:
    """Diverse, uncertain samples by k-means++ seeding on hallucinated gradients (Ash et al. 2020, Alg. 1), no weights.

    The gradient is that of the loss in the last Linear if the likeliest class were the label: long where the network
    is unsure. A sample is drawn with a chance proportional to the squared distance of its gradient from the nearest of
    those drawn. `start` says which is the first: "longest", that of the longest gradient, as in the authors' code, or
    "random", uniformly, as in k-means++. No labels are read.
    Differs: the gradient has a part for the bias where the Linear has one, the authors' has none.
    """

    needs_linear_head: ClassVar[bool] = True

    start: str = "longest"

    def __post_init__(self) -> None:
        check_choice("start", self.start, ("longest", "random"))

    @property
    def needs(self) -> frozenset[str]:
        """Logits and features."""
        return frozenset({"logits", "features"})

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows, drawn by `generator`. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        read = partial(likely_gradients, scan)
        if self.start == "random":
            first = int(torch.randint(len(scan), (1,), generator=generator))
        else:
            first = int(torch.cat([read(block).norms() for block in scan.blocks()]).argmax())
        chosen = Seeding(len(scan), read).grow(first, k, generator=generator)
        flops = self.arithmetic(len(scan), k, classes=scan.logits.shape[1], features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of norms and distances, 2 per multiply-add; those of refused draws are next to none."""
        return 2.0 * n * (k + 1) * (classes + features)
