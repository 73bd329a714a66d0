"""A look at a model that leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sartor.errors import ConfigError
from sartor.randomness import forked


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Hold a model in eval mode without gradients; submodules' modes, buffers and all random states come back.

    Raises: ConfigError: for a model that leaves eval mode by itself.
    """
    modules = list(model.modules())
    before = modes(model)
    kept = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer)
    ]
    places = {parameter.device for parameter in model.parameters()}
    with forked(*sorted(places, key=str)), torch.no_grad():
        try:
            model.eval()
            resting = modes(model)
            try:
                yield
            except Exception:
                refuse_own_mode(model, resting)  # which may well be why
                raise
            refuse_own_mode(model, resting)
        finally:
            for module, training in zip(modules, before):
                module.training = training
            for module, name, buffer, value in kept:
                module._buffers[name] = buffer.copy_(value)


def modes(model: nn.Module) -> list[bool]:
    """Return which submodules are in training mode, in the model's order."""
    return [module.training for module in model.modules()]


def refuse_own_mode(model: nn.Module, before: list[bool]) -> None:
    """Raise ConfigError where a forward has changed the `modes` from before: nothing then says when they change."""
    if modes(model) != before:
        name = type(model).__name__
        raise ConfigError(f"the forward of {name} calls train() or eval() itself; leave that to the caller.")
