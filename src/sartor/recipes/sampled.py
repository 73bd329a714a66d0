"""One training among several on subsets that a sampler draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sartor.data.pool import Pool
from sartor.recipes.sampling import begin_memory, draw, needs_of, told_by
from sartor.recipes.staged import Training
from sartor.recipes.timetable import Slot
from sartor.registry import SAMPLERS
from sartor.train import Trainer
from sartor.types import EpochSampler, Subset


@dataclass(frozen=True, kw_only=True)
class Sampled(Training):
    """The options of a training on `k` samples in every epoch, which a sampler draws from those that it is given."""

    name: ClassVar[str] = "sampled"

    sampler: str
    """What draws them, such as crest."""
    k: int
    """How many."""

    def make_sampler(self) -> EpochSampler:
        """Make the sampler."""
        return SAMPLERS.build(self.sampler)

    def course(self, n: int) -> list[Slot]:
        """All epochs of the schedule: k samples in every one."""
        return drawn_epochs(self.make_sampler(), self.k, self.epochs)

    @property
    def recording(self) -> str:
        """By mini-batches, where the sampler reads the history."""
        return "batch" if "history" in needs_of(self.make_sampler()) else self.record


class Drawing:
    """Lets a sampler draw before each epoch in which it is time to, and keeps what it remembers with the training."""

    def __init__(self, recipe: Sampled, pool: Pool) -> None:
        self.sampler, self.slots = recipe.make_sampler(), recipe.timetable(len(pool))
        self.memory = begin_memory(self.sampler, pool)
        self.epoch = -1
        self.subset: Subset | None = None

    def begin(self, epoch: int, trainer: Trainer) -> Subset | None:
        """Return what is drawn before an epoch, once; None where nothing is."""
        slot = self.slots[epoch]
        if self.epoch >= epoch or not slot.draws:
            return None
        place = {"epoch": epoch, "epochs": len(self.slots)}
        self.subset = draw(self.sampler, self.memory, trainer, k=slot.size, subset=self.subset, **place)
        self.epoch = epoch
        return self.subset

    @property
    def told(self) -> dict[str, Any]:
        """What the metrics tell of the last draw beside its subset."""
        return told_by(self.memory)

    def state_dict(self) -> dict[str, Any]:
        """Return the last epoch with a draw, the subset, and what the sampler remembers."""
        subset = None if self.subset is None else vars(self.subset)
        memory = None if self.memory is None else self.memory.state_dict()
        return {"epoch": self.epoch, "subset": subset, "memory": memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.epoch = state["epoch"]
        self.subset = None if state["subset"] is None else Subset(**state["subset"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])


def drawn_epochs(sampler: EpochSampler, k: int, epochs: int) -> list[Slot]:
    """Return so many epochs of k samples, drawn before those in which it is time to."""
    return [Slot(k, draws=sampler.due(epoch)) for epoch in range(epochs)]
