"""Labels of tensor elements: which channel an element goes with, and which channels are one.

A label is a whole number. Two labels that were united mean the same channel: whatever bears it leaves together.
"""

from __future__ import annotations

import numpy
import torch
from jaxtyping import Int64
from torch import Tensor

STAYS = 0
"""The label of what never leaves: inputs, outputs, and whatever is united with them."""
FIXED = 1
"""The label of tensors that the network's code makes, of a size written there: nothing that meets them may leave."""


class Labels:
    """Sets of equal labels (union-find); the smallest label of a set stands for it."""

    def __init__(self) -> None:
        self._parent = numpy.arange(2)

    def fresh(self, count: int) -> Int64[Tensor, "n"]:
        """Return new labels, each a set of its own."""
        first = len(self._parent)
        self._parent = numpy.concatenate([self._parent, numpy.arange(first, first + count)])
        return torch.arange(first, first + count)

    def roots(self, labels: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
        """Return each label's representative; expanded dimensions stay expanded."""
        small = compact(labels)
        found = small.numpy()
        while True:
            above = self._parent[found]
            if numpy.array_equal(above, found):
                break
            found = above
        self._parent[small.numpy()] = found
        return torch.from_numpy(found).expand(labels.shape)

    def unite(self, one: Int64[Tensor, "..."], other: Int64[Tensor, "..."]) -> None:
        """Make labels equal, element by element, with broadcasting."""
        left, right = torch.broadcast_tensors(compact(one), compact(other))
        a, b = left.flatten().numpy(), right.flatten().numpy()
        assert not (a == FIXED).any(), "FIXED is no channel"
        assert not (b == FIXED).any(), "FIXED is no channel"
        while True:
            a, b = self._parent[a], self._parent[b]
            deeper = (self._parent[a] != a).any() or (self._parent[b] != b).any()
            differ = a != b
            if not deeper and not differ.any():
                return
            if not deeper:
                a, b = a[differ], b[differ]
                self._parent[numpy.maximum(a, b)] = numpy.minimum(a, b)

    def varies(self, labels: Int64[Tensor, "..."], dim: int) -> bool:
        """Tell whether labels differ along `dim`."""
        small = compact(self.roots(labels))
        return small.shape[dim] > 1 and not bool((small == small.narrow(dim, 0, 1)).all())


def compact(labels: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Return labels with size 1 in dimensions over which they are only expanded."""
    return labels[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in labels.stride())]
