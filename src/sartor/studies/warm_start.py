"""PruneFuse without its fusion: the target begins from the dense network that learnt the labels of the round before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.recipes.drawing import shrunk_and_perturbed
from sartor.recipes.fused_target import Proxy
from sartor.recipes.labels import Labels, read_budgets
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.round_plan import Planned, Prices, Round
from sartor.recipes.staged import Stage, Stages


@dataclass(frozen=True, eq=False)
class Preceded(Proxy):
    """A selector, and the dense network that learnt the labels of the round before the last."""

    dense: nn.Module


@dataclass(frozen=True, kw_only=True)
class WarmStart(PruneFuse):
    """PruneFuse with another beginning of the target: what the dense network has learnt, shrunk and perturbed or not.

    The selectors, the labels that they choose and the teacher are PruneFuse's. In the round before the last the dense
    network is trained as well, and charged; in the last it goes on with all labels. The last round has a selector where
    that teaches.
    Source: Ash and Adams 2020, sections 3 (warm start) and 4 (shrink, perturb).
    """

    name: ClassVar[str] = "prunefuse-warm"

    shrink: float = 1.0
    """Share of what was learnt that stays."""
    perturb: float = 0.0
    """Share of a fresh draw that is added."""

    def check(self) -> None:
        """Raise ConfigError for a target that no round precedes."""
        super().check()
        if len(read_budgets(self.budgets)) < 2 or self.targets != "last":
            raise ConfigError(f"budgets are {self.budgets!r}; a warm start needs a round before the one target.")
        if not self.looks_at_network:
            raise ConfigError(f"a warm start needs an acquisition that asks a network; {self.acquisition} asks none.")

    @property
    def uses_selector(self) -> bool:
        """Whether the target needs the selector of its round: for its teaching, for its weights are not fused."""
        return self.kd and self.kd_teacher == "selector"

    def precedes(self, now: Round) -> bool:
        """Whether the next round is the last."""
        return now.number + 2 == len(read_budgets(self.budgets))

    def train_selector(
        self, stages: Stages, now: Round, labels: Labels, before: Proxy | None, ask: Mapping[str, Any]
    ) -> Proxy:
        """Train the selector; the dense network too, in the round before the last."""
        found = super().train_selector(stages, now, labels, before, ask)
        if self.precedes(now):
            title = f"dense-{now.key}"
            begun = self.drawn(stages.setting, now.number)
            stage = Stage(title, self.selector_training(title, purpose="warm"), begun, labels.known())
            return Preceded(found.made, found.outcome, stages.carry_out(stage).model)
        return Preceded(found.made, found.outcome, before.dense) if isinstance(before, Preceded) else found

    def fused(self, stages: Stages, pool: Pool, proxy: Proxy, generator: torch.Generator) -> nn.Module:
        """Return what the target begins from, in the place of a fused network."""
        assert isinstance(proxy, Preceded)
        dense = copy.deepcopy(proxy.dense).cpu()
        if (self.shrink, self.perturb) == (1.0, 0.0):
            return dense
        fresh = self.drawn(stages.setting, len(read_budgets(self.budgets)) - 1)
        return shrunk_and_perturbed(dense, fresh, shrink=self.shrink, perturb=self.perturb)

    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """The same trainings, and that of the dense network."""
        more = [Planned("warm", self.length, prices.target)] if self.precedes(now) else []
        return [*super().planned(now, prices), *more]
