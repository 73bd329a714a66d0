"""The error bound of PruneFuse, measured: what a subset that a pruned network chose says of a dense network's loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.recipes.choosing import losses_of
from sartor.scanning import forward, scan

POINTS = 5
"""Places along the segment, ends included, at which gradients are taken."""
BLOCK = 512


@dataclass(frozen=True)
class Bound:
    """|E_s l(dense) - E_D l(dense)| <= delta + 2 L rho (PruneFuse 2026, theorem of section 9): its terms, in nats.

    `gap` is the left side; `delta` the same of the pruned network; `rho` the distance of the two networks' parameters;
    `lipschitz` the largest gradient norm that was found between them.
    """

    gap: float
    delta: float
    rho: float
    lipschitz: float

    @property
    def total(self) -> float:
        """The right side."""
        return self.delta + 2 * self.lipschitz * self.rho


def measure(dense: nn.Module, pruned: nn.Module, pool: Pool, rows: Int64[Tensor, "k"]) -> Bound:
    """Measure the bound for some rows of a pool; `pruned` is in the dense network's shape, with zeros for what is gone.

    L is the largest norm of the gradient of either mean loss, over the subset or the pool, at `POINTS` places on the
    segment from one network to the other. Differs: the theorem asks for that of every sample's loss, everywhere, which
    is larger; so the bound is told here as small as it can be. Batch-norm statistics move along the segment too, but
    count in neither rho nor L: with such layers the right side is not a bound.
    """
    chosen = torch.isin(pool.rows, rows)
    gap, delta = (abs(excess(losses(network, pool), chosen)) for network in (dense, pruned))
    return Bound(gap, delta, distance(dense, pruned), steepest(pruned, dense, (pool, pool.only(rows))))


def losses(model: nn.Module, pool: Pool) -> Float[Tensor, "n"]:
    """Return each sample's cross-entropy in nats, in the order of the pool's rows."""
    return losses_of(scan(model, pool, needs=("logits", "targets"), precision="fp32"))


def excess(losses: Float[Tensor, "n"], chosen: Bool[Tensor, "n"]) -> float:
    """Return by how much the mean loss of those chosen exceeds the mean of all."""
    return float(losses[chosen].mean() - losses.mean())


def distance(one: nn.Module, other: nn.Module) -> float:
    """Return the Euclidean distance of two networks' parameters."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum(float((a.detach() - b.detach().to(a.device)).double().square().sum()) for a, b in pairs) ** 0.5


def steepest(start: nn.Module, end: nn.Module, pools: Sequence[Pool], points: int = POINTS) -> float:
    """Return the largest norm of the gradient of a pool's mean loss, over pools and places between two networks."""
    device = next(end.parameters()).device
    ends = [
        {name: value.detach().to(device) for name, value in network.state_dict().items()} for network in (start, end)
    ]
    between, largest = copy.deepcopy(end).eval(), 0.0
    for share in torch.linspace(0, 1, points).tolist():
        mixed = {
            name: torch.lerp(value, ends[1][name], share) if value.is_floating_point() else ends[1][name]
            for name, value in ends[0].items()
        }
        between.load_state_dict(mixed)
        largest = max(largest, *(slope(between, pool) for pool in pools))
    return largest


def slope(model: nn.Module, pool: Pool) -> float:
    """Return the norm of the gradient of the mean loss over a pool, by the parameters of a network in eval mode."""
    device = next(model.parameters()).device
    model.zero_grad()
    for rows in pool.rows.split(BLOCK):
        logits = forward(model, pool.gather(rows, device=device)).float()
        (F.cross_entropy(logits, pool.targets_of(rows).to(device), reduction="sum") / len(pool)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return sum(float(gradient.double().square().sum()) for gradient in gradients) ** 0.5
