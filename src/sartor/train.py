"""Training one network on subsets of a pool: the step, the epoch, and what is watched meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from sartor.costs import MONITOR, Flops, Ledger, training_flops
from sartor.curvature import PROBE
from sartor.data.arrays import not_finite
from sartor.data.loader import Batch, Loader, even_sizes
from sartor.data.pool import Pool
from sartor.digest import digest
from sartor.dist import World
from sartor.errors import TrainingError
from sartor.losses import correct, state_preservation, weighted_mean
from sartor.memory import fitting
from sartor.network_view import NetworkView
from sartor.precision import Precision, arithmetic
from sartor.prune.base import uses_dense_gradient
from sartor.prune.masks import Masks
from sartor.randomness import derive, forked, reseed
from sartor.recording import BLOCK, Recorder
from sartor.run import Run
from sartor.scanning import forward, samples_passed, scan
from sartor.schedules import Schedule
from sartor.seen import Scan
from sartor.teacher import PURPOSE as TEACHING
from sartor.teacher import Teacher
from sartor.types import Pruner, Subset
from sartor.undisturbed import modes, refuse_own_mode, undisturbed


@dataclass(frozen=True)
class Preserved:
    """Stored logits of the subset's samples, in the subset's order, and which of them bind (state preservation)."""

    logits: Tensor
    keep: Tensor | None
    weight: float
    reduction: str

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the weighted preservation loss of a mini-batch, or what this process' part of it adds to that."""
        positions = batch.positions.to(self.logits.device)
        stored = self.logits[positions].to(logits.device)
        keep = None if self.keep is None else self.keep[positions].to(logits.device)
        return self.weight * state_preservation(logits, stored, keep, reduction=self.reduction, size=batch.size)


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

    `step` counts optimiser steps from 0 over the whole run; `total_steps` is the real number of them. Where that is not
    known beforehand, `planned` are the steps of each epoch that the schedule counts with: fewer may be taken.
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
    schedule: Schedule = field(default_factory=Schedule)
    label_smoothing: float = 0.0
    pruner: Pruner | None = None
    masks: Masks | None = None
    weighting: str = "mean"
    precision: Precision = "fp32"
    scoring: Precision = "fp32"
    recorder: Recorder | None = None
    planned: Sequence[int] = ()
    teacher: Teacher | None = None
    step: int = 0
    lr_share: float = 1.0
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.meter = self.run.track("meter", self.meter)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps done.

        Raises: TrainingError: where the last one has left weights that are not finite, so that none such are saved.
        """
        spoilt = [name for name, weight in self.model.named_parameters() if not bool(weight.isfinite().all())]
        if spoilt:
            raise TrainingError(
                f"{spoilt[0]} is not finite after step {self.step}, whose gradient was not; lower --lr. "
                "The last checkpoint was taken before this step."
            )
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the number of steps back."""
        self.step = state["step"]

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.run.world

    @property
    def densities(self) -> dict[str, float]:
        """Share of kept weights for each masked parameter; empty where nothing is masked."""
        return {} if self.masks is None else self.masks.densities()

    @property
    def passes(self) -> int:
        """Forward and backward passes of a step."""
        return 1 if self.pruner is None else self.pruner.passes

    def place(self, epoch: int, step: int, steps: int) -> float:
        """Return where step `step` of the `steps` of an epoch stands among the planned ones, over which they spread."""
        return sum(self.planned[:epoch]) + (step + 0.5) * self.planned[epoch] / steps - 0.5

    def set_lr(self, epoch: int, steps: int | None = None) -> None:
        """Set every group's learning rate to the share of its initial one that the schedule has for the next step.

        `steps` are those that the epoch takes, if they may be fewer than planned.
        """
        place = self.place(epoch, self.run.step, steps or self.planned[epoch]) if self.planned else self.step
        self.lr_share = self.schedule.share(epoch, place)
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("initial_lr", self.lr) * self.lr_share

    def epoch_lr(self, epoch: int) -> float:
        """Return the learning rate of the epoch that has just ended: the mean over its steps."""
        steps = self.meter.steps
        if not self.planned:
            return self.lr * self.schedule.mean(epoch, self.step - steps, steps)
        shares = (self.schedule.share(epoch, self.place(epoch, step, steps)) for step in range(steps))
        return self.lr * math.fsum(shares) / steps

    def train_epoch(
        self,
        subset: Subset,
        epoch: int,
        *,
        stop: int | None = None,
        preserved: Preserved | None = None,
        kept: Bool[Tensor, "k"] | None = None,
        purpose: str,
    ) -> None:
        """Train on a subset once (or on its first `stop` mini-batches), from the step at which the run stands.

        With `kept`, those samples alone are left in their mini-batches; it is in the subset's order.
        Then look at all samples, where the history is recorded so.
        """
        self.model.train()
        before, steps = modes(self.model), len(even_sizes(len(subset), self.loader.batch_size))
        batches = self.loader.epoch(subset, epoch, start=self.run.step, stop=stop, kept=kept)
        with self.ledger.timed(purpose), forked(self.device), closing(batches):
            for batch in self.run.steps(batches):
                reseed(derive(self.run.seed, self.world.own("forward"), self.step), self.device)  # dropout and the like
                self.set_lr(epoch, steps)
                densities = self.densities
                loss, dense = self.train_step(batch, preserved)
                refuse_own_mode(self.model, before)
                cost = batch.size * self.passes * training_flops(self.flops, densities, dense_gradient=dense)
                self.ledger.charge(purpose, trained=batch.size, flops=cost)
                if self.teacher is not None:
                    asked = batch.size * self.passes
                    self.ledger.charge(TEACHING, forward=asked, flops=asked * self.teacher.flops.forward)
                self.meter.loss += loss * batch.size
                self.meter.samples += batch.size
                self.meter.steps += 1
            self.agree()
        if self.recorder is not None and self.recorder.kind == "epoch":
            self.record(self.recorder, self.loader.pool)

    def train_step(self, batch: Batch, preserved: Preserved | None = None) -> tuple[float, bool]:
        """Take one optimiser step; return the loss and whether the pruner used the dense gradient."""
        dense = self.pruner is not None and uses_dense_gradient(self.pruner, self.step, self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        if self.recorder is not None:
            self.recorder.begin()
        loss, losses = self.backward(batch, preserved)
        learned = () if self.masks is None else self.masks.learned
        value = self.finite(self.world.sum_gradients([*self.model.parameters(), *learned], loss), losses, batch)
        if self.recorder is not None:
            self.recorder.visit(batch.rows, self.loader.pool)
        may_step = True
        if self.pruner is not None and self.masks is not None:
            may_step = self.pruner.update(self.masks, step=self.step, total_steps=self.total_steps)
        if self.masks is not None:
            self.masks.apply_to_gradients()
        if may_step:
            self.optimizer.step()
        if self.teacher is not None:
            self.teacher.follow(self.model)
        self.step += 1
        return value, dense

    def backward(self, batch: Batch, preserved: Preserved | None) -> tuple[Tensor, Tensor]:
        """Compute the gradients; return the loss, and each sample's own.

        One of several processes has a part of the mini-batch (none, if there are fewer samples than processes): its
        loss and gradients are what it adds to those of the whole.
        """
        total, each = torch.zeros((), device=self.device), torch.zeros(len(batch), device=self.device)
        for _ in range(self.passes if len(batch) else 0):
            with self.surrounded():
                logits = forward(self.model, batch.inputs).float()
                if self.recorder is not None:
                    self.recorder.hold(logits)
                losses = F.cross_entropy(logits, batch.targets, reduction="none", label_smoothing=self.label_smoothing)
                told = losses if self.teacher is None else self.teacher.mixed(losses, logits, batch)
                loss = weighted_mean(told, batch.weights, self.weighting, whole=batch.whole)
                if preserved is not None:
                    loss = loss + preserved.loss(logits, batch)
                loss = loss / self.passes
                loss.backward()
            total += loss.detach()
            each += losses.detach()
        return total, each

    def agree(self) -> None:
        """Give all processes the buffers of the first; make sure that weights and masks are the same in all of them.

        Raises: SartorError: where they differ, naming the processes.
        """
        self.world.share(self.model.buffers())
        self.world.same("the weights", lambda: digest(dict(self.model.named_parameters())))
        if self.masks is not None:
            self.world.same("the masks", self.masks.digest)

    @contextmanager
    def own_randomness(self, purpose: str) -> Iterator[None]:
        """Let a network that draws at random even at rest draw the same whenever it comes to this step."""
        with forked(self.device):
            reseed(derive(self.run.seed, self.world.own(purpose), self.step), self.device)
            yield

    def looking(self) -> AbstractContextManager[None]:
        """Surround a look at the network with the pruner's own, where it has one."""
        look = getattr(self.pruner, "look", None)
        return nullcontext() if look is None or self.masks is None else look(self.model, self.masks)

    @contextmanager
    def surrounded(self) -> Iterator[None]:
        """Surround a pass with the pruner's own forward and with mixed precision, where asked for."""
        with ExitStack() as stack:
            stack.enter_context(arithmetic(self.precision, self.device))
            if self.pruner is not None and self.masks is not None:
                stack.enter_context(self.pruner.forward(self.model, self.masks))
            yield

    def finite(self, value: float, losses: Tensor, batch: Batch) -> float:
        """Return the loss. Raises: TrainingError: when it is not finite, naming the samples."""
        if math.isfinite(value):
            return value
        rows = self.world.gather_rows(batch.rows.cpu())
        spoilt = rows[self.world.gather_rows(not_finite(batch.inputs).cpu())]
        if len(spoilt):
            names = ", ".join(self.loader.pool.ids_of(spoilt[:5]))
            raise TrainingError(
                f"the loss is {value} at step {self.step}, for the inputs of samples {names} are not finite; mend them "
                "or leave them out. The last checkpoint was taken before this step."
            )
        bad = rows[~self.world.gather_rows(losses.cpu()).isfinite()]
        ids = self.loader.pool.ids_of(bad[:5] if len(bad) else rows[:5])
        which = f"of samples {', '.join(ids)}" if len(bad) else f"of a mini-batch with samples {', '.join(ids)}"
        raise TrainingError(
            f"the loss {which} is {value} at step {self.step}; lower --lr, or look at those samples. "
            "The last checkpoint was taken before this step."
        )

    def scan(
        self,
        pool: Pool,
        needs: frozenset[str],
        *,
        purpose: str,
        progress: float | None = None,
        head: str | None = None,
        validation: Pool | None = None,
        labelled: Pool | None = None,
        dropout_passes: int = 0,
        seed: int = 0,
        each: float | None = None,
    ) -> Scan:
        """Scan a pool with the network as it is, with all that it takes for `needs`; all passes are charged.

        `each` are the FLOPs of a forward pass of one sample, where they are not those of the masks as they are.
        """
        with self.ledger.timed(purpose), self.own_randomness("scan"), self.looking():
            seen = scan(
                self.model,
                pool,
                needs=needs,
                head=head,
                device=self.device,
                progress=progress,
                lr=self.lr * self.lr_share,
                validation=validation,
                labelled=labelled,
                history=None if self.recorder is None else self.recorder.history,
                dropout_passes=dropout_passes,
                seed=seed,
                channels_last=self.loader.channels_last,
                precision=self.scoring,
                workers=self.loader.workers,
                world=self.world,
            )
        held = {"held": validation, "labelled": labelled}
        sizes = {name: 0 if beside is None else len(beside) for name, beside in held.items()}
        once, trained = samples_passed(needs, len(pool), members=dropout_passes, **sizes)
        if once or trained:
            cost = once * (self.flops.masked(self.densities) if each is None else each)
            cost += trained * training_flops(self.flops, self.densities, dense_gradient=True)
            self.ledger.charge(purpose, forward=once, trained=trained, flops=cost)
        return seen

    def view(self, pool: Pool, *, head: str | None = None) -> NetworkView:
        """Return the network as a sampler may look at it; all passes are charged as `select`."""

        def look(part: Pool, needs: frozenset[str]) -> Scan:
            return self.scan(part, needs, purpose="select", head=head)

        def probed(samples: int) -> None:
            self.ledger.charge(
                "select", trained=samples, flops=samples * PROBE * training_flops(self.flops, self.densities)
            )

        return NetworkView(self.model, pool, look, probed, self.world)

    def record(self, recorder: Recorder, pool: Pool) -> None:
        """Visit all samples of a pool with the network as it is, a block at a time; charged as `record`."""
        for rows in pool.rows.split(BLOCK):
            seen = self.scan(pool.only(rows), frozenset({"logits", "targets"}), purpose="record")
            recorder.history.visit(seen.rows, seen.logits, seen.targets)

    def evaluate(self, pool: Pool, *, batch_size: int = 256, purpose: str = MONITOR) -> tuple[Tensor, Tensor]:
        """Return per-sample losses and correctness over a pool's rows; charged as monitoring, unless told otherwise."""
        like = self.loader
        loader = Loader(
            pool,
            batch_size=batch_size,
            seed=0,
            device=self.device,
            channels_last=like.channels_last,
            workers=like.workers,
        )
        rows = pool.rows[self.world.shard(len(pool.rows), block=batch_size)]

        def passed(size: int) -> tuple[list[Tensor], list[Tensor]]:
            losses, hits = [], []
            for batch in loader.sequential(rows, batch_size=size):
                logits = forward(self.model, batch.inputs).float()
                losses.append(F.cross_entropy(logits, batch.targets, reduction="none").cpu())
                hits.append(correct(logits, batch.targets).cpu())
            return losses, hits

        with (
            self.ledger.timed(purpose),
            self.own_randomness("evaluate"),
            undisturbed(self.model),
            self.looking(),
        ):
            losses, hits = fitting(passed, batch_size)
        self.ledger.charge(purpose, forward=len(pool), flops=len(pool) * self.flops.masked(self.densities))
        gathered = [self.world.gather_rows(torch.cat(found) if found else None) for found in (losses, hits)]
        return gathered[0], gathered[1]
