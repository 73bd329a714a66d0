"""Random masks: where sparse training starts, and a baseline that every other pruner has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import check_choice
from sartor.prune.base import BasePruner
from sartor.prune.distribution import KINDS, random_masks
from sartor.prune.keeping import kept_by_layer
from sartor.prune.masks import Masks
from sartor.prune.scope import check_sparsity, normalised, prunable, resolve
from sartor.registry import PRUNERS

RESCALES = ("auto", "always", "never")


def random_start(
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    distribution: str,
    rescale: str,
    generator: torch.Generator,
) -> Masks:
    """Draw random masks with exact counts, rescale the weights that live, and set the others to zero.

    `rescale` multiplies living weights by 1/sqrt(layer density), so that signals keep their size: `auto`, where no
    normalisation follows (`prune.scope.normalised`), `always` or `never`. Draws depend on `generator` and the shapes.
    Raises: PruningError: for a scope without weights or with fewer kept weights than layers.
    """
    kept = kept_by_layer(resolve(model, sparsity), distribution)
    shapes = {name: tuple(weight.shape) for name, weight in prunable(model).items() if name in kept}
    masks = Masks(model, random_masks(shapes, kept, generator))
    spared = {"auto": normalised(model), "always": set[str](), "never": set(masks.names)}[rescale]
    with torch.no_grad():
        for name, density in masks.densities().items():
            if name not in spared:
                masks.parameter(name).mul_(density**-0.5)
    masks.apply()
    return masks


@PRUNERS.register("random")
@dataclass(frozen=True)
class Random(BasePruner):
    """Draws masks once and leaves them: the control of every pruner that looks (Liu et al. 2022).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: over the layers
    of a scope, erk, er or uniform; `rescale`: multiply living initial weights by 1/sqrt(layer density), `auto` where no
    normalisation follows, `always` or `never`.
    Source: Liu et al. 2022 (The Unreasonable Effectiveness of Random Pruning). Differs: counts are exact, and
    `rescale` is an addition (`never` is the original).
    """

    sparsity: float | Mapping[str, float] = 0.9
    distribution: str = "erk"
    rescale: str = "auto"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_choice("distribution", self.distribution, KINDS)
        check_choice("rescale", self.rescale, RESCALES)

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> Masks:
        """Draw the masks and set dead weights to zero; `batches` and `loss` are not used.

        Raises: PruningError: for a scope without weights or with fewer kept weights than layers.
        """
        return random_start(model, self.sparsity, self.distribution, self.rescale, generator)
