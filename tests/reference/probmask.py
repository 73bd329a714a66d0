"""ProbMask with a sort, loops and autograd: the projection, and one training run written as the paper's algorithm."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TINY = 1e-20


def sorted_projection(scores: Sequence[float], budget: float) -> list[float]:
    """Go through the knots of sum clamp(s - v, 0, 1) in order, and solve the piece in which it meets the budget."""

    def total(v: float) -> float:
        return math.fsum(min(max(s - v, 0.0), 1.0) for s in scores)

    if total(0.0) <= budget:
        return [min(max(s, 0.0), 1.0) for s in scores]
    knots = sorted({0.0, *(s for s in scores if s > 0), *(s - 1 for s in scores if s > 1)})
    place = bisect.bisect_left(knots, True, key=lambda knot: total(knot) <= budget)
    left, right = knots[place - 1], knots[place]
    high, low = total(left), total(right)
    v = left + (right - left) * (high - budget) / (high - low)
    return [min(max(s - v, 0.0), 1.0) for s in scores]


def bisected_shift(scores: Tensor, budget: float) -> float:
    """Halve [0, max s] at most 21 times, in float32, until the sum is within 0.001: as the original does it."""
    low, high = 0.0, float(scores.max())
    for _ in range(21):
        middle = (low + high) / 2
        excess = float((scores - middle).clamp(0, 1).sum()) - budget
        if abs(excess) < 1e-3:
            return middle
        low, high = (low, middle) if excess < 0 else (middle, high)
    return middle


def soft_mask(scores: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return the Gumbel-softmax sample of Eq. 7, whose gradient autograd finds."""
    return torch.sigmoid((torch.log(scores + TINY) - torch.log(1.0 - scores + TINY) + noise) / temperature)


class LiteralProbMask:
    """Momentum SGD on weights and Adam on scores, layer by layer, with nothing shared with the library."""

    def __init__(self, parameters: dict[str, Tensor], masked: Sequence[str], sparsity: float, total_steps: int) -> None:
        self.parameters = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self.scores = {name: torch.ones_like(self.parameters[name]).requires_grad_() for name in masked}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.first = {name: torch.zeros_like(s) for name, s in self.scores.items()}
        self.second = {name: torch.zeros_like(s) for name, s in self.scores.items()}
        self.sparsity, self.total_steps = sparsity, total_steps

    def step(
        self, loss: Callable[[dict[str, Tensor]], Tensor], uniform: Sequence[dict[str, Tensor]], step: int, lr: float
    ) -> None:
        """Take one step with a pass for each entry of `uniform`, draws in [0, 1) by parameter."""
        share = step / self.total_steps
        leaves = [*self.parameters.values(), *self.scores.values()]
        for leaf in leaves:
            leaf.grad = None
        for draws in uniform:
            used = dict(self.parameters)
            for name, s in self.scores.items():
                noise = torch.log(draws[name]) - torch.log1p(-draws[name])
                used[name] = used[name] * soft_mask(s, noise, 0.97 * (1 - share) + 0.03)
            (loss(used) / len(uniform)).backward()
        norm = math.sqrt(sum(float(leaf.grad.double().square().sum()) for leaf in leaves))
        with torch.no_grad():
            for leaf in leaves:
                leaf.grad.mul_(min(1.0, 3.0 / (norm + 1e-6)))
            self._adam(step + 1, 6e-3 * 0.5 * (1 + math.cos(math.pi * share)))
            for name, parameter in self.parameters.items():
                self.velocity[name].mul_(0.9).add_(parameter.grad + 5e-4 * parameter)
                parameter.sub_(lr * self.velocity[name])
            self._project(share)

    def _adam(self, count: int, lr: float) -> None:
        for name, s in self.scores.items():
            self.first[name].mul_(0.9).add_(0.1 * s.grad)
            self.second[name].mul_(0.999).add_(0.001 * s.grad**2)
            first, second = self.first[name] / (1 - 0.9**count), self.second[name] / (1 - 0.999**count)
            s.sub_(lr * first / (second.sqrt() + 1e-8))

    def _project(self, share: float) -> None:
        left = 1.0 if share < 0.16 else (1 - (share - 0.16) / (0.60 - 0.16)) ** 3 if share < 0.6 else 0.0
        row = torch.cat([s.reshape(-1) for s in self.scores.values()])
        kept = math.floor((1 - self.sparsity) * len(row) + 0.5)
        new = torch.tensor(sorted_projection(row.tolist(), kept + (len(row) - kept) * left))
        for s, part in zip(self.scores.values(), new.split([s.numel() for s in self.scores.values()])):
            s.copy_(part.view_as(s))
