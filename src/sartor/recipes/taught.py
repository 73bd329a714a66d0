"""SWaST and its controls with a teacher beside the labels: a dense network trained before, or the average of itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import nn

from sartor.costs import count_flops
from sartor.errors import ConfigError, check_choice, check_effects, check_range
from sartor.randomness import derive
from sartor.recipes.drawing import redrawn
from sartor.recipes.outcome import Result, Watch, conclude
from sartor.recipes.recipe import Recipe
from sartor.recipes.settling import settle
from sartor.recipes.setup import Setting, prepare_trainer
from sartor.recipes.staged import Stage, Stages, Training
from sartor.recipes.swast import SWaST
from sartor.recipes.timetable import Lessons, count_samples
from sartor.teacher import Teacher

TEACHERS = ("dense", "ema")


@dataclass(frozen=True, kw_only=True)
class Taught(SWaST):
    """SWaST, or what is left of it, whose network learns from a teacher as well as from the labels.

    The teacher `dense` is another draw of the network, trained on all data before, which is charged as `teacher`; `ema`
    is the moving average of the network itself. Either is asked at every step, which is charged as `distill`.
    Source: Hinton et al. 2015; Tarvainen and Valpola 2017. It is a recipe of studies, without a command of its own.
    """

    name: ClassVar[str] = "taught"

    teacher: str = "dense"
    """Who teaches: dense or ema."""
    teacher_epochs: int = 300
    """Epochs of the dense teacher's training, by the same training options."""
    teacher_steps: int | None = None
    """Optimiser steps of the dense teacher's training in the place of its epochs, by one-cycle; the last epoch ends
    early, and so few epochs would not anneal one by one."""
    kd_weight: float = 0.3
    """Weight of the labels, lambda; the teacher's is 1 - lambda."""
    temperature: float = 4.0
    """Temperature at which the teacher is listened to."""
    ema_decay: float = 0.999
    """Share of the average that stays at each step, of the teacher ema."""

    @classmethod
    def like(cls, student: SWaST, **options: Any) -> Self:
        """Take all options of a recipe that has no teacher."""
        return cls(**{**{field.name: getattr(student, field.name) for field in fields(student)}, **options})

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_choice("teacher", self.teacher, TEACHERS)
        check_range("teacher_epochs", self.teacher_epochs, 1, float("inf"), high_open=True)
        if self.teacher_steps is not None:
            check_range("teacher_steps", self.teacher_steps, 1, float("inf"), high_open=True)
            if self.teacher_epochs != Taught.teacher_epochs:
                raise ConfigError("teacher_epochs has no effect with teacher_steps; give one of them.")
        check_range("kd_weight", self.kd_weight, 0, 1, high_open=True)
        check_range("temperature", self.temperature, 0, float("inf"), low_open=True, high_open=True)
        check_range("ema_decay", self.ema_decay, 0, 1, high_open=True)
        needed = {"teacher dense": (self.teacher == "dense", ("teacher_epochs", "teacher_steps"))}
        check_effects(self, needed | {"teacher ema": (self.teacher == "ema", ("ema_decay",))})

    def lessons(self, n: int) -> Lessons:
        """The dense teacher's training, and a pass for every sample that is trained on."""
        dense = self.teacher == "dense"
        return Lessons(count_samples(self.teaching.timetable(n), self.batch_size) if dense else 0, asked=True)

    @property
    def teaching(self) -> Training:
        """The dense teacher's training."""
        watched = {"evaluate_every": self.teacher_epochs, "probe": 0}
        length: dict[str, Any] = {"epochs": self.teacher_epochs, "steps": self.teacher_steps}
        if self.teacher_steps is not None and self.schedule == Recipe.schedule:
            length["schedule"] = "one-cycle"
        return Training.like(self, **length, seed=derive(self.seed, "teacher"), purpose="teacher", **watched)

    def carry_out(self, setting: Setting) -> Result:
        """Train the teacher, then the network, and conclude; what the teacher cost is in the ledger from the start."""
        run, data, model = setting.run, setting.data, setting.model
        stages = Stages(setting)
        teacher = self.make_teacher(stages, model.to(setting.device))
        trainer = prepare_trainer(self, run, model, data, setting.device, setting.workers, teacher=teacher)

        def charge() -> bool:
            for purpose, account in stages.ledger.by_purpose().items():
                trainer.ledger.charge(purpose, **account)  # type: ignore[arg-type]
            return True

        run.once("teacher charged", charge)
        watch = Watch(trainer, data, every=self.evaluate_every, probe=self.probe)
        subset = self.program(trainer, data, watch)
        settle(trainer, data, watch, subset, len(self.timetable(len(data.train))))
        return conclude(run, trainer, data, watch, subset, setting.labels, setting.beginning)

    def make_teacher(self, stages: Stages, student: nn.Module) -> Teacher:
        """Train a dense network, or begin an average; both are asked in full, and counted so."""
        setting = stages.setting
        train = setting.data.train
        flops = count_flops(student, train.gather(train.rows[:1], device=setting.device))
        options: dict[str, Any] = {"weight": self.kd_weight, "temperature": self.temperature}
        if self.teacher == "ema":
            return Teacher.averaging(student, flops, decay=self.ema_decay, **options)
        model = redrawn(student, setting.run.generator("teacher"))
        trained = stages.carry_out(Stage("teacher", self.teaching, model, setting.data)).model
        trained.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as where it is read back
        return Teacher(trained.eval().requires_grad_(False), flops, **options)
