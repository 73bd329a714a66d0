"""Features as points in space: read by the block, with exact distances to the nearest of a growing set of centres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from sartor.seen import Scan

Index = slice | Int64[Tensor, "m"]
TILE = 2**18
"""Numbers that are worked on at once: in float64 what a processor keeps near."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points with `width` numbers each, in half precision or in float32 wherever they lie, read when needed."""

    size: int
    width: int
    read: Callable[[Index], Float[Tensor, "m d"]]

    @classmethod
    def of(cls, scan: Scan, members: Int64[Tensor, "n"] | None = None) -> Points:
        """Take the features of some samples, which are read at once; of None, those of the whole scan, by the block."""
        if members is None:
            return cls(len(scan), scan.features.shape[1], scan.features_of)
        return cls.held(scan.features_of(members))

    @classmethod
    def held(cls, table: Float[Tensor, "n d"]) -> Points:
        """Take the rows of a table in memory."""
        return cls(len(table), table.shape[1], table.__getitem__)

    def __len__(self) -> int:
        return self.size

    def blocks(self, *, of: int | None = None, beside: int = 1) -> Iterator[slice]:
        """Yield slices that cover all points, or `of` so many; each is of TILE numbers, if `beside` go with a point."""
        size, step = len(self) if of is None else of, max(1, TILE // max(self.width, beside))
        for start in range(0, size, step):
            yield slice(start, min(start + step, size))

    def center(self) -> Float64[Tensor, "d"]:
        """Return the mean of all points."""
        total = torch.zeros(self.width, dtype=torch.float64)
        for block in self.blocks():
            total += self.read(block).sum(dim=0, dtype=torch.float64)
        return total / len(self)

    @cached_property
    def squares(self) -> Float64[Tensor, "n"]:
        """Squared Euclidean norms."""
        return self.squared_distances(torch.zeros(self.width, dtype=torch.float64))

    def squared_distances(self, point: Float64[Tensor, "d"]) -> Float64[Tensor, "n"]:
        """Return the squared distance of all points from one, as `squared_distances` has it."""
        found = [squared_distances(self.read(block).double().numpy(), point.numpy()) for block in self.blocks()]
        return torch.from_numpy(np.concatenate(found))

    def along(self, direction: Float32[Tensor, "d"]) -> Float32[Tensor, "n"]:
        """Return the inner product of each point with a direction, in float32."""
        with torch.autocast("cpu", enabled=False):
            return torch.cat([self.read(block) @ direction for block in self.blocks()])


def squared_distances(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |x - y|^2 of pairs, or of all with one: of differences, so that points that are the same have exactly 0.

    Each pair is summed in the same order, however many there are: equal points are equally far, to the last bit.
    """
    difference = np.subtract(points, others, order="C")
    return np.einsum("ij,ij->i", difference, difference)


class Nearest:
    """Of each point, the squared distance to the nearest of the centres so far; infinite while there are none.

    A matrix product says which centres may be the nearest; only theirs are computed as differences. So what is kept is
    what comparing each point with each centre in turn would give, for n d multiply-adds a centre, at a product's speed.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self.squared: Float64[Tensor, "n"] = torch.full((len(points),), torch.inf, dtype=torch.float64)
        self.norms: Float64[Tensor, "n"] = points.squares.sqrt()

    def add(self, centres: Float64[Tensor, "b d"]) -> None:
        """Let some more centres in."""
        squares = torch.linalg.vecdot(centres, centres)
        longest, share = float(squares.max()) ** 0.5, rounding(self.points.width, torch.float64)
        for block in self.points.blocks(beside=len(centres)):
            points = self.points.read(block).double()
            values = torch.addmm(squares, points, centres.T, alpha=-2).numpy()  # |x - y|^2 - |x|^2
            slack = (self.norms[block].numpy() + longest) ** 2 * share
            least = values.min(axis=1) if len(centres) > 1 else values[:, 0]
            before = self.squared[block].numpy()
            nearer = np.flatnonzero(least <= before - self.points.squares[block].numpy() + slack)
            within = values[nearer] <= (least + 2 * slack)[nearer, None]
            rows, columns = within.nonzero()
            for some in self.points.blocks(of=len(rows)):
                row = nearer[rows[some]]
                found = squared_distances(points.numpy()[row], centres.numpy()[columns[some]])
                np.minimum.at(before, row, found)


def rounding(width: int, dtype: torch.dtype) -> float:
    """Return what share of |x| |y| an inner product of so many numbers is off at most, the sums beside it included."""
    return (width + 4) * torch.finfo(dtype).eps
