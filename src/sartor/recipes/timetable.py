"""When a recipe trains on what: the one list that both the program and its cost forecast follow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sartor.data.loader import even_sizes

TIMINGS = ("at-warmup-end", "literal", "skip")


@dataclass(frozen=True)
class Slot:
    """One epoch: how many samples it trains on, whether a subset is drawn before it, and after how many steps it ends.

    `size` 0 is an epoch that only lets the learning rate go on; `stop` None means all of its mini-batches.
    """

    size: int
    draws: bool = False
    stop: int | None = None

    def steps(self, batch_size: int) -> int:
        """Return the number of optimiser steps."""
        whole = len(even_sizes(self.size, batch_size)) if self.size else 0
        return whole if self.stop is None else min(whole, self.stop)


@dataclass(frozen=True)
class Looks:
    """Samples that one selection passes through the network.

    `forward` only, `backward` too (gradients of single samples), and those of the chosen `subset` once more; all n of
    them through each of so many `earlier` networks, as they were at the ends of the last epochs but one, but two, ...
    Of the `curved` ones the slope of the loss is taken with its curvature.
    """

    forward: int = 0
    backward: int = 0
    subset: int = 0
    earlier: int = 0
    curved: int = 0


@dataclass(frozen=True)
class Lessons:
    """What a teacher of the student's own size costs: samples it is `trained` on before, and whether it is `asked`.

    A teacher is asked of every sample that the student is trained on.
    """

    trained: int = 0
    asked: bool = False


def count_steps(slots: Iterable[Slot], batch_size: int) -> int:
    """Return the number of optimiser steps of a timetable."""
    return sum(slot.steps(batch_size) for slot in slots)


def count_samples(slots: Iterable[Slot], batch_size: int) -> int:
    """Return the number of samples that a timetable trains on."""
    return sum(sum(even_sizes(slot.size, batch_size)[: slot.steps(batch_size)]) for slot in slots if slot.size)


def default_warmup(epochs: int, fraction: float) -> int:
    """T_w = ceil(T * alpha / 2) epochs on all data (SWaST, Sec. 4.1), but never all epochs."""
    return min(math.ceil(epochs * fraction / 2 - 1e-9), epochs - 1)


def everything(n: int, epochs: int) -> list[Slot]:
    """All data, every epoch."""
    return [Slot(n) for _ in range(epochs)]


def fixed_steps(n: int, steps: int, batch_size: int) -> list[Slot]:
    """All data for exactly `steps` optimiser steps; the last epoch ends early."""
    per_epoch = len(even_sizes(n, batch_size))
    whole, rest = divmod(steps, per_epoch)
    return everything(n, whole) + ([Slot(n, stop=rest)] if rest else [])


def subsets(n: int, k: int, *, epochs: int, warmup: int, every: int, timing: str = "at-warmup-end") -> list[Slot]:
    """Warm up on all n samples, then train on subsets of k (SWaST, Alg. 1 l.4-9; `every` 0 draws once).

    With t = 1, 2, ... the number of an epoch, K the warm-up and R = `every`, a subset is drawn before epoch t when
    - at-warmup-end: t = K+1, K+1+R, K+1+2R, ...
    - literal: t > K and t mod R = 0; until the first such t the epochs are on all data (Alg. 1 l.5 as printed)
    - skip: as CORDS does it: epochs K+1 ... T/2 train nothing, then at T/2+1 and every R epochs.
      Differs: CORDS trains on a random subset until the next multiple of R.
    """
    slots: list[Slot] = []
    for epoch in range(epochs):
        number = epoch + 1
        if timing == "literal":
            draws = number > warmup and (number % every == 0 if every else number == warmup + 1)
            started = draws or any(slot.draws for slot in slots)
            slots.append(Slot(k if started else n, draws))
            continue
        start = max(warmup, epochs // 2) if timing == "skip" else warmup
        since = epoch - start
        if since >= 0:
            slots.append(Slot(k, since % every == 0 if every else since == 0))
        else:
            slots.append(Slot(n if epoch < warmup else 0))
    return slots
