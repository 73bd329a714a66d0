"""Magnitude pruning: the largest weights live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sartor.errors import check_choice, check_range
from sartor.prune.base import BasePruner, finite_gradients
from sartor.prune.distribution import KINDS
from sartor.prune.keeping import best_of_each, keep_best
from sartor.prune.masks import Masks
from sartor.prune.scope import check_sparsity, resolve
from sartor.ranking import size_of
from sartor.registry import PRUNERS

GLOBAL = ("global-raw", "global-mean", "global-l2")
"""Distributions that rank all layers of a scope together, by what a weight's magnitude is divided by: nothing, the mean
magnitude of its layer, or the layer's L2 norm. They give quite different networks, so that each has its name."""


def magnitudes(weight: Float[Tensor, "..."], distribution: str = "global-raw") -> Float[Tensor, "..."]:
    """Return |w|, divided by the layer's mean of it (global-mean) or by its L2 norm (global-l2); higher lives."""
    size = weight.detach().abs()
    size = size if size.dtype == torch.float64 else size.float()
    if distribution == "global-mean":
        return size / size.mean().clamp_min(torch.finfo(size.dtype).tiny)
    if distribution == "global-l2":
        return size / size.norm().clamp_min(torch.finfo(size.dtype).tiny)
    return size


@dataclass(frozen=True)
class ByMagnitude(BasePruner, ABC):
    """Keeps the largest weights; a method adds `reached`, which says how far the masks have come at a step."""

    distributions: ClassVar[tuple[str, ...]] = (*KINDS, *GLOBAL)

    sparsity: float | Mapping[str, float] = 0.9
    distribution: str = "uniform"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_choice("distribution", self.distribution, self.distributions)

    @abstractmethod
    def reached(self, step: int, total_steps: int) -> float:
        """Return how far the masks have come after the update at `step`, from dense, 0, to their goal, 1.

        Step -1 is before the first step, as `init` leaves the masks.
        """

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> Masks:
        """Make masks of the largest weights, or of all where pruning comes later; nothing is drawn or read.

        Raises: PruningError: for a scope without weights or with fewer kept weights than layers, or weights that are
            not finite.
        """
        best = self.largest(model)
        goal = {name: int(mask.sum()) for name, mask in best.items()}
        if not self.reached(-1, 1):
            best = {name: torch.ones_like(mask) for name, mask in best.items()}
        masks = Masks(model, best, goal=goal)
        masks.apply()
        return masks

    def largest(self, model: nn.Module) -> dict[str, Bool[Tensor, "..."]]:
        """Return masks of the largest weights, as many as the sparsity leaves."""
        scopes = resolve(model, self.sparsity)
        scores = {n: magnitudes(w, self.distribution) for scope in scopes for n, w in scope.weights.items()}
        return keep_best(scopes, scores, self.distribution)

    def moves(self, step: int, total_steps: int) -> bool:
        """Tell whether weights die or come to life at `step`."""
        return self.reached(step, total_steps) != self.reached(step - 1, total_steps)

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Bring the masks to where they shall be at this step; the optimiser may always step.

        Dead weights stay dead until the masks become dense again, and then start at zero. Nothing moves while a
        gradient of the model is not finite: the move is made up for at the next step.
        """
        share, counts = self.reached(step, total_steps), masks.counts
        wanted = counts.reached(share)
        if masks.kept() == sum(wanted.values()) or not finite_gradients(masks.model):
            return True
        if share == 1 and self.distribution in GLOBAL:
            moved = self.largest(masks.model)
        else:
            sizes = {name: magnitudes(masks.parameter(name)) for name in masks.names}
            moved = best_of_each({n: torch.where(masks[n], size, -1) for n, size in sizes.items()}, wanted)
        for name, mask in moved.items():
            masks.move(name, mask)
        return True


@PRUNERS.register("magnitude")
@dataclass(frozen=True)
class Magnitude(ByMagnitude):
    """Prunes once: the smallest weights of the network as it is then are gone (Han et al. 2015).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: over the layers
    of a scope, uniform, er or erk, or a ranking of all of them together by |w| (`global-raw`), |w| over the layer's
    mean (`global-mean`) or over its L2 norm (`global-l2`); `at`: share of all optimiser steps after which it prunes; 0
    prunes in `init` the network that is given, before any step.
    Differs: counts are exact, ties go by index, and each layer keeps at least one weight.
    """

    at: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("at", self.at, 0, 1)

    def reached(self, step: int, total_steps: int) -> float:
        """Return 0 before the pruning, which is at the last step at the latest, and 1 from then on."""
        return float(self.at == 0 or step >= min(size_of(self.at, total_steps), total_steps - 1))
