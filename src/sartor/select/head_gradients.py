"""Per-sample gradients of the last Linear, worked with in factored form and never built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sartor.seen import Scan


@dataclass(frozen=True, eq=False)
class HeadGradients:
    """The gradients g_i = e_i (x) [h_i; 1] of n samples, held as errors e and head inputs [h; 1].

    <g_i, g_j> = <e_i, e_j> <[h_i; 1], [h_j; 1]>, so n * (c + d) numbers do the work of n * c * d.
    All results are in float64 but for `columns`.
    """

    errors: Float32[Tensor, "n c"]
    inputs: Float32[Tensor, "n d"]
    """Features, with a column of ones where the head has a bias."""

    @classmethod
    def of(cls, scan: Scan, positions: Int64[Tensor, "n"]) -> HeadGradients:
        """Take some samples of a scan that has logits, features and targets."""
        inputs = scan.features_of(positions)
        if scan.head_bias:
            inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        return cls(scan.errors(positions), inputs)

    def of_outputs(self, outputs: slice) -> HeadGradients:
        """Return the part of the gradients in some rows of the Linear's weight: those of some classes' logits."""
        return HeadGradients(self.errors[:, outputs], self.inputs)

    @property
    def sizes(self) -> Int64[Tensor, "n"]:
        """One: each gradient is that of one sample."""
        return torch.ones(len(self), dtype=torch.int64)

    def near_one(self) -> HeadGradients:
        """Return both sides times a power of 2 each, exactly: the largest norms become about 1.

        Then float32 products neither overflow nor vanish, as those of the errors of a class learnt by heart would.
        """
        return HeadGradients(_near_one(self.errors), _near_one(self.inputs))

    def __len__(self) -> int:
        return len(self.errors)

    def norms(self) -> Float64[Tensor, "n"]:
        """Return |g_i|."""
        return _norms(self.errors) * _norms(self.inputs)

    def first_twins(self) -> Int64[Tensor, "n"]:
        """Return, for each sample, the first one whose numbers are the very same: often itself."""
        seen: dict[bytes, int] = {}
        rows = enumerate(zip(self.errors.numpy(), self.inputs.numpy()))
        return torch.tensor([seen.setdefault(error.tobytes() + row.tobytes(), i) for i, (error, row) in rows])

    def gram(self, rows: Int64[Tensor, "a"], columns: Int64[Tensor, "b"]) -> Float64[Tensor, "a b"]:
        """Return the inner products <g_i, g_j> of some samples with others, exact to float64."""
        errors, inputs = self.errors, self.inputs
        alike = errors[rows].double() @ errors[columns].double().T
        return alike * (inputs[rows].double() @ inputs[columns].double().T)

    def columns(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m n"]:
        """Return <g_j, g_i> for each j of `positions` and all i, in float32 and O(m n (c + d))."""
        with torch.autocast("cpu", enabled=False):
            return (self.errors[positions] @ self.errors.T) * (self.inputs[positions] @ self.inputs.T)

    def total(self, weights: Float64[Tensor, "n"] | None = None) -> Float64[Tensor, "c d"]:
        """Return the sum of the gradients, each times its weight if weights are given."""
        total = torch.zeros(self.errors.shape[1], self.inputs.shape[1], dtype=torch.float64)
        for block in self._blocks():
            errors = self.errors[block].double()
            if weights is not None:
                errors *= weights[block, None]
            total += errors.T @ self.inputs[block].double()
        return total

    def target(self) -> Float64[Tensor, "n"]:
        """Return <g_i, G>, where G is the sum of all."""
        return self.towards(self.total())

    def along(
        self, rows: Int64[Tensor, "a"], columns: Int64[Tensor, "b"], weights: Float64[Tensor, "b"]
    ) -> Float64[Tensor, "a"]:
        """Return <g_i, sum_j w_j g_j> of some samples with a weighted sum of others, exact to float64.

        The sum is built where that is less work: in O((a + b) c d), else in O(a b (c + d)).
        """
        outputs, inputs = self.errors.shape[1], self.inputs.shape[1]
        if len(rows) * len(columns) * (outputs + inputs) <= (len(rows) + len(columns)) * outputs * inputs:
            return self.gram(rows, columns) @ weights
        return self.only(rows).towards(self.only(columns).total(weights))

    def only(self, positions: Int64[Tensor, "m"]) -> HeadGradients:
        """Return those of some samples."""
        return HeadGradients(self.errors[positions], self.inputs[positions])

    def towards(self, direction: Float64[Tensor, "c d"]) -> Float64[Tensor, "n"]:
        """Return <g_i, direction>, in O(n c d)."""
        parts = [(self.errors[b].double() @ direction * self.inputs[b].double()).sum(1) for b in self._blocks()]
        return torch.cat(parts)

    def _blocks(self, size: int = 4096) -> Iterator[slice]:
        for start in range(0, len(self), size):
            yield slice(start, start + size)


def _norms(side: Float32[Tensor, "n a"]) -> Float64[Tensor, "n"]:
    return torch.linalg.vector_norm(side, dim=1, dtype=torch.float64)


def _near_one(side: Float32[Tensor, "n a"]) -> Float32[Tensor, "n a"]:
    exponent = math.frexp(float(_norms(side).max()))[1]
    return side * 2.0 ** -min(max(exponent, -126), 126)
