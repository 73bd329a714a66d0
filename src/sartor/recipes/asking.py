"""Labels from people: a recipe that asks, waits, and goes on when it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sartor.data.augment import Augment
from sartor.data.pool import Pool
from sartor.dist import World
from sartor.errors import ConfigError, DataError, SelectionError, nearest
from sartor.recipes.beginning import as_it_began, keep_samples
from sartor.recipes.label_log import LabelLog
from sartor.recipes.labels import Awaited
from sartor.recipes.outcome import Result
from sartor.recipes.setup import Data, check_finite, pick_augment, test_like

if TYPE_CHECKING:
    from sartor.recipes.rounds import Rounds

LOG, SAMPLES = "labels.jsonl", "samples.json"


class Session:
    """A labelling in a run folder: `ask` for ids, `tell` their labels in any order and in parts, `finish`.

    The folder holds all of it: another session on the same folder, pool and network goes on, in another process or on
    another day. Labels are kept in `labels.jsonl`. Labels that the pool has already are told without being asked for.
    Nothing is held out, for labels are what is short. The order of the source has no effect. The samples are those that
    it began with, for budgets and draws are of them; `samples.json` names them, and what the pool has beside them is
    left out with a warning: rows are then those of `session.pool`.
    Raises: ConfigError: for a pool whose number of classes is not known, or a recipe that makes labels wrong.
    DataError: for a pool without a sample that it began with, or with other classes, or in another order.
    """

    def __init__(
        self,
        recipe: Rounds,
        model: nn.Module,
        pool: Pool,
        test: object | None,
        out: Path,
        device: str = "auto",
        augment: Augment | None = None,
    ) -> None:
        if pool.classes is None:
            raise ConfigError("the pool does not say how many classes there are; make it with class_names or classes.")
        if recipe.noise:
            raise ConfigError("noise makes labels wrong, but people tell them here; leave it out.")
        self.recipe = recipe.with_options(holdout=0.0)
        given, pool = pool, as_it_began(out / SAMPLES, pool)
        self.model, self.pool, self.out, self.device = model, pool, out, device
        self.augment = pick_augment(recipe.augment, augment or Augment())
        self.test = None if test is None else test_like(given, test)
        if self.test is not None and pool.preprocess != given.preprocess:
            self.test = self.test.alone(pool.preprocess)
        self.log = LabelLog(out / LOG, pool.classes)
        check_finite(pool, "training")
        self.size = self.recipe.agenda(len(pool))[-1].size

    @property
    def waiting(self) -> list[str]:
        """Ids that were asked for and have no label yet."""
        asked, told = self.log.read()
        return [name for name in asked if name not in told]

    def ask(self) -> list[str]:
        """Return ids that wait for a label; none once all budgets are spent. Trains what has to choose them first."""
        waiting = self.waiting
        if waiting:
            return waiting
        asked, _ = self.log.read()
        if len(asked) >= self.size:
            return []
        try:
            self._go_on()
        except Awaited as awaited:
            keep_samples(self.out / SAMPLES, self.pool)
            self.log.ask(awaited.asked)
            known = self._known()
            self.log.tell({name: known[name] for name in awaited.asked if name in known})
            return self.waiting or self.ask()
        return []

    def tell(self, labels: Mapping[str, int | str]) -> int:
        """Take labels, as numbers or names of classes; return how many are still waited for.

        What was told before changes nothing. Raises: DataError: for an id that was not asked for, a label that is no
        class, or another one than was told before; then nothing of the call is taken.
        """
        self.log.tell({name: self._number(name, label) for name, label in labels.items()})
        return len(self.waiting)

    def finish(self) -> Result:
        """Train what is left and return what came of it.

        Raises: SelectionError: while samples wait for a label.
        """
        waiting = self.ask()
        if waiting:
            raise SelectionError(
                f"{len(waiting)} samples wait for a label, such as {waiting[0]!r}; tell them, then finish. "
                "What was told is kept."
            )
        return self._go_on()

    def _go_on(self) -> Result:
        """Carry the recipe out with the labels that are known, as far as they reach."""
        targets = torch.full((len(self.pool.ids),), -1, dtype=torch.int64)
        places = {name: row for row, name in enumerate(self.pool.ids)}
        for name, label in self.log.read()[1].items():
            if name in places:  # with another pool than the run began with, the run says what differs
                targets[places[name]] = label
        blank = Data(self.pool.relabelled(torch.full_like(targets, -1), None), None, self.test, self.augment)
        data = replace(blank, train=self.pool.relabelled(targets, None))
        return self.recipe.fit_data(self.model, data, World(), out=self.out, device=self.device, identity=blank)

    def _known(self) -> dict[str, int]:
        """Return the labels that the pool has already."""
        rows = self.pool.labelled_rows()
        return dict(zip(self.pool.ids_of(rows), self.pool.targets_of(rows).tolist(), strict=True))

    def _number(self, name: str, label: int | str) -> int:
        """Return the number of a class. Raises: DataError: where there is no such class."""
        classes, names = self.pool.classes or 0, self.pool.class_names or ()
        if isinstance(label, str):
            if label not in names:
                raise DataError(f"{label!r}, told of {name!r}, is no class.{nearest(label, names)} Nothing was taken.")
            return names.index(label)
        number = _whole(label)
        if number is None or not 0 <= number < classes:
            raise DataError(
                f"{label!r}, told of {name!r}, is no class; they are 0 to {classes - 1}. Nothing was taken."
            )
        return number


def _whole(label: Any) -> int | None:
    """Return a whole number of any type as an int; None for anything else, True and False among it."""
    try:
        number = int(label)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last from tensors of several values
        return None
    return number if number == label and not isinstance(label, bool) else None
