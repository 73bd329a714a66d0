"""Make a network by name, with initial weights that depend on the seed alone."""

from __future__ import annotations

import torch
from torch import nn

from sartor.errors import ConfigError
from sartor.models.shapes import Shape
from sartor.randomness import derive
from sartor.registry import MODELS


def build_model(spec: str, *, classes: int, input_shape: Shape, seed: int) -> nn.Module:
    """Make the network that `spec` names: `cnn(width=16)`, `timm:NAME`, `torchvision:NAME`, `package.module:factory`.

    `input_shape` is that of one sample; where samples are tuples or dicts, one of each part. The global random state
    is left as it was. Raises: ConfigError: for an unknown name or option, or a factory that does not return a module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        model = MODELS.build(spec, classes=classes, input_shape=input_shape)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {spec!r} made a {type(model).__name__}; its factory must return a torch.nn.Module.")
    return model
