"""Rewiring: small weights die and as many places elsewhere come to life, so that the count never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sartor.errors import ConfigError, check_choice, check_range
from sartor.prune.base import BasePruner, finite_gradients
from sartor.prune.distribution import KINDS
from sartor.prune.masks import Masks
from sartor.prune.random import RESCALES, random_start
from sartor.prune.schedule import cosine_drop, is_update_step
from sartor.prune.scope import check_sparsity
from sartor.ranking import top_mask


def drop_and_grow(
    weight: Float[Tensor, "..."], demand: Float[Tensor, "..."], mask: Bool[Tensor, "..."], count: int
) -> Bool[Tensor, "..."]:
    """Return the mask after one move: `count` living weights die and as many places come to life.

    The smallest magnitudes die; then the largest magnitudes of `demand` outside the surviving weights live, so that a
    weight may die and be revived at once, which leaves it untouched. Of equals, the lower index (row-major) lives.
    Source: Evci et al. 2020 (RigL), Algorithm 1 (drop and grow).
    """
    living = mask.reshape(-1).nonzero().squeeze(1)
    magnitudes = weight.detach().reshape(-1)[living].abs()
    survivors = mask.reshape(-1).clone()
    survivors[living[~top_mask(magnitudes, magnitudes.numel() - count)]] = False
    demand = torch.where(survivors, -1.0, demand.detach().reshape(-1).abs())
    return (survivors | top_mask(demand, count)).reshape(mask.shape)


@dataclass(frozen=True)
class Rewiring(BasePruner, ABC):
    """Random masks that move every few steps; a method adds `demands`, which says where weights grow.

    The options are those of RigL, which see.
    """

    sparsity: float | Mapping[str, float] = 0.9
    distribution: str = "erk"
    every: int = 100
    drop: float = 0.3
    stop: float = 0.75
    step_after_update: bool = True
    rescale: str = "auto"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_choice("distribution", self.distribution, KINDS)
        check_choice("rescale", self.rescale, RESCALES)
        check_range("drop", self.drop, 0, 1, low_open=True)
        check_range("stop", self.stop, 0, 1)
        check_every(self.every)

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> Masks:
        """Draw random masks with exact counts, rescale the initial weights as asked, and set dead weights to zero.

        The draws depend on `generator` and the shapes alone; `batches` and `loss` are not used.
        Raises: PruningError: for a scope without weights or with fewer kept weights than layers.
        """
        return random_start(model, self.sparsity, self.distribution, self.rescale, generator)

    @abstractmethod
    def demands(self, masks: Masks, step: int) -> Mapping[str, Float[Tensor, "..."] | None]:
        """Return how much each place of each layer asks to live (higher: more); a layer with None stays as it is."""

    def moves(self, step: int, total_steps: int) -> bool:
        """Tell whether the masks move at `step` (from 0)."""
        return is_update_step(step, self.every, self.stop * total_steps)

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Move the masks if it is time; call it with dense gradients, after unscaling and before `apply_to_gradients`.

        Returns whether the optimiser should step: `step_after_update` if the masks moved, else True. Nothing moves if a
        gradient of the model is not finite; a layer without demand or without dead weights stays as it is.
        Raises: PruningError: as `demands` does.
        """
        if not self.moves(step, total_steps):
            return True
        demands = self.demands(masks, step)
        if not finite_gradients(masks.model):
            return True
        share, moved = cosine_drop(step, self.stop * total_steps, self.drop), False
        for name, demand in demands.items():
            mask, count = masks[name], int(share * masks.kept(name))
            if demand is None or count == 0 or masks.kept(name) == mask.numel():
                continue
            masks.move(name, drop_and_grow(masks.parameter(name), demand, mask, count))
            moved = True
        return self.step_after_update or not moved


def check_every(every: int) -> None:
    """Raise ConfigError unless `every` is a whole number of steps."""
    if every < 1 or every != int(every):
        raise ConfigError(f"every is {every}; it must be a whole number of steps, at least 1.")
