"""SNIP: keep the connections that the loss feels most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from sartor.prune.saliency import BySamples, Loss, Samples, mean_gradients
from sartor.registry import PRUNERS


@PRUNERS.register("snip")
@dataclass(frozen=True)
class SNIP(BySamples):
    """Prunes before training the weights whose removal would change the loss least, |w dL/dw| (Lee et al. 2019).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: global ranks all
    layers of a scope together, uniform, er and erk each layer alone; `samples`: how many are looked at, once, with
    batch norm in training mode.
    Source: Lee et al. 2019, Eq. 6 and Algorithm 1. Differs: each layer keeps at least one weight; initial weights are
    those of the network that is given.
    """

    init_passes: ClassVar[int] = 1

    def score(
        self, twin: nn.Module, weights: Mapping[str, Tensor], samples: Samples, loss: Loss
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return |w dL/dw|, with the gradient of the mean loss over all samples."""
        found = mean_gradients(twin, weights, samples, loss)
        return {name: (weight.detach() * found[name]).abs() for name, weight in weights.items()}
