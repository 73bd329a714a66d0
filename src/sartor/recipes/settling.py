"""After the last epoch: the pruner settles its masks, and the network may train on under them."""

from __future__ import annotations

from typing import Any

from sartor.recipes.outcome import Watch
from sartor.recipes.setup import Data
from sartor.schedules import Schedule
from sartor.train import Trainer
from sartor.types import Pruner, Subset

MEASURING, TUNING = "settle", "finetune"
"""The ledger's purposes: passes over the training pool that choose a mask, and training under it."""


def trials_of(pruner: Pruner | None) -> int:
    """Return how often the pruner measures the training loss when it settles its masks."""
    return int(getattr(pruner, "trials", 0))


def tuning_epochs(pruner: Pruner | None) -> int:
    """Return for how many epochs the network trains on under the settled masks."""
    return int(getattr(pruner, "finetune", 0))


def settle(trainer: Trainer, data: Data, watch: Watch, subset: Subset, epochs: int) -> None:
    """Settle the masks after `epochs` epochs, then train on the last subset for as long as the pruner asks.

    The optimiser begins that with no memory, at a constant learning rate; only the plain loss counts. A run that goes
    on in the midst of it finds its masks settled.
    """
    pruner, masks = trainer.pruner, trainer.masks
    if pruner is None or masks is None:
        return

    def training_loss() -> float:
        return float(trainer.evaluate(data.train, purpose=MEASURING)[0].double().mean())

    given: dict[str, Any] = {"measure": training_loss} if trials_of(pruner) else {}
    before, more = masks.digest(), tuning_epochs(pruner)
    pruner.finish(trainer.model, masks, **given)
    trainer.pruner = None
    moved = masks.digest() != before
    if moved:
        watch.settled(epochs)
    if not more:
        return
    if moved:
        trainer.optimizer.state.clear()
        trainer.run.save()
    rate: float = pruner.finetune_lr  # type: ignore[attr-defined]
    trainer.schedule, trainer.planned = Schedule("constant", level=rate / trainer.lr), ()
    for epoch in trainer.run.epochs(more, TUNING):
        trainer.meter.start(trainer.run.step)
        trainer.train_epoch(subset, epochs + epoch, purpose=TUNING)
        watch.epoch(epochs + epoch, epochs + more, trainer.epoch_lr(epochs + epoch))
