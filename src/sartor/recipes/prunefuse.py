"""PruneFuse: a pruned copy of the network chooses what to label; its weights are fused into the network in the end."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sartor.costs import count_flops
from sartor.data.pool import Pool
from sartor.errors import ConfigError, check_choice, check_effects, check_range
from sartor.prune.channels import ChannelPlan
from sartor.recipes.concluding import keep_plan
from sartor.recipes.fusing import COMPLEMENTS, DISPERSIONS, KINDS, SCOPES, Cut, cut, estimate_statistics, fused
from sartor.recipes.labels import Labels
from sartor.recipes.rounds import Planned, Prices, Round, Rounds, check_schedule
from sartor.recipes.setup import Data
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.registry import RECIPES
from sartor.schedules import STEPS
from sartor.teacher import Teacher

STATISTICS, KD_TEACHERS = ("kept", "estimated"), ("selector", "ema")


@dataclass(frozen=True, eq=False)
class Proxy:
    """A selector that is trained, with the dense network and the plan that it came from."""

    made: Cut
    outcome: Outcome

    @property
    def model(self) -> nn.Module:
        """The trained small network."""
        return self.outcome.model


@RECIPES.register("prunefuse")
@dataclass(frozen=True, kw_only=True)
class PruneFuse(Rounds):
    """Let a structurally pruned network choose the labels, fuse it, fine-tune with distillation (2026, Alg. 1).

    Every round prunes a fresh draw of the dense network; the selector, its plan and that draw stay together until the
    fusion. `fusion=False` and `kd=False` are the paper's other arms, `target_lr` a rate of the target's own.
    Differs: which rounds are synchronised is an option (`sync_phase`), for Algorithm 1 and Table 3 disagree.
    """

    name: ClassVar[str] = "prunefuse"

    sparsity: float = 0.5
    """Share of channels that the selector lacks, p."""
    importance: str = "l2"
    """By what channels stay: l2, group-norm, lamp or random."""
    scope: str = "local"
    """Whether each layer loses its share of channels, or all together: local or global."""
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
    fusion: bool = True
    """Whether the target begins from the selector's weights, or from a fresh draw."""
    complement: str = "random"
    """What is where the selector has no weights: random, retained, zeros, preserving, replicate."""
    dispersion: str = "none"
    """Where the selector's channels go: none (back), contiguous, strided, random."""
    statistics: str = "kept"
    """Batch-norm statistics of a fused network: kept, or estimated anew from the labelled samples."""
    kd: bool = True
    """Whether the target is taught by the selector as well."""
    kd_weight: float = 0.3
    """Weight of the labels, lambda; the teacher's is 1 - lambda."""
    temperature: float = 4.0
    """Temperature at which the teacher is listened to."""
    kd_teacher: str = "selector"
    """Who teaches: selector, or ema, the moving average of the target itself."""
    ema_decay: float = 0.999
    """Share of the average that stays at each step, of the teacher ema."""
    target_epochs: int | None = None
    """Epochs of the target's training; if not given, epochs."""
    target_lr: float | None = None
    """Its learning rate; if not given, lr."""
    target_schedule: str = "same"
    """Its schedule; same for that of the selectors."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("sparsity", self.sparsity, 0, 1, low_open=True, high_open=True)
        check_choice("importance", self.importance, KINDS)
        check_choice("scope", self.scope, SCOPES)
        check_choice("complement", self.complement, COMPLEMENTS)
        check_choice("dispersion", self.dispersion, DISPERSIONS)
        check_choice("statistics", self.statistics, STATISTICS)
        check_choice("kd_teacher", self.kd_teacher, KD_TEACHERS)
        check_schedule("target_schedule", self.target_schedule)
        check_range("kd_weight", self.kd_weight, 0, 1, high_open=True)
        check_range("temperature", self.temperature, 0, float("inf"), low_open=True, high_open=True)
        check_range("ema_decay", self.ema_decay, 0, 1, high_open=True)
        check_range("t_sync", self.t_sync, 0, float("inf"), high_open=True)
        check_range("sync_phase", self.sync_phase, 0, max(0, self.t_sync - 1))
        for option in ("sync_epochs", "target_epochs"):
            if getattr(self, option) is not None:
                check_range(option, getattr(self, option), 1, float("inf"), high_open=True)
        for option in ("sync_lr", "target_lr"):
            if getattr(self, option) is not None:
                check_range(option, getattr(self, option), 0, float("inf"), low_open=True, high_open=True)
        self.check_combinations()
        if self.dynamic:
            check_range("dynamic", self.dynamic, 2, self.dynamic_epochs)
            check_range("dynamic_epochs", self.dynamic_epochs, self.dynamic, self.length - 1)
            if self.schedule == "one-cycle":
                raise ConfigError("dynamic goes by epochs, one-cycle by steps; use another schedule, or dynamic 0.")

    def check_combinations(self) -> None:
        """Raise ConfigError for options that have no effect beside the others."""
        fuses = self.fusion or self.t_sync > 0
        without = {
            "kd": (self.kd, ("kd_weight", "temperature", "kd_teacher")),
            "kd_teacher ema": (self.kd and self.kd_teacher == "ema", ("ema_decay",)),
            "fusion": (fuses, ("complement", "dispersion", "statistics")),
            "t_sync": (self.t_sync > 0, ("sync_epochs", "sync_lr", "sync_phase")),
            "dynamic": (self.dynamic > 0, ("dynamic_epochs",)),
        }
        check_effects(self, without)

    def lengthened(self, length: int) -> Self:
        """Return the same recipe with targets of so many epochs; what chooses is trained as long as before."""
        return self.with_options(target_epochs=length)

    @property
    def uses_selector(self) -> bool:
        """Whether a target needs the selector that was trained on the same labels."""
        return self.fusion or (self.kd and self.kd_teacher == "selector")

    def round_of(self, number: int, size: int, asked: int, *, target: bool) -> Round:
        """Train a selector where it is asked, or a target needs it, or synchronisation goes on from it."""
        later = self.t_sync > 0 and (asked > 0 or self.uses_selector)
        selects = (asked > 0 and self.looks_at_network) or (target and self.uses_selector) or later
        synced = self.t_sync > 0 and number > 0 and number % self.t_sync == self.sync_phase and selects
        return Round(number, size, asked, selects, synced, target)

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse a network that cannot be cut or fused as asked, or whose cut form cannot choose."""
        super().check_data(model, data)
        made = self.cut(model, data.train, torch.Generator().manual_seed(0))
        self.check_chooser(made.small, data)
        if self.fusion or self.t_sync:
            filled = self.filled(made, made.small, torch.Generator().manual_seed(0))
            if self.statistics == "estimated":
                estimate_statistics(filled, data.train.only(data.train.rows[:2]), 2)

    def selector_network(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return the network with the channels that stay."""
        return self.cut(model, pool, torch.Generator().manual_seed(0)).small

    def cut(
        self,
        model: nn.Module,
        pool: Pool,
        generator: torch.Generator,
        sparsity: float | None = None,
        after: ChannelPlan | None = None,
    ) -> Cut:
        """Cut channels out of a network."""
        share = self.sparsity if sparsity is None else sparsity
        return cut(model, pool, share, importance=self.importance, scope=self.scope, generator=generator, after=after)

    def filled(self, made: Cut, small: nn.Module, generator: torch.Generator) -> nn.Module:
        """Fuse a small network into the dense one."""
        return fused(made, small, complement=self.complement, dispersion=self.dispersion, generator=generator)

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
            made = self.cut(dense, data.train, generator)
            stage = Stage(title, self.selector_training(title), copy.deepcopy(made.small), data, **ask)
            return Proxy(made, stages.carry_out(stage))
        return self.thinned(stages, title, dense, data, generator, ask)

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
                share = self.sparsity * part / self.dynamic
                made = self.cut(outcome.model, data.train, generator, share, plans)
                plans, small = (made.plan if plans is None else plans.then(made.plan)), made.small
            role = f"{title}-part-{part + 1}"
            training = self.selector_training(role, start=start, stop=stop)
            outcome = stages.carry_out(Stage(role, training, small, data, **(ask if part == self.dynamic else {})))
        assert plans is not None
        assert outcome is not None
        return Proxy(Cut(dense, plans, small), outcome)

    def synchronised(self, stages: Stages, now: Round, labels: Labels, before: Proxy, ask: Mapping[str, Any]) -> Proxy:
        """Fuse and fine-tune the dense network, prune it by what it has learnt, and fine-tune the selector."""
        epochs = {"epochs": self.sync_epochs or self.epochs, "purpose": "sync"}
        epochs |= {} if self.sync_epochs is not None or self.stop_after is None else {"stop": self.stop_after}
        options: dict[str, Any] = epochs | {"lr": self.sync_lr or self.lr}
        data, (whole, part) = labels.known(), (f"sync-{name}-{now.key}" for name in ("dense", "selector"))
        begun = self.fused(stages, now, labels, before)
        teacher = self.teacher(before.model, begun, data.train)
        dense = stages.carry_out(
            Stage(whole, self.selector_training(whole, **options), begun, data, teacher=teacher)
        ).model
        made = self.cut(dense, data.train, stages.setting.run.generator("channels", now.number))
        stage = Stage(part, self.selector_training(part, **options), copy.deepcopy(made.small), data, **ask)
        return Proxy(made, stages.carry_out(stage))

    def fused(self, stages: Stages, now: Round, labels: Labels, proxy: Proxy) -> nn.Module:
        """Return the dense network with the selector's weights in their places (l.8, l.13)."""
        model = self.filled(proxy.made, proxy.model, stages.setting.run.generator("fuse", now.number))
        if self.statistics == "estimated":
            pool = labels.known().train
            with stages.ledger.timed("fuse"):
                passed = estimate_statistics(model, pool, self.batch_size)
            each = count_flops(model, pool.gather(pool.rows[:1])).forward
            stages.ledger.charge("fuse", forward=passed, flops=passed * each)
        return model

    def teacher(self, selector: nn.Module, student: nn.Module, pool: Pool) -> Teacher | None:
        """Return who teaches a dense network; None without distillation."""
        if not self.kd:
            return None
        options: dict[str, Any] = {"weight": self.kd_weight, "temperature": self.temperature}
        device = next(selector.parameters()).device
        example = pool.gather(pool.rows[:1], device=device)
        if self.kd_teacher == "ema":
            student = student.to(device)
            return Teacher.averaging(student, count_flops(student, example), decay=self.ema_decay, **options)
        frozen = copy.deepcopy(selector).eval().requires_grad_(False)
        return Teacher(frozen, count_flops(frozen, example), **options)

    def target_training(self, size: int) -> Training:
        """Return the options of a target's training; all arms of one seed draw alike."""
        options: dict[str, Any] = {"lr": self.target_lr or self.lr}
        if self.target_epochs is not None:
            options["epochs"] = self.target_epochs
        if self.target_schedule not in ("same", self.schedule):
            options |= {"schedule": self.target_schedule, "steps_shape": STEPS, "peak_at": PruneFuse.peak_at}
        return self.training(f"target-{size}", **options)

    def train_target(self, stages: Stages, now: Round, labels: Labels, selector: Proxy | None) -> Outcome:
        """Fuse and fine-tune with distillation (l.13), or train from a fresh draw."""
        data, setting = labels.known(), stages.setting
        if self.fusion and selector is not None:
            model = self.fused(stages, now, labels, selector)
        else:
            model = self.drawn(setting, now.number)
        teaching = model if selector is None else selector.model
        teacher = self.teacher(teaching, model, data.train)
        if selector is not None:
            keep_plan(setting.run, selector.made.plan)
        return stages.carry_out(
            Stage(f"target-{now.key}", self.target_training(now.size), model, data, teacher=teacher)
        )

    def prices(self, model: nn.Module, pool: Pool) -> Prices:
        """Count the FLOPs of the dense network and of the cut ones."""
        example, prices = pool.gather(pool.rows[:1]), super().prices(model, pool)
        generator = torch.Generator().manual_seed(0)
        shares = [self.sparsity * part / self.dynamic for part in range(1, self.dynamic)]
        parts = (self.cut(model, pool, generator, share).small for share in shares)
        return replace(prices, parts=tuple(count_flops(part, example).forward for part in parts))

    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """The selector, in parts where it is thinned; or the two trainings of a synchronisation; and the target."""
        asks, looked = now.asked > 0 and self.looks_at_network, self.statistics == "estimated"
        taught = (prices.target if self.kd_teacher == "ema" else prices.chooser) if self.kd else 0.0
        found: list[Planned] = []
        if now.synced:
            epochs = self.sync_epochs or self.length
            found = [Planned("sync", epochs, prices.target, taught, looked=looked)]
            found += [Planned("sync", epochs, prices.chooser, asks=asks)]
        elif now.selects and self.dynamic:
            ends = [*(self.dynamic_epochs * i // self.dynamic for i in range(self.dynamic + 1)), self.length]
            each = (prices.target, *prices.parts, prices.chooser)
            steps = zip(pairwise(ends), each, strict=True)
            found = [Planned("selector", stop - start, forward) for (start, stop), forward in steps]
            found[-1] = replace(found[-1], asks=asks)
        elif now.selects:
            found = [Planned("selector", self.length, prices.chooser, asks=asks)]
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
