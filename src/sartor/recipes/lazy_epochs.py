"""Epochs of a pair: a small network marks the hardest samples of each mini-batch, a large one learns from those."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sartor.costs import training_flops
from sartor.data.loader import Batch, even_sizes
from sartor.randomness import derive, forked, reseed
from sartor.ranking import size_of, top_mask
from sartor.scanning import forward
from sartor.train import Trainer
from sartor.types import Subset
from sartor.undisturbed import modes, refuse_own_mode


def kept_in(fraction: float, size: int) -> int:
    """Return how many samples of a mini-batch are kept: floor(fraction * size + 1/2), one at least."""
    return max(1, size_of(fraction, size))


class LazyEpochs:
    """Looks at every mini-batch, marks the samples of highest loss, and learns from those on one step in `every`.

    `kept` (epochs, n), in the order of the subset, is what was marked. Losses are those of the network in training, on
    augmented views; of equal ones the first in the mini-batch are marked. A step that learns is charged forward and
    backward for the whole mini-batch, any other forward alone.
    Source: Jordan 2024, airbench96_faster: every fourth step, the hardest 512 of 1,024.
    Differs: the loss is the mean over the marked samples, not their sum.
    """

    def __init__(self, n: int, epochs: int, *, fraction: float, every: int) -> None:
        self.fraction, self.every = fraction, every
        self.kept: Bool[Tensor, "e n"] = torch.zeros(epochs, n, dtype=torch.bool)

    def train(self, trainer: Trainer, subset: Subset, epoch: int, *, purpose: str) -> None:
        """Go through an epoch, from the step at which the run stands."""
        trainer.model.train()
        before, steps = modes(trainer.model), len(even_sizes(len(subset), trainer.loader.batch_size))
        batches = trainer.loader.epoch(subset, epoch, start=trainer.run.step)
        with trainer.ledger.timed(purpose), forked(trainer.device), closing(batches):
            for batch in trainer.run.steps(batches):
                reseed(derive(trainer.run.seed, trainer.world.own("forward"), trainer.step), trainer.device)
                trainer.set_lr(epoch, steps)
                self.step(trainer, batch, epoch, purpose)
                refuse_own_mode(trainer.model, before)
            trainer.agree()

    def step(self, trainer: Trainer, batch: Batch, epoch: int, purpose: str) -> None:
        """Look at a mini-batch, mark the hardest of it, and learn from those if it is time."""
        world, learns = trainer.world, trainer.step % self.every == 0
        with torch.set_grad_enabled(learns), trainer.surrounded():
            logits = forward(trainer.model, batch.inputs).float()
            losses = F.cross_entropy(logits, batch.targets, reduction="none", label_smoothing=trainer.label_smoothing)
        whole = world.gather_rows(losses.detach().cpu())
        value = trainer.finite(float(whole.mean()), losses.detach(), batch)
        hardest = top_mask(whole, kept_in(self.fraction, batch.size))
        self.kept[epoch, world.gather_rows(batch.positions.cpu())] = hardest
        if learns:
            self.learn(trainer, losses, hardest)
            trainer.ledger.charge(purpose, trained=batch.size, flops=batch.size * training_flops(trainer.flops, {}))
        else:
            trainer.ledger.charge(purpose, forward=batch.size, flops=batch.size * trainer.flops.forward)
        trainer.step += 1
        trainer.meter.loss += value * batch.size
        trainer.meter.samples += batch.size
        trainer.meter.steps += 1

    def learn(self, trainer: Trainer, losses: Float[Tensor, "b"], hardest: Bool[Tensor, "m"]) -> None:
        """Take an optimiser step by the mean loss of the marked samples, of which this process may have a part."""
        mine = hardest[trainer.world.shard(len(hardest))].to(losses.device)
        loss = (losses * mine).sum() / int(hardest.sum())
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trainer.world.sum_gradients(trainer.model.parameters(), loss)
        trainer.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what was marked so far."""
        return {"kept": self.kept.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.kept = state["kept"]


class KeptEpochs:
    """Trains, in each epoch, on those samples of every mini-batch that are marked in `kept` (epochs, n)."""

    def __init__(self, kept: Bool[Tensor, "e n"]) -> None:
        self.kept = kept

    def train(self, trainer: Trainer, subset: Subset, epoch: int, *, purpose: str) -> None:
        """Train an epoch as usual, on what is kept of it."""
        trainer.train_epoch(subset, epoch, kept=self.kept[epoch], purpose=purpose)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what is kept is known beforehand."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing back."""


def packed(kept: Bool[Tensor, "e n"]) -> list[str]:
    """Return a table of marks as text, a line for each epoch: eight marks a byte, in base 64."""
    return [base64.b64encode(np.packbits(row.numpy()).tobytes()).decode() for row in kept]


def unpacked(lines: Sequence[str], n: int) -> Bool[Tensor, "e n"]:
    """Return the table of n marks a line that `packed` made text of."""
    rows = [np.frombuffer(base64.b64decode(line), dtype=np.uint8) for line in lines]
    return torch.stack([torch.from_numpy(np.unpackbits(row, count=n)).bool() for row in rows])
