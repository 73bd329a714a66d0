"""PruneFuse: a pruned copy of the network chooses what to label; its weights are fused into the network in the end."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sartor.costs import count_flops
from sartor.data.pool import Pool
from sartor.errors import ConfigError, check_effects, check_range
from sartor.recipes.channel_scores import scoring_cost
from sartor.recipes.fused_target import FusedTarget, Proxy
from sartor.recipes.fusing import Cut
from sartor.recipes.labels import Labels
from sartor.recipes.round_plan import Planned, Prices, Round, synchronised
from sartor.recipes.rounds import LOOKS, SECOND, Rounds
from sartor.recipes.setup import Data
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.registry import RECIPES

OF_SELECTOR = ("sparsity", "importance", "scope", "dynamic")
"""Options that say how the selector is cut."""


@RECIPES.register("prunefuse")
@dataclass(frozen=True, kw_only=True)
class PruneFuse(Rounds, FusedTarget):
    """Let a structurally pruned network choose the labels, fuse it, fine-tune with distillation (2026, Alg. 1).

    Every round prunes a fresh draw of the dense network; the selector, its plan and that draw stay together until the
    fusion. `fusion=False` and `kd=False` are the paper's other arms, `target_lr` a rate of the target's own.
    Differs: which rounds are synchronised is an option (`sync_phase`), for Algorithm 1 and Table 3 disagree.
    """

    name: ClassVar[str] = "prunefuse"

    dynamic: int = 0
    """Steps in which channels leave while the selector trains; 0 for all before."""
    dynamic_epochs: int = 20
    """Epochs within which they leave."""
    t_sync: int = 0
    """Rounds from one synchronisation to the next; 0 for none."""
    sync_phase: int = 0
    """Which rounds are synchronised: those whose number, divided by t_sync, leaves this."""
    sync_epochs: int | None = None
    """Epochs of either training of a synchronisation; if not given, epochs."""
    sync_lr: float | None = None
    """Their learning rate; if not given, lr."""
    target_epochs: int | None = None
    """Epochs of the target's training; if not given, epochs."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("t_sync", self.t_sync, 0, float("inf"), high_open=True)
        check_range("sync_phase", self.sync_phase, 0, max(0, self.t_sync - 1))
        self.check_optional("sync_epochs", "target_epochs", least=1)
        self.check_optional("sync_lr", low_open=True)
        asks = LOOKS if self.number_of_rounds > 1 else SECOND
        without = {
            "t_sync": (self.t_sync > 0, ("sync_epochs", "sync_lr", "sync_phase")),
            "dynamic": (self.dynamic > 0, ("dynamic_epochs",)),
            f"{asks}, fusion or a selector that teaches": (self.has_selector, (*OF_SELECTOR, "t_sync")),
        }
        check_effects(self, without)
        self.check_synchronised()
        if self.dynamic:
            check_range("dynamic", self.dynamic, 2, self.dynamic_epochs)
            check_range("dynamic_epochs", self.dynamic_epochs, self.dynamic, self.length - 1)
            if self.schedule == "one-cycle":
                raise ConfigError("dynamic goes by epochs, one-cycle by steps; use another schedule, or dynamic 0.")

    def check_synchronised(self) -> None:
        """Raise ConfigError for a synchronisation that never comes, or that nothing would use."""
        rounds = self.outline
        if not self.t_sync or any(now.synced for now in rounds):
            return
        used = ", ".join(str(now.number) for now in rounds[1:] if now.selects)
        there = f"used are those of {used}, counted from 0; t_sync 1 meets them" if used else "leave it out"
        raise ConfigError(
            f"t_sync is {self.t_sync} and sync_phase {self.sync_phase}, which with budgets {self.budgets} is no round "
            f"after the first whose selector is used; {there}."
        )

    def lengthened(self, length: int) -> Self:
        """Return the same recipe with targets of so many epochs; what chooses is trained as long as before."""
        return self.with_options(target_epochs=length)

    @property
    def fuses(self) -> bool:
        """Whether anything is fused: a target, or a network that is synchronised."""
        return self.fusion or self.t_sync > 0

    @property
    def has_selector(self) -> bool:
        """Whether a selector has any use: it chooses, is fused, or teaches."""
        return (self.looks_at_network and self.number_of_rounds > 1) or self.uses_selector

    @property
    def draws_anew(self) -> bool:
        """Whether a selector or a target after the first round begins with another draw."""
        selectors = any(now.selects and not now.synced for now in self.outline[1:])
        targets = not self.fusion and any(now.target for now in self.outline[1:])
        return super().draws_anew and (selectors or targets)

    def round_of(self, number: int, size: int, asked: int, *, target: bool) -> Round:
        """Train a selector where it is asked, or a target needs it."""
        selects = (asked > 0 and self.looks_at_network) or (target and self.uses_selector)
        return Round(number, size, asked, selects, False, target)

    def rounds_of(self, sizes: Sequence[int]) -> list[Round]:
        """Synchronise selectors that have a use; train the ones that these go on from."""
        return synchronised(super().rounds_of(sizes), self.t_sync, self.sync_phase)

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse a network that cannot be cut or fused as asked, or whose cut form cannot choose."""
        super().check_data(model, data)
        made = self.trial(model, data.train)
        self.check_chooser(made.small, data)
        self.check_fusion(made, data)

    def selector_network(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return the network with the channels that stay."""
        return self.trial(model, pool).small

    def train_selector(
        self, stages: Stages, now: Round, labels: Labels, before: Proxy | None, ask: Mapping[str, Any]
    ) -> Proxy:
        """Prune a fresh draw and train it on all labels (l.2, l.6), or synchronise the last selector (l.8-9)."""
        if now.synced and before is not None:
            return self.synchronised(stages, now, labels, before, ask)
        setting = stages.setting
        generator, data = setting.run.generator("channels", now.number), labels.known()
        dense, title = self.drawn(setting, now.number), f"selector-{now.key}"
        if not self.dynamic:
            made = self.cut(dense, data.train, generator, ledger=stages.ledger)
            stage = Stage(title, self.selector_training(title), copy.deepcopy(made.small), data, plan=made.plan, **ask)
            return Proxy(made, stages.carry_out(stage))
        return self.thinned(stages, title, dense, data, generator, ask)

    def share_after(self, steps: int) -> float:
        """Return the share of channels that have left after so many steps; after the last, sparsity to the last bit."""
        return self.sparsity if steps == self.dynamic else self.sparsity * steps / self.dynamic

    def thinned(
        self,
        stages: Stages,
        title: str,
        dense: nn.Module,
        data: Data,
        generator: torch.Generator,
        ask: Mapping[str, Any],
    ) -> Proxy:
        """Train a selector that loses its channels in equal steps while it trains; the optimiser begins each anew."""
        ends = [self.dynamic_epochs * i // self.dynamic for i in range(self.dynamic + 1)]
        small, plans, outcome = copy.deepcopy(dense), None, None
        for part, (start, stop) in enumerate(pairwise([*ends, self.length])):
            if outcome is not None:
                made = self.cut(outcome.model, data.train, generator, self.share_after(part), plans, stages.ledger)
                plans, small = (made.plan if plans is None else plans.then(made.plan)), made.small
            role = f"{title}-part-{part + 1}"
            training = self.selector_training(role, start=start, stop=stop)
            asks = ask if part == self.dynamic else {}
            outcome = stages.carry_out(Stage(role, training, small, data, plan=plans, **asks))
        assert plans is not None
        assert outcome is not None
        return Proxy(Cut(dense, plans, small), outcome)

    def synchronised(self, stages: Stages, now: Round, labels: Labels, before: Proxy, ask: Mapping[str, Any]) -> Proxy:
        """Fuse and fine-tune the dense network, prune it by what it has learnt, and fine-tune the selector."""
        epochs = {"epochs": self.sync_epochs or self.epochs, "purpose": "sync"}
        epochs |= {} if self.sync_epochs is not None or self.stop_after is None else {"stop": self.stop_after}
        options: dict[str, Any] = epochs | {"lr": self.sync_lr or self.lr}
        data, (whole, part) = labels.known(), (f"sync-{name}-{now.key}" for name in ("dense", "selector"))
        begun, _ = self.refilled(stages, data.train, before, stages.setting.run.generator("fuse", now.number))
        teacher = self.teacher(before.model, begun, data.train)
        dense = stages.carry_out(
            Stage(whole, self.selector_training(whole, **options), begun, data, teacher=teacher)
        ).model
        generator = stages.setting.run.generator("channels", now.number)
        made = self.cut(dense, data.train, generator, ledger=stages.ledger)
        training = self.selector_training(part, **options)
        stage = Stage(part, training, copy.deepcopy(made.small), data, plan=made.plan, **ask)
        return Proxy(made, stages.carry_out(stage))

    def outcome_of(self, selector: Proxy) -> Outcome:
        """Return the last training of the small network."""
        return selector.outcome

    def target_training(self, size: int) -> Training:
        """Return the options of a target's training; all arms of one seed draw alike."""
        epochs = {} if self.target_epochs is None else {"epochs": self.target_epochs}
        return self.training(f"target-{size}", **self.target_options, **epochs)

    def train_target(self, stages: Stages, now: Round, labels: Labels, selector: Proxy | None) -> Outcome:
        """Fuse and fine-tune with distillation (l.13), or train from a fresh draw."""
        setting = stages.setting
        return self.train_fused(
            stages,
            f"target-{now.key}",
            self.target_training(now.size),
            labels.known(),
            selector,
            lambda: self.drawn(setting, now.number),
            setting.run.generator("fuse", now.number),
        )

    def prices(self, model: nn.Module, pool: Pool) -> Prices:
        """Count the FLOPs of the dense network and of the cut ones."""
        example, prices = pool.gather(pool.rows[:1]), super().prices(model, pool)
        parts = (self.trial(model, pool, self.share_after(part)).small for part in range(1, self.dynamic))
        return replace(prices, parts=tuple(count_flops(part, example).forward for part in parts))

    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """The selector, in parts where it is thinned; or the two trainings of a synchronisation; and the target."""
        asks, looked = now.asked > 0 and self.looks_at_network, self.statistics == "estimated"
        taught = self.taught_by(prices.target, prices.chooser)

        def scored(forward: float) -> tuple[int, float]:
            return scoring_cost(self.importance, forward, now.size)

        found: list[Planned] = []
        if now.synced:
            epochs = self.sync_epochs or self.length
            found = [Planned("sync", epochs, prices.target, taught, looked=looked)]
            found += [Planned("sync", epochs, prices.chooser, asks=asks, scored=scored(prices.target))]
        elif now.selects and self.dynamic:
            ends = [*(self.dynamic_epochs * i // self.dynamic for i in range(self.dynamic + 1)), self.length]
            each = (prices.target, *prices.parts, prices.chooser)
            before = [(0, 0.0), *map(scored, each[:-1])]
            steps = zip(pairwise(ends), each, before, strict=True)
            found = [Planned("selector", b - a, forward, scored=read) for (a, b), forward, read in steps]
            found[-1] = replace(found[-1], asks=asks)
        elif now.selects:
            found = [Planned("selector", self.length, prices.chooser, asks=asks, scored=scored(prices.target))]
        if now.target:
            epochs = self.target_epochs or self.length
            found.append(Planned("train", epochs, prices.target, taught, looked=looked and self.fusion))
        return found

    def paper_costs(self, dense: int, selector: int, inputs: int, n: int) -> dict[str, Any]:
        """Return costs by the paper's convention, of networks with so many parameters."""
        epochs = self.length
        synced = {now.number for now in self.agenda(n) if now.synced}
        given = {"dense": dense, "synced": synced, "sync_epochs": self.sync_epochs or epochs}
        return self.convention(selector, dense, inputs, n, target_epochs=self.target_epochs or epochs, **given)
