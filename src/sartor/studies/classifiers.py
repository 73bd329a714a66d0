"""Networks whose classifier is held back by something else than a mask: decay, dropout, low rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sartor.errors import check_range
from sartor.models.shapes import Shape
from sartor.prune.scope import classifier_name
from sartor.registry import MODELS


class DecayingLinear(nn.Linear):
    """A Linear whose weight has a weight decay of its own, on top of the optimiser's: its gradient gets decay * w."""

    def __init__(self, inputs: int, outputs: int, decay: float) -> None:
        super().__init__(inputs, outputs)
        self.decay = decay

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return super().forward(features) + Pull.apply(self.weight, self.decay)

    def extra_repr(self) -> str:
        """Name the decay, which makes another network of it."""
        return f"{super().extra_repr()}, decay={self.decay}"


class Pull(torch.autograd.Function):
    """Adds 0 to the logits and decay * w to the gradient of w, as the decay of SGD does."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, weight: Tensor, decay: float) -> Tensor:
        """Return 0."""
        context.save_for_backward(weight)
        context.decay = decay  # type: ignore[attr-defined]
        return weight.new_zeros(())

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return decay * w, whatever the loss."""
        (weight,) = context.saved_tensors  # type: ignore[attr-defined]
        return context.decay * weight, None  # type: ignore[attr-defined]


def decayed(classes: int, input_shape: Shape, *, of: str = "cnn", decay: float = 5e-3) -> nn.Module:
    """Make another network whose classifier decays by `decay` more than the rest."""
    check_range("decay", decay, 0, float("inf"), high_open=True)
    model, head = opened(of, classes, input_shape)
    return replaced(model, DecayingLinear(head.in_features, head.out_features, decay))


def dropped(classes: int, input_shape: Shape, *, of: str = "cnn", rate: float = 0.5) -> nn.Module:
    """Make another network with dropout before its classifier."""
    check_range("rate", rate, 0, 1, high_open=True)
    model, head = opened(of, classes, input_shape)
    return replaced(model, nn.Sequential(nn.Dropout(rate), nn.Linear(head.in_features, head.out_features)))


def low_rank(classes: int, input_shape: Shape, *, of: str = "cnn", rank: int = 0, kept: float = 0.1) -> nn.Module:
    """Make another network whose classifier is a product of two matrices.

    Rank 0 is the one with about a share `kept` of the weights, 1 at least. What selectors take for features is the
    product's middle.
    """
    check_range("rank", rank, 0, classes)
    model, head = opened(of, classes, input_shape)
    rank = rank or max(1, round(kept * head.weight.numel() / (head.in_features + head.out_features)))
    return replaced(model, nn.Sequential(nn.Linear(head.in_features, rank, bias=False), nn.Linear(rank, classes)))


def opened(of: str, classes: int, input_shape: Shape) -> tuple[nn.Module, nn.Linear]:
    """Make the other network and find its classifier."""
    model = MODELS.build(of, classes=classes, input_shape=input_shape)
    head = model.get_submodule(classifier_name(model))
    assert isinstance(head, nn.Linear)
    return model, head


def replaced(model: nn.Module, head: nn.Module) -> nn.Module:
    """Put another classifier into a network."""
    parent, _, name = classifier_name(model).rpartition(".")
    setattr(model.get_submodule(parent), name, head)
    return model
