"""GraSP: keep the weights that preserve the flow of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sartor.errors import check_range
from sartor.prune.saliency import BySamples, Loss, Samples, gradients, mean_gradients
from sartor.registry import PRUNERS
from sartor.scanning import forward


@PRUNERS.register("grasp")
@dataclass(frozen=True)
class GraSP(BySamples):
    """Prunes before training the weights whose removal costs the gradient's norm least, w (Hg) (Wang et al. 2020).

    `sparsity`, `distribution`, `samples`: as of `snip`; `temperature`: what logits are divided by. H is the Hessian of
    the mean loss over the samples and g its gradient, by the weights that can be pruned.
    Source: Wang et al. 2020, Eq. 8 and Algorithm 1: the highest -w (Hg) goes. Differs: samples are drawn at random, not
    so many of each class (ten in the paper); Linear layers are not drawn anew on the side; gradients are averaged over
    mini-batches; each layer keeps at least one weight.
    """

    init_passes: ClassVar[int] = 4
    """One for the gradient; one, and its own derivative, which is twice as much, for the Hessian's product."""

    temperature: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("temperature", self.temperature, 0, float("inf"), low_open=True, high_open=True)

    def score(
        self, twin: nn.Module, weights: Mapping[str, Tensor], samples: Samples, loss: Loss
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return w (Hg), mini-batch by mini-batch: H g is the gradient of <dL/dw, g>, g held fixed."""

        def softened(logits: Tensor, targets: Tensor) -> Tensor:
            return loss(logits / self.temperature, targets)

        held = mean_gradients(twin, weights, samples, softened)
        product = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for inputs, targets in samples:
            value = softened(forward(twin, inputs), targets) * len(targets)
            steepness = gradients(value, weights, create_graph=True)
            inner = torch.stack([(steepness[name] * held[name]).sum() for name in weights]).sum()
            for name, gradient in gradients(inner, weights).items():
                product[name] += gradient
        return {name: weight.detach() * product[name] for name, weight in weights.items()}
