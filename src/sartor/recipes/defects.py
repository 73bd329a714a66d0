"""The defects of DropHot's public code, to measure what each of them does; nothing else is wrong when one is on.

Source: VigneshPreetham/CS-260D_DropHot, as it was in December 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.errors import check_choice
from sartor.randomness import generator
from sartor.recording import BLOCK
from sartor.select.ranked import keep_top
from sartor.train import Trainer
from sartor.types import Subset

DEFECTS = ("scores", "batchnorm", "masks")
"""Scores by position in a shuffled order; trainings in eval mode; masks that are gone before fine-tuning."""


def read_defects(text: str) -> frozenset[str]:
    """Read `none`, or defects with commas between. Raises: ConfigError: for one that there is not."""
    names = [name.strip() for name in text.split(",")]
    if names == ["none"]:
        return frozenset()
    for name in names:
        check_choice("legacy_defects", name, DEFECTS)
    return frozenset(names)


class ChangesByPosition:
    """Counts changes of prediction from epoch to epoch at each place of a loader that is shuffled anew each time.

    So each comparison is between two samples that have nothing to do with each other, and labels do not enter: a count
    is a draw of Binomial(epochs - 1, 1 - 1/c) for c equally frequent predictions. The passes are before the epochs, in
    eval mode, and charged as `record`.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.seed = seed
        self.epoch = -1
        self.last: Int64[Tensor, "n"] = torch.zeros(n, dtype=torch.int64)
        """What was predicted at each place before the last epoch."""
        self.changes: Int64[Tensor, "n"] = torch.zeros(n, dtype=torch.int64)
        """How often that has changed."""

    def begin(self, epoch: int, trainer: Trainer) -> None:
        """Look at all samples before an epoch, once; the first look has nothing to be compared with."""
        if self.epoch >= epoch:
            return
        found = predictions(trainer)
        found = found[torch.randperm(len(found), generator=generator(self.seed, "positions", epoch))]
        if epoch > 0:
            self.changes += found != self.last
        self.epoch, self.last = epoch, found

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, and what they are compared with."""
        return {"epoch": self.epoch, "last": self.last.clone(), "changes": self.changes.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.epoch, self.last, self.changes = state["epoch"], state["last"], state["changes"]


def predictions(trainer: Trainer) -> Int64[Tensor, "n"]:
    """Return the classes that the network as it is gives to the samples it trains on, in the order of their rows."""
    pool, needs = trainer.loader.pool, frozenset({"logits"})
    looks = (trainer.scan(pool.only(rows), needs, purpose="record") for rows in pool.rows.split(BLOCK))
    return torch.cat([seen.logits.argmax(1).cpu() for seen in looks])


def chosen_by_position(
    pool: Pool, changes: Int64[Tensor, "n"], k: int, *, largest: bool, balanced: bool = False
) -> Subset:
    """Take counts by position for those of samples, and keep the k highest or lowest; ties go to the lower row."""
    targets = pool.targets_of(pool.rows) if balanced else None
    return Subset.of(pool.rows[keep_top(changes.double(), k, largest=largest, targets=targets)])


@contextmanager
def held_at_rest(model: nn.Module) -> Iterator[None]:
    """Keep a network in eval mode whatever it is told: batch norm goes by its initial statistics, and learns none."""
    model.train = MethodType(_rest, model)  # type: ignore[method-assign]
    try:
        model.train()
        yield
    finally:
        del model.train


def _rest(model: nn.Module, mode: bool = True) -> nn.Module:
    return type(model).train(model, False)
