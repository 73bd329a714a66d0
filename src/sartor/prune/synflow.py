"""SynFlow: keep the paths through which the network's weights let something flow, whatever the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from sartor.errors import check_range
from sartor.prune.keeping import keep_best
from sartor.prune.saliency import BySaliency, Loss, Samples, gradients, weights_of
from sartor.prune.scope import Scope
from sartor.registry import PRUNERS
from sartor.scanning import forward
from sartor.types import Inputs


@PRUNERS.register("synflow")
@dataclass(frozen=True)
class SynFlow(BySaliency):
    """Prunes before training, in many rounds and without data, what carries least of the synaptic flow (Tanaka 2020).

    `sparsity`, `distribution`: as of `snip`; `rounds`: how many times weights are scored and pruned, down to
    density^(round / rounds). The score is |w dR/dw|, R the sum of the logits for an input of ones where every parameter
    and buffer is its absolute value, in float64, batch norm at rest. One sample tells `init` the shape of an input;
    inputs that are whole numbers, such as tokens, stay as they are.
    Source: Tanaka et al. 2020, Algorithm 1. Differs: each layer keeps at least one weight.
    """

    init_samples: ClassVar[int] = 1

    rounds: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rounds", self.rounds, 1, float("inf"), high_open=True)

    @property
    def init_passes(self) -> int:
        """One in each round."""
        return self.rounds

    def score(
        self, twin: nn.Module, weights: Mapping[str, Tensor], samples: Samples, loss: Loss
    ) -> dict[str, Float64[Tensor, "..."]]:
        """Return |w dR/dw| with nothing pruned, as in the first round."""
        linear_of(twin)
        return flow(twin, weights, ones_like(samples[0][0]))

    def choose(
        self, twin: nn.Module, scopes: list[Scope], samples: Samples, loss: Loss
    ) -> dict[str, Bool[Tensor, "..."]]:
        """Prune round by round; a weight that is gone stays gone."""
        linear_of(twin)
        inputs, weights = ones_like(samples[0][0]), weights_of(scopes)
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        for number in range(1, self.rounds + 1):
            scores = flow(twin, weights, inputs)
            living = {name: torch.where(masks[name], score, -1.0) for name, score in scores.items()}
            masks = keep_best(thinned(scopes, number / self.rounds), living, self.distribution)
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.masked_fill_(~masks[name], 0)
        return masks


def linear_of(model: nn.Module) -> None:
    """Make a model one that lets everything flow: absolute values, in float64 and at rest; in place."""
    device = next(model.parameters()).device
    model.eval().to("cpu" if device.type == "mps" else device, torch.float64)  # mps has no float64
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()


def flow(model: nn.Module, weights: Mapping[str, Tensor], inputs: Inputs) -> dict[str, Float64[Tensor, "..."]]:
    """Return |w dR/dw| of each weight, R the sum of the model's outputs; higher carries more."""
    found = gradients(forward(model, inputs).sum(), weights)
    return {name: (weight.detach() * found[name]).abs() for name, weight in weights.items()}


def thinned(scopes: list[Scope], share: float) -> list[Scope]:
    """Return the scopes with the density that they have after a share of the rounds, density^share."""
    if share == 1:
        return scopes
    return [scope._replace(sparsity=1 - (1 - scope.sparsity) ** share) for scope in scopes]


def ones_like(inputs: Inputs) -> Inputs:
    """Return one sample of ones in float64; of whole numbers, the first sample as it is."""
    if isinstance(inputs, dict):
        return {name: _ones(value) for name, value in inputs.items()}
    return tuple(_ones(value) for value in inputs) if isinstance(inputs, tuple) else _ones(inputs)


def _ones(value: Tensor) -> Tensor:
    first = value[:1]
    place = "cpu" if first.device.type == "mps" else first.device
    return torch.ones_like(first, dtype=torch.float64, device=place) if first.is_floating_point() else first.to(place)
