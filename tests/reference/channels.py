"""Channels by other means: importance in loops, Torch-Pruning's choice, networks after a disturbance."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sartor.prune.channels.coupling import Coupling


def built(spec: str, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0) -> nn.Module:
    """Make a network with weights that depend on the seed alone."""
    from sartor.models.build import build_model

    return build_model(spec, classes=10, input_shape=shape, seed=seed)


def disturb(model: nn.Module, seed: int = 1) -> nn.Module:
    """Give a network other weights and batch-norm statistics, each parameter of about the size that it had."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                spread = 0.3 * tensor.abs().mean() + 0.05
                tensor.copy_((tensor + spread * noise).abs() + 0.1 if "var" in name else tensor + spread * noise)
    return model


def outputs(model: nn.Module, *inputs: Tensor) -> Tensor:
    """What a network puts out in eval mode."""
    with torch.no_grad():
        return model.eval()(*inputs)


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def worth_in_loops(model: nn.Module, coupling: Coupling, kind: str) -> list[float]:
    """l2 and group-norm, one unit and one weight after the other."""
    weights = {name: weight.detach().double() for name, weight in model.named_parameters()}
    found = []
    for unit in range(coupling.units):
        sums = []
        for (name, dim), units in coupling.axes.items():
            wanted = (name, dim) in coupling.made if kind == "l2" else name in weights and not name.endswith("bias")
            places = [place for place, own in enumerate(units.tolist()) if own == unit]
            if wanted and places:
                sums.append(sum(float(weights[name].select(dim, place).square().sum()) for place in places))
        mean = sum(sums) / len(sums)
        found.append(mean**0.5 if kind == "l2" else mean)
    return found


def kept_by_torch_pruning(
    model: nn.Module, example: Tensor, sparsity: float, *, together: bool, normaliser: str | None
) -> dict[str, list[int]]:
    """The rows of each convolution and Linear that Torch-Pruning keeps, by parameter name."""
    import torch_pruning

    small = copy.deepcopy(model)
    linear = [module for module in small.modules() if isinstance(module, nn.Linear)]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer=normaliser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            small,
            example,
            importance=importance,
            pruning_ratio=sparsity,
            global_pruning=together,
            ignored_layers=linear[-1:],
            **{option: {} for option in ("num_heads", "in_channel_groups", "out_channel_groups")},
        )
    weighted: dict[Any, str] = {
        module: f"{name}.weight" for name, module in small.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    kept = {name: list(range(len(module.weight))) for module, name in weighted.items()}
    for group in pruner.step(interactive=True):
        for dependency, removed in group:
            module = dependency.target.module
            if module in weighted and "out" in dependency.handler.__name__:
                kept[weighted[module]] = [row for row in kept[weighted[module]] if row not in set(removed)]
        group.prune()
    return kept
