"""Networks that begin anew: another draw of all weights, or what was trained, shrunk and perturbed by one."""

from __future__ import annotations

import copy

import torch
from torch import nn


@torch.no_grad()
def redrawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy of an untrained network whose parameters are drawn anew, on the CPU.

    Each parameter's values change places at random among themselves: whatever distribution they were drawn from one by
    one, they have it still, and constant ones stay. Buffers stay as they are.
    Differs: a network whose initial values depend on each other (orthogonal, pretrained) is not drawn anew by this.
    """
    fresh = copy.deepcopy(model).cpu()
    for parameter in fresh.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return fresh


@torch.no_grad()
def shrunk_and_perturbed(trained: nn.Module, fresh: nn.Module, *, shrink: float, perturb: float) -> nn.Module:
    """Return a copy of the fresh network with parameters shrink * trained + perturb * fresh; buffers are fresh.

    Source: Ash and Adams 2020, section 4.
    """
    mixed = copy.deepcopy(fresh)
    for mine, before in zip(mixed.parameters(), trained.parameters(), strict=True):
        mine.mul_(perturb).add_(before.detach().to(mine.device), alpha=shrink)
    return mixed
