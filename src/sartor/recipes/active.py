"""Active learning: the dense network, or another one in its stead, chooses what to label. PruneFuse's baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError, check_effects, check_range
from sartor.models.build import build_model
from sartor.models.shapes import shape_of
from sartor.randomness import derive
from sartor.recipes.drawing import shrunk_and_perturbed
from sartor.recipes.labels import Labels
from sartor.recipes.round_plan import Planned, Prices, Round
from sartor.recipes.rounds import LOOKS, SECOND, Rounds
from sartor.recipes.setup import Data
from sartor.recipes.staged import Outcome, Stage, Stages
from sartor.registry import RECIPES


@RECIPES.register("active")
@dataclass(frozen=True, kw_only=True)
class Active(Rounds):
    """Ask for labels in rounds with a network that is trained anew in each.

    Without `proxy` it is the network itself: the one trained on the labels of a round is its target and chooses for the
    next. With `proxy` it is another, smaller one, which is thrown away (selection via proxy, Coleman et al. 2020).
    BALD and ALSE are acquisitions (`bald`, `alse`), as is `random`, for which nothing is trained but targets.
    """

    name: ClassVar[str] = "active"

    proxy: str | None = None
    """Network that chooses, such as resnet20; if not given, the dense one itself."""
    shrink: float = 0.0
    """Share of the last round's weights with which the next one begins; 0 begins from scratch."""
    perturb: float = 0.1
    """Share of a fresh draw that is added to them."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("shrink", self.shrink, 0, 1)
        check_range("perturb", self.perturb, 0, math.inf, high_open=True)
        if self.perturb != Active.perturb and self.shrink == 0:
            raise ConfigError("perturb has no effect without shrink; leave it out, or give --shrink 0.5, say.")
        without = {
            LOOKS: (self.looks_at_network, ("proxy", "shrink")),
            SECOND: (self.number_of_rounds > 1, ("proxy", "shrink")),
            "a third budget, from which on a proxy goes on": (not self.proxy or self.number_of_rounds > 2, ("shrink",)),
        }
        check_effects(self, without)

    def round_of(self, number: int, size: int, asked: int, *, target: bool) -> Round:
        """Train what chooses where it is asked; the dense network is the target of its round as well."""
        return Round(number, size, asked, asked > 0 and self.looks_at_network, False, target)

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse a network with which the acquisition cannot work."""
        super().check_data(model, data)
        self.check_chooser(self.selector_network(model, data.train).to(next(model.parameters()).device), data)

    def selector_network(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return the proxy, or the network itself."""
        return model if self.proxy is None else self.made_proxy(self.proxy, pool, 0)

    def made_proxy(self, proxy: str, pool: Pool, number: int) -> nn.Module:
        """Make the network that chooses in a round."""
        seed = derive(self.seed, "proxy", number if self.fresh == "redraw" else 0)
        return build_model(proxy, classes=pool.classes or 0, input_shape=shape_of(pool.inputs), seed=seed)

    def begun(self, fresh: nn.Module, before: Outcome | None) -> nn.Module:
        """Return the network with which a training begins."""
        if before is None or self.shrink == 0:
            return fresh
        return shrunk_and_perturbed(before.model, fresh, shrink=self.shrink, perturb=self.perturb)

    def train_selector(
        self, stages: Stages, now: Round, labels: Labels, before: Outcome | None, ask: Mapping[str, Any]
    ) -> Outcome:
        """Train what chooses, from scratch or from what it was."""
        data, setting = labels.known(), stages.setting
        if self.proxy is None:
            return self.dense(stages, now, labels, before, ask)
        title = f"proxy-{now.key}"
        model = self.begun(self.made_proxy(self.proxy, setting.data.train, now.number), before)
        return stages.carry_out(Stage(title, self.selector_training(title), model, data, **ask))

    def train_target(self, stages: Stages, now: Round, labels: Labels, selector: Outcome | None) -> Outcome:
        """Train the dense network on the labels of the round, unless it has just been, to choose."""
        if self.proxy is None and now.selects and selector is not None:
            return selector
        return self.dense(stages, now, labels, selector if self.proxy is None else None, {})

    def dense(
        self, stages: Stages, now: Round, labels: Labels, before: Outcome | None, ask: Mapping[str, Any]
    ) -> Outcome:
        """Train the dense network; where it chooses, it counts as a selector."""
        role = f"dense-{now.key}"
        options = {"purpose": "selector"} if now.selects and self.proxy is None else {}
        training = self.training(role, **options) if now.target else self.selector_training(role)
        model = self.begun(self.drawn(stages.setting, now.number), before)
        return stages.carry_out(Stage(role, training, model, labels.known(), **ask))

    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """What chooses, where it is asked; and the target, unless that is the same."""
        found = [Planned("selector", self.length, prices.chooser, asks=True)] if now.selects else []
        if now.target and (self.proxy is not None or not now.selects):
            found.append(Planned("train", self.length, prices.target))
        return found

    def paper_costs(self, dense: int, selector: int, inputs: int, n: int) -> dict[str, Any]:
        """Return costs by the paper's convention, of networks with so many parameters."""
        return self.convention(selector, dense, inputs, n, target_epochs=self.length)
