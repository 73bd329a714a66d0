"""Networks that studies begin with: one that lacks channels, and one that a sparse training has left, filled up."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from sartor.errors import ConfigError, check_choice, check_range
from sartor.models.shapes import Shape
from sartor.prune.channels import plan
from sartor.registry import MODELS

COMPLEMENTS = ("zeros", "retained")


def thinned(classes: int, input_shape: Shape, *, of: str = "cnn", sparsity: float = 0.5) -> nn.Module:
    """Make another network without a share of its channels, those whose first weights are largest staying.

    Raises: ConfigError: for samples of several parts. PruningError: for a network that cannot be cut.
    """
    check_range("sparsity", sparsity, 0, 1, low_open=True, high_open=True)
    if not all(isinstance(size, int) for size in input_shape):
        raise ConfigError("thinned is for samples of one tensor; name a smaller network of your own instead.")
    model, example = MODELS.build(of, classes=classes, input_shape=input_shape), torch.zeros(2, *input_shape)
    made = plan(model, example, sparsity, importance="l2", scope="local", generator=torch.Generator().manual_seed(0))
    return made.shrink(model)


def refilled(classes: int, input_shape: Shape, *, of: str, folder: str, complement: str = "retained") -> nn.Module:
    """Make the network that a sparse training has left in a run folder, whole again.

    What its masks had removed is `zeros`, or what the network is drawn with here (`retained`): with the seed of that
    run, its own first weights. All else is as it was trained. Source: PruneFuse 2026, section 4.4, weight by weight.
    """
    check_choice("complement", complement, COMPLEMENTS)
    model = MODELS.build(of, classes=classes, input_shape=input_shape)
    trained, masks = (load_file(Path(folder) / f"{name}.safetensors") for name in ("model", "masks"))
    if complement == "retained":
        fresh = model.state_dict()
        trained |= {name: torch.where(mask, trained[name], fresh[name]) for name, mask in masks.items()}
    model.load_state_dict(trained)
    return model
