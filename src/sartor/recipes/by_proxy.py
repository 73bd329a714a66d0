"""A network that is trained before the target, with all labels, and says what that learns from."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sartor.costs_paper import scalars_in
from sartor.data.pool import Pool
from sartor.errors import ConfigError, check_effects, check_range
from sartor.models.build import build_model
from sartor.models.shapes import shape_of
from sartor.randomness import derive
from sartor.recipes.concluding import at_chance, conclude_stages, note_chance
from sartor.recipes.forecast import Choosing, Tally
from sartor.recipes.fused_target import FusedTarget, Proxy
from sartor.recipes.outcome import Result
from sartor.recipes.setup import Data, Setting, check_model
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.types import Subset

PRUNED, DENSE = "pruned", "dense"


@dataclass(frozen=True, kw_only=True)
class ByProxy(FusedTarget):
    """What recipes share in which one network goes ahead with all labels and another one follows."""

    proxy: str = PRUNED
    """Network that goes ahead: pruned, this one without the channels that leave; dense, this one itself; or another,
    such as resnet20."""
    fraction: float = 0.5
    """Share of the samples that the target learns from."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("fraction", self.fraction, 0, 1, low_open=True)
        cuts = self.has_proxy and self.proxy == PRUNED
        without = {
            "a network that goes ahead": (self.has_proxy, ("proxy", "record")),
            "a proxy that is pruned": (cuts, ("sparsity", "importance", "scope")),
        }
        check_effects(self, without)
        if self.fusion and self.proxy != PRUNED:
            raise ConfigError(
                f"fusion puts a pruned network's weights back, and proxy is {self.proxy}; give --no-fusion, or leave "
                "proxy out."
            )

    @property
    def has_proxy(self) -> bool:
        """Whether a network goes ahead at all."""
        return True

    @property
    def target_length(self) -> int:
        """Epochs of the target's training."""
        return self.epochs

    @abstractmethod
    def subset_size(self, n: int) -> int:
        """Return how many of n samples the target may learn from."""

    @abstractmethod
    def foresee(self, tally: Tally, n: int, held: int, target: float, proxy: float, choosing: Choosing) -> None:
        """Add up what proxy and target cost on n samples and `held` held-out ones.

        `target` and `proxy` are FLOPs of a forward pass of one sample, `choosing` counts a selector's own arithmetic.
        """

    @abstractmethod
    def paper_costs(self, proxy: int, target: int, inputs: int, n: int) -> dict[str, float]:
        """Return costs by the paper's convention: parameters of both networks, scalars of an input, n samples."""

    def proxy_network(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return an untrained network such as the one that goes ahead."""
        if self.proxy == PRUNED:
            return self.trial(model, pool).small
        return copy.deepcopy(model) if self.proxy == DENSE else self.other_network(pool)

    def other_network(self, pool: Pool) -> nn.Module:
        """Make the network that `proxy` names."""
        seed = derive(self.seed, "proxy")
        return build_model(self.proxy, classes=pool.classes or 0, input_shape=shape_of(pool.inputs), seed=seed)

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse a network that cannot be cut or fused as asked, or another one that does not fit the data."""
        super().check_data(model, data)
        if not self.has_proxy:
            return
        made = self.trial(model, data.train) if self.proxy == PRUNED else None
        network = self.proxy_network(model, data.train) if made is None else made.small
        check_model(network, data)
        self.check_batches(network, len(data.train))
        if made is not None:
            self.check_fusion(made, data)
        self.check_chooser(network, data)

    def check_chooser(self, network: nn.Module, data: Data) -> None:
        """Refuse an untrained network such as the one that goes ahead, if it could not do its part."""

    def training(self, role: str, **options: Any) -> Training:
        """Return the options of a training; its draws depend on the seed and its role alone."""
        return Training.like(self, **{"seed": derive(self.seed, role), "record": "none", **options})

    def train_proxy(self, stages: Stages, training: Training, given: Mapping[str, Any]) -> Proxy:
        """Cut the network (or take another), and train that on all data; `given` goes to the stage."""
        setting, pool = stages.setting, stages.setting.data.train
        made = None
        if self.proxy == PRUNED:
            made = self.cut(self.drawn(setting), pool, setting.run.generator("channels"), ledger=stages.ledger)
            network = copy.deepcopy(made.small)
        else:
            network = self.drawn(setting) if self.proxy == DENSE else self.other_network(pool)
        plan = None if made is None else made.plan
        return Proxy(made, stages.carry_out(Stage("proxy", training, network, setting.data, plan=plan, **given)))

    def proxy_options(self, epochs: int) -> dict[str, Any]:
        """Return the options of a proxy's training: nobody watches it, its accuracy in the end is enough."""
        return {"epochs": epochs, "purpose": "selector", "evaluate_every": epochs, "probe": 0}

    def drawn(self, setting: Setting) -> nn.Module:
        """Return the dense network as it was before all training."""
        return copy.deepcopy(setting.model).cpu()

    def concluded(
        self, stages: Stages, last: Outcome, subset: Subset, proxy: Proxy | None, more: Mapping[str, Any]
    ) -> Result:
        """Leave behind what a run does; say so where the proxy has learnt nothing."""
        setting, told, parameters = stages.setting, dict(more), 0
        if proxy is not None:
            parameters, accuracy = proxy.outcome.result.results["parameters"], proxy.outcome.accuracy
            lost = at_chance(proxy.outcome)
            if lost:
                note_chance("network that chooses", proxy.outcome)
            told |= {"proxy_accuracy": accuracy, "proxy_at_chance": lost, "proxy_parameters": parameters}
        dense, pool = sum(parameter.numel() for parameter in setting.model.parameters()), setting.data.train
        told["cost_paper"] = self.paper_costs(parameters, dense, scalars_in(pool.inputs), len(pool))
        return conclude_stages(setting, stages.ledger, last, subset, told)
