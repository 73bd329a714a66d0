"""ProbMask: every weight has a probability to live, learned beside it under one budget for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sartor.errors import PruningError, check_order, check_range
from sartor.prune.base import BasePruner, finite_gradients
from sartor.prune.drawn import DrawnMasks
from sartor.prune.masks import Masks
from sartor.prune.schedule import cubic
from sartor.prune.scope import check_sparsity, resolve
from sartor.prune.simplex import blocks
from sartor.registry import PRUNERS
from sartor.schedules import cosine

TINY = 1e-20
"""Keeps logarithms and quotients finite: in float32, for float16 has no such number."""


def relaxed(
    scores: Float[Tensor, "n"], uniform: Float[Tensor, "n"], sharpness: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Return a soft mask m = sigmoid(sharpness (logit s + logit u)) and its slope dm/ds, in float32.

    `uniform`: draws in [0, 1). `sharpness`: one over the temperature; as it grows, m becomes a draw of 0 or 1, which is
    1 with probability s. Where m is 1 to the last bit, its slope is 0.
    Source: Zhou et al. 2021 (ProbMask), Eq. 7. Differs: the logistic noise takes one uniform draw, not two.
    """
    mask, slope = torch.empty_like(uniform), torch.empty_like(uniform)
    for s, u, m, rise in zip(*(blocks(row) for row in (scores.detach(), uniform, mask, slope))):
        above, below = s.float() + TINY, 1 - s.float() + TINY
        odds = (u.clamp(min=2**-25) * above).div_(1 - u).div_(below)
        m.copy_(odds.log_().mul_(sharpness).sigmoid_())
        rise.copy_((1 - m).mul_(m).mul_(sharpness).div_(above.mul_(below)))
    return mask, slope


@PRUNERS.register("probmask")
@dataclass(frozen=True)
class ProbMask(BasePruner):
    """Learns with every weight the probability that it lives, under one budget for all layers (Zhou et al. 2021).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`), each with a budget. `passes`:
    masks drawn a step. `start`, `stop`: shares of the optimiser steps between which the budget falls, by a cubic.
    `temperature`: of the last draws; that of the first is 1. `lr`: of the scores' Adam, falling by a cosine. `clip`:
    largest norm of the gradients of weights and scores together; 0 for any. `trials`: masks drawn in the end, of which
    the one with the lowest training loss stays; 0 for the most probable mask. `finetune`: epochs under it, at the
    learning rate `finetune_lr`.
    Differs: budget, temperature and rate go by step, not by epoch; a trial gets the exact count of weights before it is
    tried, and is tried by its loss in eval mode; the original leaves counts as drawn and goes by accuracy.
    """

    needs_gradient: ClassVar[bool] = True

    sparsity: float | Mapping[str, float] = 0.9
    passes: int = 2
    start: float = 0.16
    stop: float = 0.6
    temperature: float = 0.03
    lr: float = 6e-3
    clip: float = 3.0
    trials: int = 10
    finetune: int = 20
    finetune_lr: float = 1e-3

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        for option, least in (("passes", 1), ("trials", 0), ("finetune", 0), ("clip", 0)):
            check_range(option, getattr(self, option), least, math.inf, high_open=True)
        for option in ("lr", "finetune_lr"):
            check_range(option, getattr(self, option), 0, math.inf, low_open=True, high_open=True)
        check_range("temperature", self.temperature, 0, 1, low_open=True)
        check_range("start", self.start, 0, 1)
        check_range("stop", self.stop, 0, 1)
        check_order("start", self.start, "stop", self.stop)

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> DrawnMasks:
        """Give every weight in scope the probability 1; the network stays as it is.

        The seed of all draws comes from `generator`; `batches` and `loss` are not used.
        Raises: PruningError: for a scope without weights or with fewer kept weights than layers.
        """
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        return DrawnMasks(model, resolve(model, self.sparsity), int(seed))

    def remaining(self, progress: float) -> float:
        """Return what is left of the way from all weights, 1, to the final number of them, 0."""
        if progress >= self.stop:
            return 0.0
        return 1 - cubic((progress - self.start) / (self.stop - self.start)) if progress > self.start else 1.0

    def sharpness(self, progress: float) -> float:
        """Return one over the temperature, which falls by a line from 1 to `temperature`."""
        return 1 / ((1 - self.temperature) * (1 - progress) + self.temperature)

    @contextmanager
    def forward(self, model: nn.Module, masks: Masks) -> Iterator[None]:
        """Surround one forward and backward pass: its weights are w * m, with a soft m drawn for it.

        What it leaves are the gradients of w, added to those that were there before; those of the scores are kept
        beside. Once the masks are settled it does nothing.
        Raises: PruningError: if nothing was passed backward inside.
        """
        held = drawn(masks)
        if held.settled:
            yield
            return
        mask, slope = relaxed(held.scores, held.uniform(f"pass {held.passed}"), self.sharpness(held.progress))
        parameters = [held.parameter(name) for name in held.names]
        before = [parameter.grad for parameter in parameters]
        held.passed += 1
        with held.wear(mask) as weights:
            for parameter in parameters:
                parameter.grad = None
            yield
        held.turn(weights, mask, slope)
        for parameter, earlier in zip(parameters, before):
            if earlier is not None:
                parameter.grad = earlier if parameter.grad is None else parameter.grad + earlier

    @contextmanager
    def look(self, model: nn.Module, masks: Masks) -> Iterator[None]:
        """Surround a look at the network: its weights are w * m, with one m of zeros and ones, the same at a step."""
        held = drawn(masks)
        if held.settled or held.worn:
            yield
            return
        with held.wear(held.draw("look")):
            yield

    def moves(self, step: int, total_steps: int) -> bool:
        """Tell that the probabilities move at every step."""
        return True

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Clip all gradients, let the scores make their step, project them onto their budget; the weights may step.

        Nothing moves if a gradient is not finite. Once the masks are settled it does nothing.
        Raises: PruningError: if no pass has been surrounded by `forward`.
        """
        held = drawn(masks)
        held.passed = 0
        if held.settled:
            return True
        gradient = held.scores.grad
        if finite_gradients(held.model) and (gradient is None or bool(gradient.isfinite().all())):
            if gradient is None:
                raise PruningError("the probabilities have no gradient; surround each pass by pruner.forward.")
            if self.clip:
                clip_grad_norm_([*held.model.parameters(), held.scores], self.clip)
            held.score_optimizer.param_groups[0]["lr"] = self.lr * cosine(min(step, total_steps), total_steps)
            held.score_optimizer.step()
            held.spend(self.remaining(step / total_steps))
        held.scores.grad = None
        held.step, held.total_steps = step + 1, total_steps
        return True

    def finish(self, model: nn.Module, masks: Masks, *, measure: Callable[[], float] | None = None) -> None:
        """Choose the mask that stays, and enforce it: of `trials` draws the one that `measure` finds the lowest.

        `measure`: the training loss of the network as it is when called. Without it there is nothing to choose by, and
        the most probable mask stays. Masks that are settled already stay as they are.
        """
        held = drawn(masks)
        if held.settled:
            return
        best, lowest = held.exact(torch.zeros_like(held.scores, dtype=torch.bool)), math.inf
        if measure is not None:
            for trial in range(self.trials):
                candidate = held.exact(held.draw(f"trial {trial}"))
                with held.wear(candidate):
                    loss = measure()
                if loss < lowest:
                    best, lowest = candidate, loss
        held.settle(best)


def drawn(masks: Masks) -> DrawnMasks:
    """Return masks as what they are. Raises: PruningError: for masks that `ProbMask.init` has not made."""
    if not isinstance(masks, DrawnMasks):
        raise PruningError("these masks have no probabilities; use those that init of probmask returns.")
    return masks
