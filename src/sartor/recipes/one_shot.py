"""Pruning at once by magnitude: weights by layer or over all layers, or whole channels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.prune.channels import ChannelPlan
from sartor.prune.magnitude import GLOBAL, Magnitude
from sartor.prune.masks import Masks
from sartor.recipes.fusing import Cut, cut, fused

WAYS = ("layer", "global", "channels")
NORMALISERS = tuple(name.removeprefix("global-") for name in GLOBAL)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned copy of a network, with the masks of its weights, on the CPU, or the plan of the channels that stay."""

    model: nn.Module
    masks: dict[str, Tensor] | None
    plan: ChannelPlan | None

    @property
    def density(self) -> dict[str, float]:
        """Share of the weights that live, by parameter; empty where channels are gone and with them their weights."""
        return {name: float(mask.double().mean()) for name, mask in (self.masks or {}).items()}

    def with_weights(self, dense: nn.Module) -> nn.Module:
        """Return the same pruning of a copy of another network of the same kind, on the CPU."""
        fresh = copy.deepcopy(dense).cpu()
        if self.plan is not None:
            return self.plan.shrink(fresh)
        Masks(fresh, self.masks or {}).apply()
        return fresh

    def whole(self, dense: nn.Module, trained: nn.Module) -> nn.Module:
        """Return a copy of the dense network that computes what the trained small one does: all else in it is zero."""
        if self.plan is None:
            return trained
        made = Cut(copy.deepcopy(dense).cpu(), self.plan, self.model)
        small = copy.deepcopy(trained).cpu()
        return fused(made, small, complement="zeros", dispersion="none", generator=torch.Generator())


@dataclass(frozen=True)
class OneShot:
    """How weights are pruned: `way` and, over all layers, by what magnitudes are divided; of channels, their worth."""

    way: str
    normaliser: str
    importance: str

    def __call__(
        self,
        model: nn.Module,
        pool: Pool,
        sparsity: float,
        *,
        generator: torch.Generator,
        after: ChannelPlan | None = None,
        ledger: Ledger | None = None,
    ) -> Pruned:
        """Return a pruned copy; with `after`, the plan that left `model`, `sparsity` counts from before that.

        Samples that the pruning reads are charged to `ledger`.
        Raises: PruningError: for a network of which so much cannot be pruned.
        """
        if self.way == "channels":
            given: dict[str, Any] = {"generator": generator, "after": after, "ledger": ledger}
            made = cut(model, pool, sparsity, importance=self.importance, scope="local", **given)
            return Pruned(made.small, None, made.plan if after is None else after.then(made.plan))
        distribution = "uniform" if self.way == "layer" else f"global-{self.normaliser}"
        small = copy.deepcopy(model)
        masks = Magnitude(sparsity=sparsity, distribution=distribution).init(small, generator=generator)
        return Pruned(small, masks.state_dict(), None)


def shares_of(sparsity: float, iterations: int) -> list[float]:
    """Return the sparsity after each of some prunings that take the same share of what is left, the last exactly.

    Source: Han et al. 2015, section 3.3, prune and retrain in turns; Frankle and Carbin 2019 for equal shares.
    """
    return [*(round(1 - (1 - sparsity) ** (i / iterations), 6) for i in range(1, iterations)), sparsity]
