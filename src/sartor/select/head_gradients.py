"""Per-sample gradients of the last Linear, worked with in factored form and never built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

if TYPE_CHECKING:
    from sartor.scan import Scan


@dataclass(frozen=True, eq=False)
class HeadGradients:
    """The gradients g_i = e_i (x) [h_i; 1] of n samples, held as errors e and head inputs [h; 1] in float64.

    <g_i, g_j> = <e_i, e_j> <[h_i; 1], [h_j; 1]>, so n * (c + d) numbers do the work of n * c * d.
    """

    errors: Float64[Tensor, "n c"]
    inputs: Float64[Tensor, "n d"]
    """Features, with a column of ones where the head has a bias."""

    @classmethod
    def of(cls, scan: Scan, positions: Int64[Tensor, "n"]) -> HeadGradients:
        """Take some samples of a scan that has logits, features and targets."""
        inputs = scan.features[positions].double()
        if scan.head_bias:
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
        return cls(scan.errors(positions).double(), inputs)

    def __len__(self) -> int:
        return len(self.errors)

    def squared_norms(self) -> Float64[Tensor, "n"]:
        """Return <g_i, g_i>, the diagonal of the Gram matrix."""
        return self.errors.square().sum(1) * self.inputs.square().sum(1)

    def columns(self, positions: Int64[Tensor, "m"]) -> Float64[Tensor, "m n"]:
        """Return columns of the Gram matrix, <g_i, g_j> for each j of `positions`, in O(m n (c + d))."""
        return (self.errors[positions] @ self.errors.T) * (self.inputs[positions] @ self.inputs.T)

    def total(self, weights: Float64[Tensor, "n"] | None = None) -> Float64[Tensor, "c d"]:
        """Return the sum of the gradients, each times its weight if weights are given."""
        errors = self.errors if weights is None else self.errors * weights[:, None]
        return errors.T @ self.inputs

    def along(self, direction: Float64[Tensor, "c d"]) -> Float64[Tensor, "n"]:
        """Return <g_i, direction>, in O(n c d) time and n * d memory."""
        return ((self.errors @ direction) * self.inputs).sum(1)
