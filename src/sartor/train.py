"""Training one network on subsets of a pool: the step, the epoch, and what is watched meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.costs import MONITOR, Flops, Ledger, training_flops
from sartor.data.loader import Batch, Loader
from sartor.data.pool import Pool
from sartor.errors import TrainingError
from sartor.losses import correct, state_preservation, weighted_mean
from sartor.precision import Precision, arithmetic
from sartor.prune.masks import Masks
from sartor.randomness import derive, reseed
from sartor.run import Run
from sartor.scanning import FORWARD_PARTS, Scan, forward, scan, undisturbed
from sartor.types import Pruner, Subset


def cosine(epoch: int, epochs: int) -> float:
    """Cosine annealing per epoch: the share of the initial learning rate in `epoch` (from 0), 1 at the start."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


@dataclass(frozen=True)
class Preserved:
    """Stored logits of the subset's samples, in the subset's order, and which of them bind (state preservation)."""

    logits: Tensor
    keep: Tensor | None
    weight: float
    reduction: str

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the weighted preservation loss of a mini-batch."""
        positions = batch.positions.to(self.logits.device)
        stored = self.logits[positions].to(logits.device)
        keep = None if self.keep is None else self.keep[positions].to(logits.device)
        return self.weight * state_preservation(logits, stored, keep, reduction=self.reduction)


@dataclass
class Meter:
    """Sums over the steps of the epoch at hand; a checkpoint in mid-epoch keeps them."""

    loss: float = 0.0
    samples: int = 0
    steps: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return vars(self).copy()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the sums back."""
        vars(self).update(state)

    def start(self, step: int) -> None:
        """Begin an epoch, unless it is one that goes on at `step`."""
        if step == 0:
            self.loss, self.samples, self.steps = 0.0, 0, 0


@dataclass
class Trainer:
    """A network in training: everything that one epoch needs, with every cost charged to the ledger.

    `step` counts optimiser steps from 0 over the whole run; `total_steps` is the real number of them.
    """

    run: Run
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: Loader
    flops: Flops
    ledger: Ledger
    total_steps: int
    device: torch.device
    lr: float
    pruner: Pruner | None = None
    masks: Masks | None = None
    weighting: str = "mean"
    precision: Precision = "fp32"
    scoring: Precision = "fp32"
    step: int = 0
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.meter = self.run.track("meter", self.meter)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps done."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the number of steps back."""
        self.step = state["step"]

    @property
    def densities(self) -> dict[str, float]:
        """Share of kept weights for each masked parameter; empty where nothing is masked."""
        return {} if self.masks is None else self.masks.densities()

    @property
    def passes(self) -> int:
        """Forward and backward passes of a step."""
        return 1 if self.pruner is None else self.pruner.passes

    def set_lr(self, share: float) -> float:
        """Set every group's learning rate to a share of the initial one; return it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * share
        return self.lr * share

    def train_epoch(
        self, subset: Subset, epoch: int, *, stop: int | None = None, preserved: Preserved | None = None, purpose: str
    ) -> None:
        """Train on a subset once (or on its first `stop` mini-batches), from the step at which the run stands."""
        self.model.train()
        batches = self.loader.epoch(subset, epoch, start=self.run.step, stop=stop)
        with self.ledger.timed(purpose), self.own_randomness():
            for batch in self.run.steps(batches):
                reseed(derive(self.run.seed, "forward", self.step), self.device)  # dropout and the like
                loss, moved = self.train_step(batch, preserved)
                size = len(batch.rows)
                cost = size * self.passes * training_flops(self.flops, self.densities, dense_gradient=moved)
                self.ledger.charge(purpose, trained=size, flops=cost)
                self.meter.loss += loss * size
                self.meter.samples += size
                self.meter.steps += 1

    def train_step(self, batch: Batch, preserved: Preserved | None = None) -> tuple[float, bool]:
        """Take one optimiser step; return the loss and whether the pruner used the dense gradient."""
        moving = self.pruner is not None and self.pruner.moves(self.step, self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for _ in range(self.passes):
            with self.surrounded():
                logits = forward(self.model, batch.inputs).float()
                losses = F.cross_entropy(logits, batch.targets, reduction="none")
                loss = weighted_mean(losses, batch.weights, self.weighting)
                if preserved is not None:
                    loss = loss + preserved.loss(logits, batch)
                value += self.finite(loss, losses, batch) / self.passes
                (loss / self.passes).backward()
        may_step = True
        if self.pruner is not None and self.masks is not None:
            may_step = self.pruner.update(self.masks, step=self.step, total_steps=self.total_steps)
            self.masks.apply_to_gradients()
        if may_step:
            self.optimizer.step()
        self.step += 1
        return value, moving

    def own_randomness(self) -> AbstractContextManager[None]:
        """Surround training with random states of its own; the global ones come back."""
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    @contextmanager
    def surrounded(self) -> Iterator[None]:
        """Surround a pass with the pruner's own forward and with mixed precision, where asked for."""
        with ExitStack() as stack:
            stack.enter_context(arithmetic(self.precision, self.device))
            if self.pruner is not None and self.masks is not None:
                stack.enter_context(self.pruner.forward(self.model, self.masks))
            yield

    def finite(self, loss: Tensor, losses: Tensor, batch: Batch) -> float:
        """Return the loss as a number. Raises: TrainingError: when it is not finite, naming the samples."""
        value = float(loss.detach())
        if math.isfinite(value):
            return value
        bad = batch.rows[~losses.detach().isfinite().cpu()]
        ids = self.loader.pool.ids_of(bad[:5] if len(bad) else batch.rows[:5])
        which = f"of samples {', '.join(ids)}" if len(bad) else f"of a mini-batch with samples {', '.join(ids)}"
        raise TrainingError(
            f"the loss {which} is {value} at step {self.step}; lower --lr, or look at those samples. "
            "The last checkpoint was taken before this step."
        )

    def scan(
        self, pool: Pool, needs: frozenset[str], *, purpose: str, progress: float, head: str | None = None
    ) -> Scan:
        """Scan a pool with the network as it is; the forward passes are charged."""
        with self.ledger.timed(purpose):
            seen = scan(
                self.model,
                pool,
                needs=needs,
                head=head,
                device=self.device,
                progress=progress,
                lr=self.optimizer.param_groups[0]["lr"],
                channels_last=self.loader.channels_last,
                precision=self.scoring,
            )
        if needs & FORWARD_PARTS:
            cost = len(pool) * self.flops.masked(self.densities)
            self.ledger.charge(purpose, forward=len(pool), flops=cost)
        return seen

    def evaluate(self, pool: Pool, *, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Return per-sample losses and correctness over a pool's rows; charged as monitoring."""
        loader = Loader(
            pool, batch_size=batch_size, seed=0, device=self.device, channels_last=self.loader.channels_last
        )
        losses, hits = [], []
        with self.ledger.timed(MONITOR), undisturbed(self.model):
            for batch in loader.sequential(pool.rows, batch_size=batch_size):
                logits = forward(self.model, batch.inputs).float()
                losses.append(F.cross_entropy(logits, batch.targets, reduction="none").cpu())
                hits.append(correct(logits, batch.targets).cpu())
        self.ledger.charge(MONITOR, forward=len(pool), flops=len(pool) * self.flops.masked(self.densities))
        return torch.cat(losses), torch.cat(hits)
