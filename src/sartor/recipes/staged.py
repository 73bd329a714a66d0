"""A recipe of several trainings: each is a run of its own within the run's folder, and a finished one is read back.

So a program that is a plain sequence of trainings goes on, when it is started again, where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.digest import digest
from sartor.files import read_json
from sartor.prune.channels import ChannelPlan
from sartor.prune.channels.saving import PLAN
from sartor.prune.masks import Masks
from sartor.recipes.outcome import Result, Watch, conclude, recall
from sartor.recipes.recipe import Recipe
from sartor.recipes.settling import settle
from sartor.recipes.setup import Data, Setting, lay_out, prepare_trainer
from sartor.recipes.sharing import alone, key_of
from sartor.recipes.state import Coreset, all_of
from sartor.recipes.supplies import Snapshots
from sartor.recipes.timetable import Slot, count_steps, everything, fixed_steps
from sartor.registry import PRUNERS
from sartor.run import Run, Tracked
from sartor.teacher import Teacher
from sartor.train import Trainer
from sartor.types import Pruner, Subset

STAGES, LEDGER, FOUND = "stages", "ledger.json", "found.json"
CHOOSERS = ("selector", "sync")
"""Purposes of trainings whose networks choose samples: it is told whether they have learnt anything."""
Costs = dict[str, dict[str, float]]
"""A ledger's accounts by purpose."""


class Before(Tracked, Protocol):
    """What is done before each epoch of a training; it is saved with it."""

    def begin(self, epoch: int, trainer: Trainer) -> Subset | None:
        """Do it before an epoch; return what to train on from now on, or None for what it is.

        A training that goes on in the midst of an epoch asks again. It may have `told`, what the metrics tell of that.
        """
        ...


class Way(Tracked, Protocol):
    """How the epochs of a training are trained; it is saved with it."""

    def train(self, trainer: Trainer, subset: Subset, epoch: int, *, purpose: str) -> None:
        """Train an epoch on a subset, from the step at which the run stands; charged as `purpose`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Training(Recipe):
    """The options of one training among several: all samples that it is given, in every epoch."""

    name: ClassVar[str] = "training"

    purpose: str = "train"
    """What the ledger calls it."""
    pruner: str | None = None
    """What prunes meanwhile, such as magnitude(sparsity=0.5)."""
    start: int = 0
    """Epochs of the schedule that another training has done already."""
    stop: int | None = None
    """Epochs of the schedule after which this one ends; if not given, all."""
    steps: int | None = None
    """End after so many optimiser steps, whatever the epochs; the schedule has their length."""

    @classmethod
    def like(cls, recipe: Recipe, **options: Any) -> Self:
        """Take the training options of a recipe; the hold-out and the noise are made already, once for all."""
        common = {option.name: getattr(recipe, option.name) for option in fields(Recipe)}
        return cls(**{**common, "holdout": 0.0, "noise": 0.0, "noise_kind": "other", **options})

    def course(self, n: int) -> list[Slot]:
        """All epochs of the schedule: all samples in every one."""
        if self.steps is not None:
            return fixed_steps(n, self.steps, self.batch_size)
        return everything(n, self.epochs)

    def timetable(self, n: int) -> list[Slot]:
        """The epochs of the schedule that are this training's."""
        return self.course(n)[self.start : self.stop]

    def make_pruner(self) -> Pruner | None:
        """Make the pruner, if there is one."""
        return None if self.pruner is None else PRUNERS.build(self.pruner)

    def purpose_of(self, slot: Slot, started: bool) -> str:
        """What the ledger calls it."""
        return self.purpose

    def program(
        self,
        trainer: Trainer,
        data: Data,
        watch: Watch,
        weights: Tensor | None = None,
        ends: Snapshots | None = None,
        before: Before | None = None,
        way: Way | None = None,
    ) -> Subset:
        """Train on all samples, with `weights` in the order of their rows; `ends` takes down how epochs end."""
        run, slots = trainer.run, self.timetable(len(data.train))
        whole = self.course(len(data.train))
        steps = count_steps(whole, self.batch_size)
        trainer.schedule = replace(trainer.schedule, epochs=len(whole), steps=steps)
        state = watch.follow(Coreset(all_of(data.train)))
        if weights is not None and state.drawn < 0:
            state.replace(Subset.of(data.train.rows, weights), 0)
            watch.selection(0, state.subset)
            run.save()
        for epoch in run.epochs(len(slots), "train"):
            drawn = None if before is None else before.begin(epoch, trainer)
            if drawn is not None:
                state.replace(drawn, epoch)
                watch.selection(epoch, drawn, **getattr(before, "told", {}))
                run.save()
            trainer.meter.start(run.step)
            if way is None:
                trainer.train_epoch(state.subset, self.start + epoch, stop=slots[epoch].stop, purpose=self.purpose)
            else:
                way.train(trainer, state.subset, self.start + epoch, purpose=self.purpose)
            if ends is not None:
                ends.end(epoch, trainer)
            watch.epoch(epoch, len(slots), trainer.epoch_lr(self.start + epoch))
        return state.subset


@dataclass(frozen=True, eq=False)
class Stage:
    """One training among several: its options, its network as it begins, all samples that it trains on.

    `weights` of the samples, in the order of `data.train.rows`; `masks` by parameter name, where no pruner makes them;
    `before` each epoch something may be done, `way` trains it, if it is not trained as usual; `then` is done with the
    trained network and returns plain values; it is given the ends of the last `snapshots` epochs. `about` tells what
    `before`, `way` and `then` depend on. `plan`: the channels that the network has of a dense one, kept beside it.
    """

    title: str
    recipe: Training
    model: nn.Module
    data: Data
    weights: Tensor | None = None
    masks: Mapping[str, Tensor] | None = None
    teacher: Teacher | None = None
    snapshots: int = 0
    before: Before | None = None
    way: Way | None = None
    then: Callable[[Trainer, Snapshots | None], dict[str, Any]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    plan: ChannelPlan | None = None

    def configuration(self) -> dict[str, Any]:
        """Return all that decides what comes of it."""
        config = self.recipe.configuration(self.model, self.data)
        config |= {"title": self.title, "beginning": digest(self.model.state_dict()), **self.about}
        if self.weights is not None:
            config["weights"] = digest({"weights": self.weights})
        if self.masks is not None:
            config["masks"] = digest(self.masks)
        if self.teacher is not None:
            config |= {"teacher": self.teacher.described()}
        return config

    def begin(self, run: Run, setting: Setting) -> tuple[Result, dict[str, Any], Costs]:
        """Train from where the run stands; return what came of it, what `then` found, and the costs."""
        recipe, data = self.recipe, self.data
        beginning = run.once("beginning", lambda: digest(self.model.state_dict()), save=False)
        masks = None if self.masks is None else Masks(self.model, self.masks)
        trainer = prepare_trainer(
            recipe, run, self.model, data, setting.device, setting.workers, masks=masks, teacher=self.teacher
        )
        slots = recipe.timetable(len(data.train))
        ends = None
        if self.snapshots:
            ends = run.track("snapshots", Snapshots([*slots, Slot(1, draws=True)], self.snapshots))
        before = None if self.before is None else run.track("before", self.before)
        way = None if self.way is None else run.track("way", self.way)
        watch = Watch(trainer, data, every=recipe.evaluate_every, probe=recipe.probe)
        subset = recipe.program(trainer, data, watch, self.weights, ends, before, way)
        settle(trainer, data, watch, subset, len(slots))
        labels = {"format": 1, "recipe": recipe.name, "arm": self.title, "match": "epochs", "seed": recipe.seed}
        if recipe.purpose in CHOOSERS and data.test is None and data.validation is None:
            labels["train_accuracy"] = run.once("train accuracy", lambda: accuracy_of(trainer, data.train), save=False)
        then = self.then
        found = {} if then is None else run.once("found", lambda: then(trainer, ends))
        run.write(FOUND, found)
        if self.plan is not None:
            run.write(PLAN, self.plan.to_bytes())
        run.pause()
        result = conclude(run, trainer, data, watch, subset, labels, beginning)
        return result, found, trainer.ledger.by_purpose()


def accuracy_of(trainer: Trainer, pool: Pool) -> float:
    """Return the share of a pool's samples that a network classifies rightly; charged as monitoring."""
    return float(trainer.evaluate(pool)[1].double().mean())


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a stage: its network is trained; `found` is what its `then` returned."""

    stage: Stage
    result: Result
    found: dict[str, Any]

    @property
    def model(self) -> nn.Module:
        """The trained network."""
        return self.stage.model

    @property
    def accuracy(self) -> float | None:
        """Share of test samples classified rightly after the last epoch; else of held-out ones; None without both."""
        results = self.result.results
        test: float | None = results["test_accuracy"]
        return results["validation_accuracy"] if test is None else test

    @property
    def train_accuracy(self) -> float | None:
        """That share of the samples that it has learnt from, for what chooses without other samples; else None."""
        found: float | None = self.result.results.get("train_accuracy")
        return found


class Stages:
    """Carries stages out, one after the other, and adds up what they cost."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.ledger = Ledger()
        self.done: list[Outcome] = []

    def carry_out(self, stage: Stage) -> Outcome:
        """Train a stage, go on with it, or read it back where it is finished.

        Where the setting has a folder of shared trainings, it is one of these, made by one process at a time.
        Raises: Stopped: after a signal. ResumeError: where its folder holds another training.
        """
        setting, outer = self.setting, self.setting.run
        outer.pause()
        title = f"{len(self.done) + 1:02d}-{stage.title}"
        stage.recipe.check_batches(stage.model.to(setting.device), len(stage.data.train), outer.world.size)
        config, seed = stage.configuration(), stage.recipe.seed
        place = None if outer.place is None else outer.place / STAGES / title
        turn: AbstractContextManager[None] = nullcontext()
        if setting.shared is not None:
            place = setting.shared / key_of(config)
            turn = alone(place, outer)
        options: dict[str, Any] = {"save_every": setting.save_every, "defaults": stage.recipe.defaults()}
        with turn, Run(place, config, seed=seed, world=outer.world, **options) as run:
            run.listener, run.stopping = self.listener(title), outer.stopping
            if run.results is not None and place is not None:
                lay_out(stage.recipe, stage.model, stage.data.train)  # what reads it later rounds as after the training
                result = recall(place, run, stage.model, stage.data)
                found, costs = outer.world.broadcast(read_back(place) if outer.world.first else ({}, {}))
            else:
                run.announce()
                result, found, costs = stage.begin(run, setting)
        for purpose, account in costs.items():
            self.ledger.charge(purpose, **account)  # type: ignore[arg-type]
        self.done.append(Outcome(stage, result, found))
        return self.done[-1]

    def listener(self, title: str) -> Callable[[dict[str, Any]], None] | None:
        """Return what hears of a stage: the run's own listener, told which stage speaks."""
        heard = self.setting.run.listener
        return None if heard is None else lambda line: heard({**line, "stage": title})


def read_back(folder: Path) -> tuple[dict[str, Any], Costs]:
    """Read what a finished stage found, and its costs."""
    return read_json(folder / FOUND), read_json(folder / LEDGER)["by_purpose"]
