"""RigL with sorts, loops and Python numbers: one training run of one network, written as the paper's algorithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def literal_move(weight: list[float], gradient: list[float], mask: list[bool], count: int) -> list[bool]:
    """Drop the `count` smallest living weights, then grow where the gradient is largest outside the survivors."""
    living = [i for i in range(len(mask)) if mask[i]]
    living.sort(key=lambda i: (-abs(weight[i]), i))
    survivors = set(living[: len(living) - count])
    outside = [i for i in range(len(mask)) if i not in survivors]
    outside.sort(key=lambda i: (-abs(gradient[i]), i))
    grown = set(outside[:count])
    return [i in survivors or i in grown for i in range(len(mask))]


def two_sorts_move(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """Do the same by two stable sorts of the whole layer, as sparse-training code commonly does."""
    living = mask.reshape(-1)
    kept = int(living.sum()) - count
    by_weight = weight.reshape(-1).abs().masked_fill(~living, -1.0).sort(descending=True, stable=True).indices
    survivors = torch.zeros_like(living)
    survivors[by_weight[:kept]] = True
    by_gradient = gradient.reshape(-1).abs().masked_fill(survivors, -1.0).sort(descending=True, stable=True).indices
    new = survivors.clone()
    new[by_gradient[:count]] = True
    return new.reshape(mask.shape)


class LiteralRun:
    """Momentum SGD under RigL on copies of a model's parameters, with nothing shared with the library."""

    def __init__(self, parameters: dict[str, Tensor], masks: dict[str, Tensor], *, every: int, drop: float, stop: int):
        self.parameters = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self.masks = {name: mask.clone() for name, mask in masks.items()}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.every, self.drop, self.stop = every, drop, stop
        self.updates = 0

    def step(self, loss: Tensor, step: int, *, lr: float, momentum: float, decay: float) -> None:
        gradients = dict(zip(self.parameters, torch.autograd.grad(loss, list(self.parameters.values()))))
        with torch.no_grad():
            if step > 0 and step % self.every == 0 and step < self.stop:
                self.updates += 1
                self._move(gradients, self.drop / 2 * (1 + math.cos(math.pi * step / self.stop)))
            for name, parameter in self.parameters.items():
                gradient = gradients[name]
                if name in self.masks:
                    gradient = torch.where(self.masks[name], gradient, 0.0)
                gradient = gradient.add(parameter, alpha=decay)
                self.momentum[name].mul_(momentum).add_(gradient)
                parameter.add_(self.momentum[name], alpha=-lr)

    def _move(self, gradients: dict[str, Tensor], share: float) -> None:
        for name, mask in self.masks.items():
            weight, memory = self.parameters[name], self.momentum[name]
            old = mask.flatten().tolist()
            new = literal_move(
                weight.flatten().tolist(), gradients[name].flatten().tolist(), old, math.floor(share * sum(old))
            )
            for position, (before, after) in enumerate(zip(old, new)):
                if before != after:
                    weight.view(-1)[position] = 0.0
                    memory.view(-1)[position] = 0.0
            self.masks[name] = torch.tensor(new).reshape(mask.shape)
