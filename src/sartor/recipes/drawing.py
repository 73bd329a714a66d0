"""Networks that begin anew: another draw of all weights, or what was trained, shrunk and perturbed by one."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

from sartor.errors import ConfigError
from sartor.registry import parse
from sartor.run import Run


@torch.no_grad()
def redrawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy of an untrained network whose parameters are drawn anew, on the CPU.

    Each parameter's values change places at random among themselves: whatever distribution they were drawn from one by
    one, they have it still, and constant ones stay. Buffers stay as they are.
    Differs: a network whose initial values depend on each other (orthogonal, pretrained) is not drawn anew by this;
    `note_scattered` tells of a trained one.
    """
    fresh = copy.deepcopy(model).cpu()
    for parameter in fresh.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return fresh


def is_trained(model: nn.Module) -> bool:
    """Tell whether a network's norms have seen data: they have counted batches, or statistics are not 0 and 1.

    A network whose norms keep no statistics does not show it.
    """
    untrained = {"num_batches_tracked": 0, "running_mean": 0, "running_var": 1}
    found = ((buffer, untrained.get(name.rpartition(".")[2])) for name, buffer in model.named_buffers())
    return any(value is not None and bool((buffer != value).any()) for buffer, value in found)


def asks_for_weights(spec: object) -> bool:
    """Tell whether a network's name asks for trained weights: `pretrained=True` of timm, `weights=` of torchvision."""
    try:
        options = parse(spec)[1] if isinstance(spec, str) else {}
    except ConfigError:  # any label may be given from Python
        return False
    return any(options.get(name) not in (None, False) for name in ("pretrained", "weights"))


def note_scattered(run: Run, model: nn.Module, spec: object) -> None:
    """Warn, once a run, of a trained network whose weights all rounds but the first would scatter."""
    by_name = asks_for_weights(spec)
    if by_name or is_trained(model):
        found = f"the network's name, {spec}, asks for trained weights" if by_name else "the network has been trained"
        told = (
            f"{found}, but fresh is redraw: after the first round the values of each tensor change places at random, "
            "and of what it knew only batch-norm statistics are left. Give --fresh same, which begins every round with "
            "the weights as they are."
        )
        run.once("scattered", lambda: warnings.warn(told, stacklevel=2))


@torch.no_grad()
def shrunk_and_perturbed(trained: nn.Module, fresh: nn.Module, *, shrink: float, perturb: float) -> nn.Module:
    """Return a copy of the fresh network with parameters shrink * trained + perturb * fresh; buffers are fresh.

    Source: Ash and Adams 2020, section 4.
    """
    mixed = copy.deepcopy(fresh)
    for mine, before in zip(mixed.parameters(), trained.parameters(), strict=True):
        mine.mul_(perturb).add_(before.detach().to(mine.device), alpha=shrink)
    return mixed
