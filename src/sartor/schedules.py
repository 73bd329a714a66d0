"""How the learning rate moves over a run: pure functions of the epoch or the step, and the one that a run follows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sartor.errors import ConfigError
from sartor.ranking import largest_remainder

SCHEDULES = ("cosine", "one-cycle", "constant", "steps")
STEPS = "1x0.1,90x1,45x0.1,45x0.01"
"""The steps of PruneFuse for CIFAR (appendix): 181 epochs at 0.01, 0.1, 0.01, 0.001, as shares of 0.1."""


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


@functools.cache
def read_steps(text: str) -> tuple[tuple[int, float], ...]:
    """Read `1x0.1,90x1`: for so many epochs that share of the learning rate, one step after the other.

    Raises: ConfigError: for anything else, no epoch at all, or a share that is not above 0.
    """
    steps = []
    for part in text.split(","):
        epochs, found, share = part.strip().partition("x")
        try:
            steps.append((int(epochs), float(share)))
        except ValueError:
            found = ""
        if not found or steps[-1][0] < 1 or not 0 < steps[-1][1] < math.inf:
            raise ConfigError(
                f"steps_shape is {text!r}, of which {part.strip()!r} is no step; write EPOCHSxSHARE of the learning "
                f"rate, one after the other, such as {STEPS}."
            )
    return tuple(steps)


@functools.cache
def step_lengths(lengths: Sequence[int], epochs: int) -> tuple[int, ...]:
    """Stretch or shorten steps to `epochs` in all, in proportion, by largest remainder.

    No step vanishes where there is an epoch for each: the longest one gives it.

    >>> step_lengths((1, 90, 45, 45), 20)
    (1, 9, 5, 5)
    """
    found: list[int] = largest_remainder(epochs, torch.tensor(lengths)).tolist()
    while 0 in found and epochs >= len(found):
        found[found.index(max(found))] -= 1
        found[found.index(0)] = 1
    return tuple(found)


def stepped(epoch: int, epochs: int, text: str) -> float:
    """Return the share of the learning rate in `epoch` (from 0) of `epochs`, by steps of the shape that `text` has."""
    steps = read_steps(text)
    for length, (_, share) in zip(step_lengths(tuple(length for length, _ in steps), epochs), steps, strict=True):
        if epoch < length:
            return share
        epoch -= length
    return steps[-1][1]


@dataclass(frozen=True)
class Schedule:
    """The schedule of one run of so many epochs and optimiser steps: by epoch, but for one-cycle, which is by step."""

    kind: str = "constant"
    epochs: int = 1
    steps: int = 1
    peak_at: float = 0.0
    level: float = 1.0
    """What all shares are multiplied by."""
    shape: str = STEPS
    """What `steps` looks like."""

    def share(self, epoch: int, step: float) -> float:
        """Return the share of the recipe's learning rate at a step of an epoch; both count from 0 over the run."""
        if self.kind == "one-cycle":
            return self.level * one_cycle(min(step, self.steps - 1), self.steps, self.peak_at)
        if self.kind == "steps":
            return self.level * stepped(epoch, self.epochs, self.shape)
        return self.level * (cosine(epoch, self.epochs) if self.kind == "cosine" else 1.0)

    def mean(self, epoch: int, first: int, count: int) -> float:
        """Return the mean share over `count` steps of an epoch from `first`; that of the next step if it has none."""
        if self.kind != "one-cycle" or count == 0:
            return self.share(epoch, first)
        return math.fsum(self.share(epoch, step) for step in range(first, first + count)) / count
