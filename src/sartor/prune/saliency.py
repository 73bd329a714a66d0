"""Saliency at initialisation: what each weight is worth, asked of a few samples before the first step."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sartor.errors import PruningError, check_choice, check_range
from sartor.prune.base import BasePruner
from sartor.prune.distribution import KINDS
from sartor.prune.keeping import check_counts, keep_best
from sartor.prune.masks import Masks
from sartor.prune.scope import Scope, check_sparsity, prunable, resolve
from sartor.randomness import forked, reseed
from sartor.scanning import forward
from sartor.types import Inputs

Loss = Callable[[Tensor, Tensor], Tensor]
Samples = list[tuple[Inputs, Tensor]]
"""Mini-batches: inputs and targets."""


@dataclass(frozen=True)
class BySaliency(BasePruner, ABC):
    """Prunes once, before the first step, what a score of each weight says; a method adds `score`.

    A method tells besides, by `init_samples`, how many samples `init` reads, and by `init_passes`, how many passes
    forward and backward it takes over each.
    """

    distributions: ClassVar[tuple[str, ...]] = ("global", *KINDS)

    sparsity: float | Mapping[str, float] = 0.9
    distribution: str = "global"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_choice("distribution", self.distribution, self.distributions)

    def check(self, model: nn.Module) -> None:
        """Raise PruningError, before any sample is read, for a scope without weights or with too few that are kept."""
        check_counts(resolve(model, self.sparsity), self.distribution)

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> Masks:
        """Score the weights on pairs (inputs, targets) of `batches`, keep the best, and set the others to zero.

        `loss(logits, targets)` is a mean over samples, cross-entropy if not given. The passes run on a copy of the
        model; what the network itself may draw comes of `generator`. Raises: PruningError: without samples, for a scope
        without weights or with fewer kept weights than layers, or for scores that are not finite.
        """
        self.check(model)
        samples = self._samples(batches)
        with rehearsal(model, generator) as twin:
            chosen = self.choose(twin, resolve(twin, self.sparsity), samples, loss or F.cross_entropy)
        masks = Masks(model, chosen)
        masks.apply()
        return masks

    def scores(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the score of each weight that can be pruned, frozen ones included, by parameter name; higher stays.

        Arguments are those of `init`; nothing is pruned. `prune.channels.plan` sums them by channel (`importance=`).
        Raises: PruningError: without samples, or for a model without weights that can be pruned.
        """
        samples = self._samples(batches)
        with rehearsal(model, generator) as twin:
            weights = {name: weight.requires_grad_() for name, weight in prunable(twin).items()}
            if not weights:
                raise PruningError("the model has no weights to score; only convolutions and Linear modules have them.")
            return self.score(twin, weights, samples, loss or F.cross_entropy)

    @abstractmethod
    def score(
        self, twin: nn.Module, weights: Mapping[str, Tensor], samples: Samples, loss: Loss
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the score of each of these weights of a copy of the model, which may be changed."""

    def choose(
        self, twin: nn.Module, scopes: list[Scope], samples: Samples, loss: Loss
    ) -> dict[str, Bool[Tensor, "..."]]:
        """Return the masks: the weights that score highest are kept."""
        return keep_best(scopes, self.score(twin, weights_of(scopes), samples, loss), self.distribution)

    def _samples(self, batches: Iterable[Any] | None) -> Samples:
        samples = list(batches or ())
        if not samples:
            raise PruningError(
                f"{type(self).__name__} looks at samples before it prunes; give batches=[(inputs, targets), ...]."
            )
        return samples


@dataclass(frozen=True)
class BySamples(BySaliency):
    """Asks some `samples` of the data."""

    samples: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("samples", self.samples, 1, float("inf"), high_open=True)

    @property
    def init_samples(self) -> int:
        """How many samples `init` reads."""
        return self.samples


@contextmanager
def rehearsal(model: nn.Module, generator: torch.Generator) -> Iterator[nn.Module]:
    """Yield a copy of a model, in training mode, to be looked at with gradients; the model and all randomness stay.

    Attention runs as separate matrix products, since fused ones have no second derivatives.
    """
    twin = copy.deepcopy(model).train()
    places = {parameter.device for parameter in twin.parameters()}
    number = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with forked(*sorted(places, key=str)), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for place in places:
            reseed(number, place)
        yield twin


def weights_of(scopes: Iterable[Scope]) -> dict[str, Tensor]:
    """Return the weights of all scopes by name."""
    return {name: weight for scope in scopes for name, weight in scope.weights.items()}


def mean_gradients(
    model: nn.Module, weights: Mapping[str, Tensor], samples: Samples, loss: Loss
) -> dict[str, Float[Tensor, "..."]]:
    """Return the gradient of the mean loss over all samples; zeros for a weight that it does not depend on."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = sum(len(targets) for _, targets in samples)
    for inputs, targets in samples:
        value = loss(forward(model, inputs), targets) * (len(targets) / count)
        for name, gradient in gradients(value, weights).items():
            total[name] += gradient
    return total


def gradients(
    value: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False
) -> dict[str, Float[Tensor, "..."]]:
    """Return the gradient of a number by each weight; zeros where it does not depend on it."""
    if not value.requires_grad:
        return {name: torch.zeros_like(weight) for name, weight in weights.items()}
    found = torch.autograd.grad(
        value, list(weights.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))
