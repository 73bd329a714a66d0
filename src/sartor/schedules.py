"""How the learning rate moves over a run: pure functions of the epoch or the step, and the one that a run follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULES = ("cosine", "one-cycle", "constant")


def cosine(epoch: int, epochs: int) -> float:
    """Cosine annealing per epoch: the share of the initial learning rate in `epoch` (from 0), 1 at the start."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def one_cycle(step: float, steps: int, peak_at: float) -> float:
    """One straight line up and one down: the share of the highest learning rate at optimiser step `step` (from 0).

    The lines run from 0 to 1 within the first `peak_at` of the steps and back to 0 at the end; a step takes the value
    in its middle, so that none is 0 and a run of any length has the mean 1/2 (less at the kink). With peak_at = 0 there
    is only the way down.
    Source: Smith and Topin 2018 (super-convergence), in the form of the fast CIFAR programs.
    Differs: there is no third phase far below the start, and the momentum stays as it is.
    """
    middle, peak = step + 0.5, peak_at * steps
    return middle / peak if middle < peak else (steps - middle) / (steps - peak)


@dataclass(frozen=True)
class Schedule:
    """The schedule of one run of so many epochs and optimiser steps: by epoch, but for one-cycle, which is by step."""

    kind: str = "constant"
    epochs: int = 1
    steps: int = 1
    peak_at: float = 0.0
    level: float = 1.0
    """What all shares are multiplied by."""

    def share(self, epoch: int, step: float) -> float:
        """Return the share of the recipe's learning rate at a step of an epoch; both count from 0 over the run."""
        if self.kind == "one-cycle":
            return self.level * one_cycle(min(step, self.steps - 1), self.steps, self.peak_at)
        return self.level * (cosine(epoch, self.epochs) if self.kind == "cosine" else 1.0)

    def mean(self, epoch: int, first: int, count: int) -> float:
        """Return the mean share over `count` steps of an epoch from `first`; that of the next step if it has none."""
        if self.kind != "one-cycle" or count == 0:
            return self.share(epoch, first)
        return math.fsum(self.share(epoch, step) for step in range(first, first + count)) / count
