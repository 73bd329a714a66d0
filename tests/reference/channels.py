"""Channels by other means: importance in loops, networks after a disturbance."""

from __future__ import annotations

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
