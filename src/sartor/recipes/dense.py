"""The controls: one dense network on all data, or on random subsets, with nothing selected and nothing pruned."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import ClassVar, Literal

from torch import nn

from sartor.errors import ConfigError, check_choice, check_range
from sartor.ranking import size_of
from sartor.recipes.outcome import Watch
from sartor.recipes.recipe import Recipe
from sartor.recipes.sampling import (
    begin_memory,
    check_needs,
    check_network,
    draw,
    is_bounded,
    is_free,
    looks_of_sampler,
    needs_of,
    told_by,
)
from sartor.recipes.setup import Data
from sartor.recipes.state import Coreset, all_of, check_subset
from sartor.recipes.timetable import Looks, Slot, default_warmup, everything, fixed_steps, subsets
from sartor.registry import RECIPES, SAMPLERS
from sartor.train import Trainer
from sartor.types import EpochSampler, Subset


@RECIPES.register("dense")
@dataclass(frozen=True, kw_only=True)
class Dense(Recipe):
    """Train the dense network on all data, for a number of steps, or on subsets that a sampler draws.

    `steps` gives all data for as many steps as a coreset arm takes, with a learning rate schedule of its own.
    `sampler="redraw(every=0)"` is a random coreset drawn once, `redraw(every=R)` one that is redrawn every R epochs.
    """

    name: ClassVar[str] = "dense"

    steps: int | None = None
    """Stop after this many optimiser steps; the number of epochs follows. With a sampler there is no warm-up."""
    sampler: str | None = None
    """What draws each epoch's subset, such as redraw(every=5); all data, if not given."""
    fraction: float | None = None
    """Share of the training data in a subset; with a sampler only, but for one that settles its sizes itself."""
    warmup: int | None = None
    """Epochs on all data before the first subset; if not given, ceil(epochs * fraction / 2), none without fraction."""
    selection_timing: Literal["at-warmup-end", "skip"] = "at-warmup-end"
    """Whether subsets follow the warm-up at once, or, as CORDS does it, from half of the epochs on."""

    def check(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        super().check()
        check_choice("selection_timing", self.selection_timing, ("at-warmup-end", "skip"))
        if self.sampler is None and (self.warmup is not None or self.selection_timing != "at-warmup-end"):
            raise ConfigError("warmup and selection_timing have no effect without a sampler; leave them out.")
        self.check_sampler()
        if self.steps is not None:
            check_range("steps", self.steps, 1, math.inf, high_open=True)
            free = is_free(self.make_sampler())
            if self.sampler is not None and (free or self.warmup or self.selection_timing != "at-warmup-end"):
                raise ConfigError("steps is for all data, or for subsets of a fraction from the first epoch on.")
            if self.epochs != Recipe.epochs:
                raise ConfigError("epochs has no effect with steps, which set the length; give one of them.")
        if self.warmup is not None:
            check_range("warmup", self.warmup, 0, self.epochs - 1)

    def check_sampler(self) -> None:
        """Raise ConfigError for a sampler that does not go with the other options, or asks for what there is not."""
        sampler = self.make_sampler()
        if sampler is not None and is_free(sampler):
            if self.fraction is not None:
                raise ConfigError(f"{self.sampler} settles itself how many samples it takes; leave fraction out.")
            if self.selection_timing == "skip":
                raise ConfigError(f"selection_timing skip is for subsets of a fraction, not for {self.sampler}.")
        elif (sampler is None) != (self.fraction is None):
            raise ConfigError("sampler and fraction go together; give both, or neither for all data.")
        if self.fraction is not None:
            check_range("fraction", self.fraction, 0, 1, low_open=True)
        check_needs(sampler, self.sampler)
        if "history" in needs_of(sampler) and self.record == "epoch":
            raise ConfigError(f"{self.sampler} goes by mini-batches as they are trained; use record batch, or none.")

    @property
    def recording(self) -> str:
        """By mini-batches, where the sampler reads the history and nothing is asked for."""
        reads = self.record == "none" and "history" in needs_of(self.make_sampler())
        return "batch" if reads else self.record

    @property
    def bounded(self) -> bool:
        """Whether the sampler settles while training how much it trains, or looks at the network."""
        return is_bounded(self.make_sampler())

    @property
    def fewest_epochs(self) -> int:
        """The warm-up and one epoch more, where there is a warm-up."""
        return 1 if self.warmup is None else self.warmup + 1

    def lengthened(self, length: int) -> Dense:
        """Return the same recipe with so many steps on all data, or so many epochs where there is a sampler."""
        if self.sampler is not None and self.steps is None:
            return self.with_options(epochs=length)
        return self.with_options(steps=length, epochs=Recipe.epochs)

    def make_sampler(self) -> EpochSampler | None:
        """Make the sampler; None for all data."""
        return None if self.sampler is None else SAMPLERS.build(self.sampler)

    def timetable(self, n: int) -> list[Slot]:
        """All data every epoch, all data for `steps` steps, or a warm-up and then the sampler's subsets."""
        sampler = self.make_sampler()
        k = n if self.fraction is None else size_of(self.fraction, n)
        if self.steps is not None:
            slots = fixed_steps(k, self.steps, self.batch_size)
            return [replace(s, draws=sampler is not None and sampler.due(epoch)) for epoch, s in enumerate(slots)]
        if sampler is None:
            return everything(n, self.epochs)
        if self.warmup is not None:
            warmup = self.warmup
        else:
            warmup = 0 if self.fraction is None else default_warmup(self.epochs, self.fraction)
        slots = subsets(n, k, epochs=self.epochs, warmup=warmup, every=1, timing=self.selection_timing)
        start = next(epoch for epoch, slot in enumerate(slots) if slot.draws)
        return [Slot(slot.size, slot.draws and sampler.due(epoch - start)) for epoch, slot in enumerate(slots)]

    def purpose_of(self, slot: Slot, started: bool) -> str:
        """Epochs on all data before the first subset are the warm-up."""
        return "train" if started or self.sampler is None else "warmup"

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse a subset of nothing, and a network that the sampler cannot look at."""
        super().check_data(model, data)
        if self.fraction is not None:
            check_subset(size_of(self.fraction, len(data.train)), self.fraction, len(data.train))
        check_network(self.make_sampler(), model, data.train)

    def looks(self, n: int, *, held: int, size: int, done: int) -> Looks:
        """Count, for a sampler that looks at the network, the most that a draw passes through it."""
        before = takewhile(lambda slot: not slot.draws, self.timetable(n))
        first = done == sum(slot.size > 0 for slot in before)
        return looks_of_sampler(self.make_sampler(), n, size, first=first)

    def program(self, trainer: Trainer, data: Data, watch: Watch) -> Subset:
        """Epoch by epoch: draw a subset where the timetable says so, train on it."""
        run, slots = trainer.run, self.timetable(len(data.train))
        sampler = self.make_sampler()
        memory = begin_memory(sampler, data.train)
        if memory is not None:
            memory = run.track("sampler", memory)
        state = watch.follow(Coreset(all_of(data.train)))
        for epoch in run.epochs(len(slots), "train"):
            slot = slots[epoch]
            trainer.set_lr(epoch)
            if sampler is not None and slot.draws and state.drawn < epoch:
                last = state.subset if state.drawn >= 0 else None
                drawn = draw(sampler, memory, trainer, k=slot.size, subset=last, epoch=epoch, epochs=len(slots))
                state.replace(drawn, epoch)
                watch.selection(epoch, state.subset, **told_by(memory))
                run.save()
            trainer.meter.start(run.step)
            if slot.size:
                purpose = self.purpose_of(slot, state.drawn >= 0)
                subset = state.subset.raw() if is_free(sampler) else state.subset
                trainer.train_epoch(subset, epoch, stop=slot.stop, purpose=purpose)
            watch.epoch(epoch, len(slots), trainer.epoch_lr(epoch))
        return state.subset
