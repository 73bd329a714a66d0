"""Gradients of whole mini-batches, of which only the inner products are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sartor.data.loader import even_sizes
from sartor.errors import SelectionError
from sartor.seen import Scan
from sartor.select.head_gradients import HeadGradients

MOST = 2**14
"""Most mini-batches; their inner products then take 2 GiB."""


def mini_batches(n: int, batch_size: int, *, generator: torch.Generator) -> list[Int64[Tensor, "_"]]:
    """Cut the positions 0 ... n - 1 at random into about n / batch_size mini-batches, sizes differing by one at most.

    Raises: SelectionError: for more than `MOST` of them.
    """
    sizes = even_sizes(n, batch_size)
    if len(sizes) > MOST:
        raise SelectionError(
            f"batch_size {batch_size} makes {len(sizes)} mini-batches of {n} samples; at most {MOST} can be matched, "
            f"so use batch_size >= {math.ceil(n / MOST)}."
        )
    return list(torch.randperm(n, generator=generator).split(sizes))


@dataclass(frozen=True, eq=False)
class BatchGradients:
    """The inner products of a mini-batches' gradients, each the sum over its samples."""

    products: Float64[Tensor, "a a"]
    sizes: Int64[Tensor, "a"]

    @classmethod
    def of(cls, scan: Scan, batches: list[Int64[Tensor, "_"]]) -> BatchGradients:
        """Add the products up over blocks of classes, so that never more than a part of the gradients is there.

        A block has b / 8 classes (b samples in a mini-batch): it takes a quarter of the memory of the scan's features.
        Time O(n c d + a^2 c d).
        """
        classes, size = scan.logits.shape[1], len(scan) // len(batches)
        width = max(1, size // 8)
        products = torch.zeros(len(batches), len(batches), dtype=torch.float64)
        for start in range(0, classes, width):
            outputs = slice(start, min(start + width, classes))
            sums = _sums(scan, batches, outputs)
            products.addmm_(sums, sums.T)
        return cls(products, torch.tensor([len(batch) for batch in batches]))

    def __len__(self) -> int:
        return len(self.products)

    def near_one(self) -> BatchGradients:
        """Return all gradients times one number, so that the largest norm becomes about 1."""
        exponent = math.frexp(float(self.products.diagonal().max()))[1]
        return replace(self, products=self.products * 2.0 ** -min(max(exponent, -1000), 1000))

    def norms(self) -> Float64[Tensor, "a"]:
        """Return |g_i|."""
        return self.products.diagonal().sqrt()

    def target(self) -> Float64[Tensor, "a"]:
        """Return <g_i, G>, where G is the sum of all."""
        return self.products.sum(1)

    def gram(self, rows: Int64[Tensor, "p"], columns: Int64[Tensor, "q"]) -> Float64[Tensor, "p q"]:
        """Return <g_i, g_j> of some with others."""
        return self.products[rows][:, columns]

    def along(
        self, rows: Int64[Tensor, "p"], columns: Int64[Tensor, "q"], weights: Float64[Tensor, "q"]
    ) -> Float64[Tensor, "p"]:
        """Return <g_i, sum_j w_j g_j> of some with a weighted sum of others."""
        return self.gram(rows, columns) @ weights

    def columns(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m a"]:
        """Return <g_j, g_i> for each j of `positions` and all i, in float32."""
        return self.products[positions].float()

    def first_twins(self) -> Int64[Tensor, "a"]:
        """Return, for each, itself: equal mini-batches are not looked for."""
        return torch.arange(len(self))


def _sums(scan: Scan, batches: list[Int64[Tensor, "_"]], outputs: slice) -> Float64[Tensor, "a p"]:
    """Return, for each mini-batch, the sum of its samples' gradients in some rows of the Linear's weight."""
    width = (outputs.stop - outputs.start) * (scan.features.shape[1] + scan.head_bias)
    sums = torch.empty(len(batches), width, dtype=torch.float64)
    for row, batch in zip(sums, batches):
        row[:] = HeadGradients.of(scan, batch).of_outputs(outputs).total().flatten()
    return sums


def batch_flops(n: int, a: int, *, classes: int, features: int) -> float:
    """Return the FLOPs, 2 per multiply-add, of `BatchGradients.of` for n samples in a mini-batches."""
    return 2.0 * (n + a * a) * classes * features
