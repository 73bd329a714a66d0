"""Gradual magnitude pruning: more and more of the smallest weights die while the network trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sartor.errors import check_order, check_range
from sartor.prune.distribution import KINDS
from sartor.prune.magnitude import ByMagnitude
from sartor.prune.rewiring import check_every
from sartor.prune.schedule import cubic
from sartor.ranking import size_of
from sartor.registry import PRUNERS


@PRUNERS.register("gradual")
@dataclass(frozen=True)
class Gradual(ByMagnitude):
    """Starts dense and lets the smallest weights die, many at first and few at last (Zhu and Gupta 2017).

    `sparsity`: share of weights removed in the end, a number or by scope (`prune.scope.resolve`); `distribution`: over
    the layers of a scope, uniform, er or erk; `every`: optimiser steps between two cuts; `start`, `stop`: shares of all
    optimiser steps between which the cubic runs. At `stop` the masks are at their goal, whatever `every` is.
    Source: Zhu and Gupta 2017, Eq. 1, from an initial sparsity of 0, layer by layer.
    """

    distributions: ClassVar[tuple[str, ...]] = KINDS

    every: int = 100
    start: float = 0.0
    stop: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_every(self.every)
        check_range("start", self.start, 0, 1)
        check_range("stop", self.stop, 0, 1)
        check_order("start", self.start, "stop", self.stop)

    def reached(self, step: int, total_steps: int) -> float:
        """Return the cubic at the last cut; 1 from the stop on, which is the last step at the latest."""
        start, stop = size_of(self.start, total_steps), min(size_of(self.stop, total_steps), total_steps - 1)
        if step >= stop:
            return 1.0
        return cubic((step - start) // self.every * self.every / (stop - start)) if step > start else 0.0
