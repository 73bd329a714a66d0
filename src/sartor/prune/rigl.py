"""RigL: sparse training that drops small weights and grows where the dense gradient is large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sartor.errors import PruningError
from sartor.prune.masks import Masks
from sartor.prune.rewiring import Rewiring
from sartor.registry import PRUNERS


@PRUNERS.register("rigl")
@dataclass(frozen=True)
class RigL(Rewiring):
    """Trains sparse from the first step; drops small weights and grows those with large gradients (Evci et al. 2020).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: over the layers
    of a scope; `every`: optimiser steps between moves; `drop`: share of each layer's living weights that moves first,
    falling by a cosine; `stop`: share of all optimiser steps after which the masks rest (0: they never move).
    `step_after_update`: whether the optimiser also steps when the masks moved. `rescale`: multiply kept initial weights
    by 1/sqrt(layer density): `auto`, where no normalisation follows (`prune.scope.normalised`), `always` or `never`.
    Differs: the original skips the step on a move (`step_after_update=False`), adds noise against ties and has an
    absolute stop; uniform keeps its first layer dense (say so by scope: `{"conv1": 0, "all": 0.9}`); no `rescale`.
    """

    needs_gradient: ClassVar[bool] = True

    def demands(self, masks: Masks, step: int) -> Mapping[str, Float[Tensor, "..."] | None]:
        """Return the dense gradients; a layer that has none stays as it is.

        Raises: PruningError: if no masked parameter has a gradient although it is time to move.
        """
        gradients = {name: masks.parameter(name).grad for name in masks.names}
        if all(gradient is None for gradient in gradients.values()):
            raise PruningError("no masked parameter has a gradient; call update between backward and zero_grad.")
        return gradients
