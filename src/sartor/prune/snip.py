"""SNIP: keep the connections that the loss feels most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor, nn

from sartor.errors import check_range
from sartor.prune.keeping import keep_best
from sartor.prune.saliency import BySaliency, Loss, Samples, mean_gradients, weights_of
from sartor.prune.scope import Scope
from sartor.registry import PRUNERS


@PRUNERS.register("snip")
@dataclass(frozen=True)
class SNIP(BySaliency):
    """Prunes before training the weights whose removal would change the loss least, |w dL/dw| (Lee et al. 2019).

    `sparsity`: share of weights removed, a number or by scope (`prune.scope.resolve`); `distribution`: global ranks all
    layers of a scope together, uniform, er and erk each layer alone; `samples`: how many are looked at, once, with
    batch norm in training mode.
    Source: Lee et al. 2019, Eq. 6 and Algorithm 1. Differs: each layer keeps at least one weight; initial weights are
    those of the network that is given.
    """

    init_passes: ClassVar[int] = 1

    samples: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("samples", self.samples, 1, float("inf"), high_open=True)

    @property
    def init_samples(self) -> int:
        """How many samples `init` reads."""
        return self.samples

    def choose(
        self, twin: nn.Module, scopes: list[Scope], samples: Samples, loss: Loss
    ) -> dict[str, Bool[Tensor, "..."]]:
        """Keep the largest |w dL/dw|, with the gradient of the mean loss over all samples."""
        weights = weights_of(scopes)
        found = mean_gradients(twin, weights, samples, loss)
        scores = {name: (weight.detach() * found[name]).abs() for name, weight in weights.items()}
        return keep_best(scopes, scores, self.distribution)
