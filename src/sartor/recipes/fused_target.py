"""A target that begins from a pruned network's weights and is taught by it: what PruneFuse's recipes share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from sartor.costs import Ledger, count_flops
from sartor.data.pool import Pool
from sartor.errors import check_choice, check_effects, check_range
from sartor.prune.channels import ChannelPlan
from sartor.recipes.concluding import keep_plan
from sartor.recipes.fusing import (
    COMPLEMENTS,
    DISPERSIONS,
    IMPORTANCES,
    SCOPES,
    Cut,
    cut,
    dispersed,
    estimate_statistics,
    fused,
    tried,
)
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import Data
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.schedules import SCHEDULES, STEPS
from sartor.teacher import Teacher

STATISTICS, KD_TEACHERS = ("kept", "estimated"), ("selector", "ema")


@dataclass(frozen=True, eq=False)
class Proxy:
    """A small network that is trained, with the dense network and the plan that it came from, if it came of them."""

    made: Cut | None
    outcome: Outcome

    @property
    def model(self) -> nn.Module:
        """The trained small network."""
        return self.outcome.model


@dataclass(frozen=True, kw_only=True)
class FusedTarget(Recipe):
    """How a network is cut, and how what the small one has learnt comes into the target; the schedule is PruneFuse's.

    Source: PruneFuse 2026, sections 4.1, 4.3, 4.4 and Algorithm 1 l.1, l.13; its training for CIFAR (appendix).
    """

    epochs: int = 181
    """Epochs of a training."""
    lr: float = 0.1
    """Initial learning rate; for one-cycle and steps, the highest."""
    schedule: Literal["cosine", "one-cycle", "constant", "steps"] = "steps"
    """How the learning rate moves: by the steps of steps_shape; down by a cosine, epoch by epoch; up and down by two
    lines, step by step; or not."""
    sparsity: float = 0.5
    """Share of channels that the selector lacks, p."""
    importance: str = "l2"
    """By what channels stay: l2, group-norm, lamp or random; snip, grasp or synflow, by some labelled samples."""
    scope: str = "local"
    """What loses its share of channels: local, each layer; global, all together; isomorphic, layers of a kind."""
    fusion: bool = True
    """Whether the target begins from the selector's weights, or from untrained ones."""
    complement: str = "random"
    """What is where the selector has no weights: random, retained, zeros, preserving, replicate."""
    dispersion: str = "none"
    """Where the selector's channels go: none (back), contiguous, strided, random."""
    statistics: str = "kept"
    """Batch-norm statistics of a fused network: kept, or estimated anew from the samples that it will train on."""
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
    target_lr: float | None = None
    """Learning rate of the target's training; if not given, lr."""
    target_schedule: str = "same"
    """Its schedule; same for that of the selectors."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("sparsity", self.sparsity, 0, 1, low_open=True, high_open=True)
        check_choice("importance", self.importance, IMPORTANCES)
        check_choice("scope", self.scope, SCOPES)
        check_choice("complement", self.complement, COMPLEMENTS)
        check_choice("dispersion", self.dispersion, DISPERSIONS)
        check_choice("statistics", self.statistics, STATISTICS)
        check_choice("kd_teacher", self.kd_teacher, KD_TEACHERS)
        check_choice("target_schedule", self.target_schedule, ("same", *SCHEDULES))
        check_range("kd_weight", self.kd_weight, 0, 1, high_open=True)
        check_range("temperature", self.temperature, 0, float("inf"), low_open=True, high_open=True)
        check_range("ema_decay", self.ema_decay, 0, 1, high_open=True)
        self.check_optional("target_lr", low_open=True)
        without = {
            "kd": (self.kd, ("kd_weight", "temperature", "kd_teacher")),
            "kd_teacher ema": (self.kd and self.kd_teacher == "ema", ("ema_decay",)),
            "fusion": (self.fuses, ("complement", "dispersion", "statistics")),
        }
        check_effects(self, without)

    def check_optional(self, *options: str, least: float = 0, low_open: bool = False) -> None:
        """Raise ConfigError for options that are given and lie below `least`."""
        for option in options:
            if getattr(self, option) is not None:
                check_range(option, getattr(self, option), least, float("inf"), low_open=low_open, high_open=True)

    @property
    def fuses(self) -> bool:
        """Whether anything is fused at all."""
        return self.fusion

    @property
    def uses_selector(self) -> bool:
        """Whether a target needs the selector that was trained before it."""
        return self.fusion or (self.kd and self.kd_teacher == "selector")

    def trial(self, model: nn.Module, pool: Pool, sparsity: float | None = None) -> Cut:
        """Cut an untrained network as a training will, for the counts and for what is refused."""
        share = self.sparsity if sparsity is None else sparsity
        return tried(model, pool, share, importance=self.importance, scope=self.scope)

    def check_fusion(self, made: Cut, data: Data) -> None:
        """Refuse a network that cannot be fused as asked."""
        if self.fuses:
            filled = self.filled(made, made.small, torch.Generator().manual_seed(0))
            if self.statistics == "estimated":
                estimate_statistics(filled, data.train.only(data.train.rows[:2]), 2)

    def cut(
        self,
        model: nn.Module,
        pool: Pool,
        generator: torch.Generator,
        sparsity: float | None = None,
        after: ChannelPlan | None = None,
        ledger: Ledger | None = None,
    ) -> Cut:
        """Cut channels out of a network; samples that the importance reads are the pool's, and charged to `ledger`."""
        share = self.sparsity if sparsity is None else sparsity
        given: dict[str, Any] = {"generator": generator, "after": after, "ledger": ledger}
        return cut(model, pool, share, importance=self.importance, scope=self.scope, **given)

    def filled(self, made: Cut, small: nn.Module, generator: torch.Generator) -> nn.Module:
        """Fuse a small network into the dense one."""
        return fused(made, small, complement=self.complement, dispersion=self.dispersion, generator=generator)

    def fused(self, stages: Stages, pool: Pool, proxy: Proxy, generator: torch.Generator) -> nn.Module:
        """Return what a target begins from, the selector's weights in their places (l.13); keep which these are."""
        model, plan = self.refilled(stages, pool, proxy, generator)
        keep_plan(stages.setting.run, plan)
        return model

    def refilled(
        self, stages: Stages, pool: Pool, proxy: Proxy, generator: torch.Generator
    ) -> tuple[nn.Module, ChannelPlan]:
        """Return the dense network with the selector's weights in their places (l.8, l.13), and the plan of these."""
        assert proxy.made is not None
        made = dispersed(proxy.made, self.dispersion, generator)
        model = fused(made, proxy.model, complement=self.complement, dispersion="none", generator=generator)
        if self.statistics == "estimated":
            with stages.ledger.timed("fuse"):
                passed = estimate_statistics(model, pool, self.batch_size)
            each = count_flops(model, pool.gather(pool.rows[:1])).forward
            stages.ledger.charge("fuse", forward=passed, flops=passed * each)
        return model, made.plan

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

    @property
    def target_options(self) -> dict[str, Any]:
        """The options in which a target's training differs from a selector's."""
        options: dict[str, Any] = {"lr": self.target_lr or self.lr}
        if self.target_schedule not in ("same", self.schedule):
            options |= {"schedule": self.target_schedule, "steps_shape": STEPS, "peak_at": Recipe.peak_at}
        return options

    def train_fused(
        self,
        stages: Stages,
        title: str,
        training: Training,
        data: Data,
        proxy: Proxy | None,
        fresh: Callable[[], nn.Module],
        generator: torch.Generator,
        **given: Any,
    ) -> Outcome:
        """Fuse and fine-tune with distillation (l.13), or train what `fresh` draws; `given` goes to the stage."""
        fuses = self.fusion and proxy is not None and proxy.made is not None
        model = self.fused(stages, data.train, proxy, generator) if fuses and proxy is not None else fresh()
        teacher = self.teacher(model if proxy is None else proxy.model, model, data.train)
        return stages.carry_out(Stage(title, training, model, data, teacher=teacher, **given))

    def taught_by(self, target: float, selector: float) -> float:
        """Return the FLOPs of the teacher's forward pass of one sample, given those of both networks."""
        return (target if self.kd_teacher == "ema" else selector) if self.kd else 0.0
