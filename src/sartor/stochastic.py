"""Dropout that goes on drawing while the rest of a network is at rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sartor.errors import SelectionError

STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")
"""Layers of timm and torchvision that leave whole blocks out; found by name, for neither need be installed."""


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that draw at random while training: every kind of dropout whose rate is above 0.

    Among them are recurrent and attention layers with a rate of their own. Dropout that a forward does by itself
    (torch.nn.functional.dropout) cannot be found.
    """
    return [module for module in model.modules() if _draws(module)]


def _draws(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase):  # between its layers
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    named = type(module).__name__ in STOCHASTIC_DEPTH
    return named and (getattr(module, "drop_prob", getattr(module, "p", 0)) or 0) > 0


@contextmanager
def dropout_on(model: nn.Module) -> Iterator[None]:
    """Let the dropout layers of a model draw, and none of the others train (Gal & Ghahramani 2016).

    Encoder layers of torch with dropout inside are set to train themselves, which touches nothing else: at rest they
    take a faster way that leaves the dropout out.
    Raises: SelectionError: for a model without any.
    """
    layers = dropout_layers(model)
    if not layers:
        raise SelectionError(
            f"{type(model).__name__} has no dropout layer, so all of its passes are alike; give it some "
            "(nn.Dropout(0.5) before the classifier, say), or give scan(..., committee=[...]) several networks."
        )
    encoders = [module for module in model.modules() if isinstance(module, nn.TransformerEncoderLayer)]
    layers += [encoder for encoder in encoders if dropout_layers(encoder)]
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, training in zip(layers, before):
            layer.training = training
