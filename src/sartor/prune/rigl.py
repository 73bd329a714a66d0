"""RigL: sparse training that drops small weights and grows where the dense gradient is large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sartor.errors import ConfigError, PruningError, check_choice, check_range
from sartor.prune.distribution import KINDS, kept_counts, random_masks
from sartor.prune.masks import Masks
from sartor.prune.schedule import cosine_drop, is_update_step
from sartor.prune.scope import check_sparsity, normalised, prunable, resolve
from sartor.ranking import top_mask
from sartor.registry import PRUNERS


def drop_and_grow(
    weight: Float[Tensor, "..."], gradient: Float[Tensor, "..."], mask: Bool[Tensor, "..."], count: int
) -> Bool[Tensor, "..."]:
    """Return the mask after one move: `count` living weights die and as many places come to life.

    The smallest magnitudes die; then the largest gradient magnitudes outside the surviving weights live, so that a
    weight may die and be revived at once, which leaves it untouched. Of equals, the lower index (row-major) lives.
    Source: Evci et al. 2020 (RigL), Algorithm 1 (drop and grow).
    """
    living = mask.reshape(-1).nonzero().squeeze(1)
    magnitudes = weight.detach().reshape(-1)[living].abs()
    survivors = mask.reshape(-1).clone()
    survivors[living[~top_mask(magnitudes, magnitudes.numel() - count)]] = False
    demand = torch.where(survivors, -1.0, gradient.detach().reshape(-1).abs())
    return (survivors | top_mask(demand, count)).reshape(mask.shape)


@PRUNERS.register("rigl")
@dataclass(frozen=True)
class RigL:
    """Trains sparse from the first step; drops small weights and grows those with large gradients (Evci et al. 2020).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: over the layers
    of a scope; `every`: optimiser steps between moves; `drop`: share of each layer's living weights that moves first,
    falling by a cosine; `stop`: share of all optimiser steps after which the masks rest (0: they never move).
    `step_after_update`: whether the optimiser also steps when the masks moved. `rescale`: multiply kept initial weights
    by 1/sqrt(layer density): `auto`, where no normalisation follows (`prune.scope.normalised`), `always` or `never`.
    Differs: the original skips the step on a move (`step_after_update=False`), adds noise against ties and has an
    absolute stop; uniform keeps its first layer dense (say so by scope: `{"conv1": 0, "all": 0.9}`); no `rescale`.
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
        check_choice("rescale", self.rescale, ("auto", "always", "never"))
        check_range("drop", self.drop, 0, 1, low_open=True)
        check_range("stop", self.stop, 0, 1)
        if self.every < 1 or self.every != int(self.every):
            raise ConfigError(f"every is {self.every}; it must be a whole number of steps, at least 1.")

    @property
    def passes(self) -> int:
        """One forward-backward pass a step."""
        return 1

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
        kept: dict[str, int] = {}
        for _, weights, sparsity in resolve(model, self.sparsity):
            shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
            kept |= kept_counts(shapes, sparsity, self.distribution)
        shapes = {name: tuple(weight.shape) for name, weight in prunable(model).items() if name in kept}
        masks = Masks(model, random_masks(shapes, kept, generator))
        spared = {"auto": normalised(model), "always": set[str](), "never": set(masks.names)}[self.rescale]
        with torch.no_grad():
            for name, density in masks.densities().items():
                if name not in spared:
                    masks.parameter(name).mul_(density**-0.5)
        masks.apply()
        return masks

    def forward(self, model: nn.Module, masks: Masks) -> AbstractContextManager[None]:
        """Do nothing: the weights themselves are masked."""
        return nullcontext()

    def moves(self, step: int, total_steps: int) -> bool:
        """Tell whether the masks move at `step` (from 0), which then needs dense weight gradients."""
        return is_update_step(step, self.every, self.stop * total_steps)

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Move the masks if it is time; call it with dense gradients, after unscaling and before `apply_to_gradients`.

        Returns whether the optimiser should step: `step_after_update` if the masks moved, else True. Nothing moves if a
        gradient of the model is not finite; a layer without gradient or without dead weights stays as it is.
        Raises: PruningError: if no masked parameter has a gradient although it is time to move.
        """
        if not self.moves(step, total_steps):
            return True
        gradients = {name: masks.parameter(name).grad for name in masks.names}
        if all(gradient is None for gradient in gradients.values()):
            raise PruningError("no masked parameter has a gradient; call update between backward and zero_grad.")
        if not _finite(masks.model):
            return True
        share, moved = cosine_drop(step, self.stop * total_steps, self.drop), False
        for name, gradient in gradients.items():
            mask, count = masks[name], int(share * masks.kept(name))
            if gradient is None or count == 0 or masks.kept(name) == mask.numel():
                continue
            masks.move(name, drop_and_grow(masks.parameter(name), gradient, mask, count))
            moved = True
        return self.step_after_update or not moved

    def finish(self, model: nn.Module, masks: Masks) -> None:
        """Do nothing: the masks are settled already."""


def _finite(model: nn.Module) -> bool:
    return all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
