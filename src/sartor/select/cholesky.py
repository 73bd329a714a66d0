"""A Cholesky factor that follows a matrix which grows and shrinks by one row and column at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr_delete
from scipy.linalg.blas import dtpsv

DEPENDENT = 1e-12
"""A pivot below this share of its diagonal entry means that the new column depends on the others."""


class Cholesky:
    """Upper triangular R with R^T R = A, in float64, its columns packed one after the other; O(m^2) for each change."""

    def __init__(self, capacity: int) -> None:
        self.size = 0
        self._packed = np.zeros(capacity * (capacity + 1) // 2)

    def append(self, across: NDArray[Any], diagonal: float) -> bool:
        """Border A by a column and its diagonal entry; return False, with A as it was, where it depends on A."""
        above = self._triangular(across, transposed=True)
        pivot = diagonal - float(above @ above)
        if pivot <= DEPENDENT * diagonal:
            return False
        start = self._entries(self.size)
        self.size += 1
        self._packed[start : start + self.size] = np.append(above, np.sqrt(pivot))
        return True

    def delete(self, place: int) -> None:
        """Take a row and column out of A: drop the column of R, and rotate it to a triangle again."""
        triangle = np.tril_indices(self.size)
        upper = np.zeros((self.size, self.size))
        upper.T[triangle] = self._packed[: self._entries(self.size)]
        _, upper = qr_delete(np.eye(self.size), upper, place, which="col", check_finite=False)
        self.size -= 1
        entries = self._entries(self.size)
        self._packed[:entries] = upper.T[triangle[0][:entries], triangle[1][:entries]]

    def solve(self, right: NDArray[Any]) -> NDArray[Any]:
        """Return A^-1 right."""
        return self._triangular(self._triangular(right, transposed=True), transposed=False)

    def _triangular(self, right: NDArray[Any], *, transposed: bool) -> NDArray[Any]:
        if self.size == 0:
            return right
        solution: NDArray[Any] = dtpsv(self.size, self._packed, right, trans=int(transposed))
        return solution

    @staticmethod
    def _entries(size: int) -> int:
        return size * (size + 1) // 2
