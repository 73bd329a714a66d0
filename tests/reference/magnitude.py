"""Magnitude pruning with sorts, loops and Python numbers; nothing is shared with the library."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Rows = dict[str, list[float]]


def literal_best_of_each(scores: Rows, kept: dict[str, int]) -> dict[str, list[bool]]:
    """Keep the highest scores of each layer."""
    masks = {}
    for name, row in scores.items():
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        masks[name] = [place in order[: kept[name]] for place in range(len(row))]
    return masks


def literal_best_of_all(scores: Rows, total: int) -> dict[str, list[bool]]:
    """Keep the best of each layer, and then the highest scores of all layers until there are `total`."""
    best = literal_best_of_each(scores, dict.fromkeys(scores, 1))
    others = [
        (-score, number, place, name)
        for number, (name, row) in enumerate(scores.items())
        for place, score in enumerate(row)
        if not best[name][place]
    ]
    for _, _, place, name in sorted(others)[: total - len(scores)]:
        best[name][place] = True
    return best


def literal_normalised(scores: Rows, kind: str) -> Rows:
    """Divide magnitudes by nothing, by their layer's mean, or by its L2 norm."""
    found = {}
    for name, row in scores.items():
        sizes = [abs(value) for value in row]
        by = {"raw": 1.0, "mean": sum(sizes) / len(sizes), "l2": math.sqrt(sum(size * size for size in sizes))}[kind]
        found[name] = [size / by for size in sizes]
    return found


def literal_cubic(total: int, start: int, stop: int, every: int) -> list[float]:
    """Return the share of the pruning that is done after each step: cuts every so often, the last one at the stop."""
    shares, done = [], 0.0
    for step in range(total):
        if start < step < stop and (step - start) % every == 0:
            done = 1 - (1 - (step - start) / (stop - start)) ** 3
        if step == stop:
            done = 1.0
        shares.append(done)
    return shares


class LiteralRun:
    """Momentum SGD on copies of a model's parameters, with as many of the largest weights alive as it is told."""

    def __init__(self, parameters: dict[str, Tensor], final: dict[str, int]):
        self.parameters = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self.masks = {name: torch.ones_like(parameters[name], dtype=torch.bool) for name in final}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.final = final

    def step(
        self, loss: Callable[[dict[str, Tensor]], Tensor], share: float, *, lr: float, momentum: float, decay: float
    ) -> None:
        found = torch.autograd.grad(loss(self.parameters), list(self.parameters.values()))
        gradients = dict(zip(self.parameters, found))
        with torch.no_grad():
            for name, final in self.final.items():
                self._move(name, self.masks[name].numel() - round_half_up(share * (self.masks[name].numel() - final)))
            for name, parameter in self.parameters.items():
                gradient = gradients[name]
                if name in self.masks:
                    gradient = torch.where(self.masks[name], gradient, 0.0)
                self.momentum[name].mul_(momentum).add_(gradient.add(parameter, alpha=decay))
                parameter.add_(self.momentum[name], alpha=-lr)

    def _move(self, name: str, wanted: int) -> None:
        weight, memory, mask = self.parameters[name].view(-1), self.momentum[name].view(-1), self.masks[name].view(-1)
        if wanted == int(mask.sum()):
            return
        living = [place for place in range(len(mask)) if mask[place]]
        dead = [place for place in range(len(mask)) if not mask[place]]
        living.sort(key=lambda place: (-abs(float(weight[place])), place))
        new = set((living + dead)[:wanted])
        for place in range(len(mask)):
            if (place in new) != bool(mask[place]):
                weight[place] = memory[place] = 0.0
            mask[place] = place in new


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)
