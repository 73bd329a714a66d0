"""What a pursuit chooses from: gradients known by their inner products alone."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float32, Float64, Int64
from torch import Tensor


@runtime_checkable
class Atoms(Protocol):
    """Gradients g_1 ... g_n, each of one sample or of several, known by their inner products."""

    @property
    def sizes(self) -> Int64[Tensor, "n"]:
        """How many samples each stands for."""
        ...

    def __len__(self) -> int: ...

    def near_one(self) -> Atoms:
        """Return all of them times one number, so that products in float32 neither overflow nor vanish."""
        ...

    def norms(self) -> Float64[Tensor, "n"]:
        """Return |g_i|."""
        ...

    def target(self) -> Float64[Tensor, "n"]:
        """Return <g_i, G>, where G is the sum of all."""
        ...

    def gram(self, rows: Int64[Tensor, "a"], columns: Int64[Tensor, "b"]) -> Float64[Tensor, "a b"]:
        """Return <g_i, g_j> of some with others, exact to float64."""
        ...

    def along(
        self, rows: Int64[Tensor, "a"], columns: Int64[Tensor, "b"], weights: Float64[Tensor, "b"]
    ) -> Float64[Tensor, "a"]:
        """Return <g_i, sum_j w_j g_j> of some with a weighted sum of others, exact to float64."""
        ...

    def columns(self, positions: Int64[Tensor, "m"]) -> Float32[Tensor, "m n"]:
        """Return <g_j, g_i> for each j of `positions` and all i, in float32."""
        ...

    def first_twins(self) -> Int64[Tensor, "n"]:
        """Return, for each, the first one known to be the very same: often itself."""
        ...
