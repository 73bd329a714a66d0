"""Similarities of samples in [0, 1]: held as a matrix, or computed a few rows at a time where that is too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sartor.errors import check_range
from sartor.seen import Scan
from sartor.select.head_gradients import HeadGradients

METRICS = ("cosine", "euclidean")
MEMORY = 1.0
"""GiB of similarities that are held at once, unless told otherwise: those of 16,384 samples with each other."""
TILE = 1024
"""Samples of which the products are computed at once."""
RESOLUTION = 1e-14
"""Share of two squared norms below which a squared distance is rounding: the numbers are float32."""
Index = slice | Int64[Tensor, "m"]


@runtime_checkable
class Products(Protocol):
    """Vectors known by their inner products."""

    def __len__(self) -> int: ...

    def norms(self) -> Float64[Tensor, "n"]:
        """Return the Euclidean norms."""
        ...

    def between(self, rows: Index, columns: Index) -> Float64[Tensor, "a b"]:
        """Return the inner products of some with others."""
        ...


@runtime_checkable
class Similarities(Protocol):
    """Similarities of n samples with each other, in [0, 1]."""

    def __len__(self) -> int: ...

    def rows(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m n"]:
        """Return the similarities of some with all."""
        ...


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors e_i (x) [h_i; 1] of n samples, read when needed and never built: last-layer gradients, or features.

    Their products are <e_i, e_j> <[h_i; 1], [h_j; 1]>, in float64; features are gradients whose error is the number 1.
    """

    size: int
    read: Callable[[Index], HeadGradients]

    @classmethod
    def of_gradients(cls, scan: Scan, members: Int64[Tensor, "n"] | None) -> Vectors:
        """Take the last-layer gradients of some samples, read at once; of None, the whole scan, block by block."""
        return _vectors(scan, members, _gradients)

    @classmethod
    def of_features(cls, scan: Scan, members: Int64[Tensor, "n"] | None) -> Vectors:
        """Take the features of some samples, read at once; of None, those of the whole scan, block by block."""
        return _vectors(scan, members, _features)

    def __len__(self) -> int:
        return self.size

    def norms(self) -> Float64[Tensor, "n"]:
        """Return the Euclidean norms."""
        return self._norms

    @cached_property
    def _norms(self) -> Float64[Tensor, "n"]:
        return torch.cat([self.read(block).norms() for block in _blocks(self.size)])

    def between(self, rows: Index, columns: Index) -> Float64[Tensor, "a b"]:
        """Return the inner products of some with others."""
        some, others = self.read(rows), self.read(columns)
        products = some.inputs.double() @ others.inputs.double().T
        return products.mul_(some.errors.double() @ others.errors.double().T)


@dataclass(frozen=True, eq=False)
class Held:
    """A matrix of similarities."""

    matrix: Float32[Tensor, "n n"]

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m n"]:
        """Return the similarities of some with all."""
        return self.matrix.index_select(0, positions)


class Computed:
    """Similarities that are computed each time they are asked for; those asked for last are kept."""

    def __init__(self, products: Products, metric: str) -> None:
        self.products, self.metric = products, metric
        self.largest = _largest_distance(products) if metric == "euclidean" else 1.0
        self.last: tuple[Tensor, Tensor] = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, len(products)))

    def __len__(self) -> int:
        return len(self.products)

    def rows(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m n"]:
        """Return the similarities of some with all."""
        at = (self.last[0] == positions).nonzero().squeeze(1) if len(positions) == 1 else positions[:0]
        if len(at):
            return self.last[1][at[:1]]
        found = torch.empty(len(positions), len(self))
        for block in _blocks(len(self)):
            if self.metric == "cosine":
                found[:, block] = cosines(self.products, positions, block).add_(1).div_(2)
            else:
                found[:, block] = distances(self.products, positions, block).div_(-self.largest).add_(1)
        self.last = positions, found
        return found


def similarities(products: Products, metric: str, *, memory: float) -> Similarities:
    """Return (1 + cosine) / 2, or 1 - distance / largest distance, held as a matrix if that takes `memory` GiB at most.

    A vector of zeros has cosine 0 with all. Where no two vectors differ, all distances are 0 and all similarities 1.
    """
    if not fits(len(products), memory):
        return Computed(products, metric)
    matrix = torch.empty(len(products), len(products))
    unit = float(products.norms().max()) or 1.0  # so that distances in float32 neither overflow nor vanish
    for rows, columns in _tiles(len(products)):
        if metric == "cosine":
            tile = cosines(products, rows, columns).add_(1).div_(2)
        else:
            tile = distances(products, rows, columns).div_(unit)
        matrix[rows, columns] = tile
        matrix[columns, rows] = tile.T
    if metric == "euclidean":
        matrix.div_(-(float(matrix.max()) or 1.0)).add_(1)
    return Held(matrix)


def fits(n: float, memory: float) -> bool:
    """Tell whether the similarities of n samples take `memory` GiB at most."""
    return 4 * n * n <= memory * 2**30


def distances(products: Products, rows: Index, columns: Index) -> Float64[Tensor, "a b"]:
    """Return the Euclidean distances of some vectors from others."""
    left, right = (products.norms()[index].square() for index in (rows, columns))
    squared = (1 - RESOLUTION) * (left[:, None] + right)
    return squared.sub_(products.between(rows, columns), alpha=2).clamp_(min=0).sqrt_()


def cosines(products: Products, rows: Index, columns: Index) -> Float64[Tensor, "a b"]:
    """Return the cosines of the angles between some vectors and others; 0 where one has no length."""
    left, right = (norms.where(norms > 0, 1.0) for norms in (products.norms()[rows], products.norms()[columns]))
    return products.between(rows, columns).div_(left[:, None]).div_(right)


def check_memory(memory: float) -> None:
    """Raise ConfigError unless `memory` is 0 or more."""
    check_range("memory", memory, 0, float("inf"))


def similarity_flops(n: float, evaluations: float, *, product: int, metric: str, memory: float) -> float:
    """Return the FLOPs, 2 per multiply-add, of the similarities that `evaluations` gains of n samples take.

    `product` counts the multiply-adds of one inner product. Held: each pair once. Computed: n for each gain and, for
    distances, each pair once to find the largest.
    """
    once = n * n * product
    if fits(n, memory):
        return once
    return 2 * n * evaluations * product + (once if metric == "euclidean" else 0)


def _largest_distance(products: Products) -> float:
    """Return the largest distance of two vectors, 1 where all are the same."""
    return max(float(distances(products, rows, columns).max()) for rows, columns in _tiles(len(products))) or 1.0


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]


def _tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles on and above the diagonal of an n x n matrix."""
    for place, rows in enumerate(_blocks(n)):
        for columns in _blocks(n)[place:]:
            yield rows, columns


def _vectors(scan: Scan, members: Int64[Tensor, "n"] | None, read: Callable[[Scan, Index], HeadGradients]) -> Vectors:
    if members is None:
        return Vectors(len(scan), partial(read, scan))
    taken = read(scan, members)
    return Vectors(len(members), lambda index: HeadGradients(taken.errors[index], taken.inputs[index]))


def _gradients(scan: Scan, index: Index) -> HeadGradients:
    inputs = scan.features_of(index)
    if scan.head_bias:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    return HeadGradients(scan.errors(index), inputs)


def _features(scan: Scan, index: Index) -> HeadGradients:
    features = scan.features_of(index)
    return HeadGradients(features.new_ones(len(features), 1), features)
