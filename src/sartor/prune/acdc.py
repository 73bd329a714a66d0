"""AC/DC: training that is sparse and dense in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sartor.errors import check_order, check_range
from sartor.prune.magnitude import ByMagnitude
from sartor.ranking import size_of
from sartor.registry import PRUNERS


@PRUNERS.register("acdc")
@dataclass(frozen=True)
class ACDC(ByMagnitude):
    """Trains sparse and dense in turns, sparse at last, so that a weight once lost can come back (Peste et al. 2021).

    `sparsity`, `distribution`: as of `magnitude`; `start`: share of all optimiser steps before the first sparse phase;
    `phase`: share that a phase takes; `stop`: share after which the network is sparse for good. The last dense phase
    goes on until then. Weights that come back start at zero, with no memory of the optimiser's.
    Source: Peste et al. 2021, Algorithm 1; the defaults are the paper's for ImageNet, 10, 5 and 85 of 100 epochs.
    Differs: the published runs rank all layers together (`distribution=global-raw`).
    """

    needs_gradient: ClassVar[bool] = True

    start: float = 0.1
    phase: float = 0.05
    stop: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("start", self.start, 0, 1)
        check_range("phase", self.phase, 0, 1, low_open=True)
        check_range("stop", self.stop, 0, 1)
        check_order("start", self.start, "stop", self.stop)

    def reached(self, step: int, total_steps: int) -> float:
        """Return 1 in sparse phases and 0 in dense ones; from the stop on, the last step at the latest, 1."""
        start, stop = size_of(self.start, total_steps), min(size_of(self.stop, total_steps), total_steps - 1)
        length = max(1, size_of(self.phase, total_steps))
        if not start <= step < stop:
            return float(step >= stop)
        number, last = (step - start) // length, (stop - start) // length - 1
        return float(number % 2 == 0 and number < last)
