"""What every recipe shares: its options, checked once, and the way from data to results."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from torch import nn

from sartor.data.augment import Augment
from sartor.data.loader import even_sizes
from sartor.digest import digest
from sartor.dist import World, joined
from sartor.errors import ConfigError, check_choice, check_kind, check_range
from sartor.losses import WEIGHTINGS
from sartor.memory import enough_memory
from sartor.precision import PRECISIONS
from sartor.recipes.optimizing import check_norms
from sartor.recipes.outcome import Result, Watch, conclude, model_summary, pool_summary, recall
from sartor.recipes.settling import settle
from sartor.recipes.setup import (
    AUGMENTS,
    Data,
    Setting,
    check_arithmetic,
    check_model,
    check_reading,
    note_beginning,
    note_machine,
    pick_device,
    prepare_data,
    prepare_trainer,
)
from sartor.recipes.timetable import Lessons, Looks, Slot
from sartor.recipes.training import training_options
from sartor.recording import RECORDS
from sartor.run import Run
from sartor.schedules import SCHEDULES, STEPS, read_steps
from sartor.train import Trainer
from sartor.types import Pruner, Subset


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """The options that all recipes have; the defaults are those of SWaST for CIFAR (Sec. 4.1)."""

    name: ClassVar[str]

    epochs: int = 300
    """Epochs T, skipped ones included."""
    batch_size: int = 128
    """Samples in a mini-batch; an epoch is cut evenly into round(k / batch_size) of them."""
    lr: float = 0.05
    """Initial learning rate; for one-cycle, the highest."""
    schedule: Literal["cosine", "one-cycle", "constant", "steps"] = "cosine"
    """How the learning rate moves: down by a cosine, epoch by epoch; up and down by two lines, step by step; not at
    all; or by the steps of steps_shape."""
    steps_shape: str = STEPS
    """Shape of schedule steps, EPOCHSxSHARE of lr one after the other, stretched or shortened to the epochs."""
    peak_at: float = 0.2
    """Share of the optimiser steps after which one-cycle is at its highest."""
    bias_lr: float = 1.0
    """Factor of the learning rate for the shifts of normalisation layers; their decay does not grow with it."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser; sgd is with Nesterov momentum."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 5e-4
    """Weight decay."""
    decay_norms: bool = True
    """Whether the scales and shifts of normalisation layers decay too."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes in the training loss; selectors and evaluations see none."""
    weighting: Literal["mean", "batch", "none"] = "mean"
    """How a subset's weights enter the loss: unbiased mean, normalised in each batch, or ignored."""
    augment: Literal["auto", "none", "crop", "flip", "crop+flip", "alternate", "crop+alternate", "auto+alternate"] = (
        "auto"
    )
    """Augmentation while training; auto is the data set's own; with alternate, an image is mirrored in every other
    epoch."""
    holdout: float = 0.1
    """Share of the training data cut off first, kept clean, and only watched (validation)."""
    noise: float = 0.0
    """Share of training labels that are made wrong; selectors are not told."""
    noise_kind: Literal["other", "any"] = "other"
    """A wrong label is any other class, or any class at all."""
    evaluate_every: int = 1
    """Epochs between two evaluations (test, validation, probe); the last epoch is always evaluated."""
    probe: int = 2000
    """Training samples, drawn once, whose loss is watched apart for right and wrong labels; 0 for none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the training passes; auto is bf16 where the hardware has it and the network is large enough to
    gain by it. Evaluations are always fp32."""
    scoring: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the passes that choose samples and store logits."""
    record: Literal["none", "batch", "epoch"] = "none"
    """Keep a history of every sample in the run folder: batch looks at mini-batches as they are trained, epoch at all
    training samples after each epoch, by a pass that is charged. What selects by the history has batch without it."""
    channels_last: bool = True
    """Keep images and convolution weights channels last: the same numbers up to rounding, faster."""
    seed: int = 0
    """Seed of everything random: initial weights, masks, order, noise, hold-out, selection."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ConfigError for an option out of range."""
        for field in dataclasses.fields(self):
            check_kind(field.name, getattr(self, field.name), field.default)
        for option in ("epochs", "batch_size", "evaluate_every"):
            check_range(option, getattr(self, option), 1, math.inf, high_open=True)
        check_range("lr", self.lr, 0, math.inf, low_open=True, high_open=True)
        check_range("momentum", self.momentum, 0, 1, high_open=True)
        if self.optimizer != "sgd" and self.momentum != Recipe.momentum:
            raise ConfigError(f"momentum is for sgd and has no effect with {self.optimizer}; leave it out.")
        if self.schedule != "one-cycle" and self.peak_at != Recipe.peak_at:
            raise ConfigError(
                f"peak_at is for schedule one-cycle and has no effect with {self.schedule}; leave it out."
            )
        read_steps(self.steps_shape)
        if self.schedule != "steps" and self.steps_shape != STEPS:
            raise ConfigError(
                f"steps_shape is for schedule steps and has no effect with {self.schedule}; leave it out."
            )
        check_range("weight_decay", self.weight_decay, 0, math.inf, high_open=True)
        if not self.decay_norms and self.weight_decay == 0:
            raise ConfigError("decay_norms has no effect where nothing decays; leave it out or give a weight_decay.")
        check_range("peak_at", self.peak_at, 0, 1, high_open=True)
        check_range("bias_lr", self.bias_lr, 0, math.inf, low_open=True, high_open=True)
        check_range("label_smoothing", self.label_smoothing, 0, 1, high_open=True)
        check_range("holdout", self.holdout, 0, 1, high_open=True)
        check_range("noise", self.noise, 0, 1, high_open=True)
        check_range("probe", self.probe, 0, math.inf, high_open=True)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("optimizer", self.optimizer, ("sgd", "adam", "adamw"))
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_choice("augment", self.augment, ("auto", *AUGMENTS, "auto+alternate"))
        check_choice("noise_kind", self.noise_kind, ("other", "any"))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("scoring", self.scoring, PRECISIONS)
        check_choice("record", self.record, RECORDS)

    @abstractmethod
    def timetable(self, n: int) -> list[Slot]:
        """Return what each epoch trains on, for a training pool of n samples."""

    def program(self, trainer: Trainer, data: Data, watch: Watch) -> Subset:
        """Train from the first epoch to the last; return the subset of the last one.

        A recipe of several trainings has none: it has a `carry_out` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither a program nor a carry_out of its own.")

    @property
    def fewest_epochs(self) -> int:
        """The smallest number of epochs that the other options allow."""
        return 1

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Raise an error for what could only fail later, before anything is written."""
        check_model(model, data)
        check_arithmetic(self, model, data.train)
        check_norms(self, model)
        self.check_batches(model, len(data.train))

    def check_batches(self, model: nn.Module, n: int, processes: int = 1) -> None:
        """Raise ConfigError where batch norm would train on one sample: a mini-batch, or a process' part of one."""
        if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            return
        sizes = {size for slot in self.timetable(n) if slot.size for size in even_sizes(slot.size, self.batch_size)}
        if any(1 in (size // processes, -(-size // processes)) for size in sizes):
            what, cure = "a mini-batch would hold one sample", "use more samples"
            if processes > 1:
                what, cure = "a process would have one sample of a mini-batch", "use larger batches or fewer processes"
            raise ConfigError(f"{what}, which batch norm cannot train on; {cure}.")

    def make_pruner(self) -> Pruner | None:
        """Make the pruner; None where the network stays dense."""
        return None

    def looks(self, n: int, *, held: int, size: int, done: int) -> Looks:
        """Count the samples that a selection passes through the network.

        `n` is the size of the training pool, `held` that of the hold-out, `size` that of the subset, `done` how many
        epochs have trained before it.
        """
        return Looks()

    def lessons(self, n: int) -> Lessons:
        """Count what a teacher of the network costs, for a training pool of n samples; most recipes have none."""
        return Lessons()

    @property
    def recording(self) -> str:
        """How the history is recorded: none, batch or epoch."""
        return self.record

    @property
    def bounded(self) -> bool:
        """Whether the timetable has the largest sizes that epochs may have, for the training itself settles them."""
        return False

    def purpose_of(self, slot: Slot, started: bool) -> str:
        """Name the ledger's purpose for an epoch's training; `started` = a subset has been drawn."""
        return "train"

    def lengthened(self, length: int) -> Self:
        """Return the same recipe of another length, for matching costs: with so many epochs."""
        return self.with_options(epochs=length)

    @classmethod
    def strong(cls, **options: Any) -> Self:
        """Make the recipe with the strong training (docs/training.md) for those of its options that are not given."""
        return cls(**{**training_options("strong"), **options})

    def refuse_weighting(self) -> None:
        """Raise ConfigError for a weighting, where no sample has a weight."""
        if self.weighting != Recipe.weighting:
            raise ConfigError("weighting has no effect on samples that all weigh the same, as these do; leave it out.")

    def with_options(self, **options: Any) -> Self:
        """Return the same recipe with other options."""
        return dataclasses.replace(self, **options)

    def fit(
        self,
        model: nn.Module,
        train: object,
        test: object | None = None,
        *,
        out: str | Path | None = None,
        device: str = "auto",
        augment: Augment | None = None,
        save_every: float = 60.0,
        labels: dict[str, Any] | None = None,
        listener: Callable[[dict[str, Any]], None] | None = None,
        stopping: Callable[[], bool] | None = None,
        workers: int = 0,
        shared: str | Path | None = None,
    ) -> Result:
        """Train `model` in place and return what came of it.

        The network comes back in eval mode. `train` and `test` are Pools, pairs (inputs, targets) of tensors or arrays,
        or map-style Datasets. With `out`, everything is kept in that folder, and the same call goes on where an
        interrupted one stopped, bit for bit. `augment` is what `augment="auto"` means; `labels` are written into the
        results as they are; `listener` is called with every line of the metrics, and where a run goes on first with one
        of the kind "continued"; when `stopping` says so, the run saves and stops as after a signal. `workers` processes
        read streamed data ahead; their number changes nothing. A recipe of several trainings keeps them in the
        folder `shared`, where runs that have the same one make it once; each is charged for it.
        Processes that torchrun started train it together (docs/two-processes.md); the first one calls the listener.
        Raises: SartorError: for data, options or a folder that do not fit; Stopped: after a signal.
        """
        cure = f"lower --batch-size (it is {self.batch_size}) or use a smaller --model; the last checkpoint is kept."
        with joined() as world, enough_memory(cure):
            data = prepare_data(self, train, test, augment)
            check_reading(data, workers)
            return self.fit_data(
                model,
                data,
                world,
                out=out,
                device=device,
                save_every=save_every,
                labels=labels,
                listener=listener,
                stopping=stopping,
                workers=workers,
                shared=shared,
            )

    def fit_data(
        self,
        model: nn.Module,
        data: Data,
        world: World,
        *,
        out: str | Path | None,
        device: str = "auto",
        save_every: float = 60.0,
        labels: dict[str, Any] | None = None,
        listener: Callable[[dict[str, Any]], None] | None = None,
        stopping: Callable[[], bool] | None = None,
        workers: int = 0,
        shared: str | Path | None = None,
        identity: Data | None = None,
    ) -> Result:
        """Do what `fit` does, with data that are prepared.

        `identity`: the data by which the folder knows its run again, where labels of `data` are still to come.
        """
        chosen = pick_device(world.place(device))
        self.check_data(model.to(chosen), data)
        self.check_batches(model, len(data.train), world.size)
        folder = None if out is None else Path(out)
        config = self.configuration(model, identity or data) | {"network": (labels or {}).get("model", "")}
        beginning = digest(model.state_dict())
        with Run(folder, config, seed=self.seed, save_every=save_every, world=world, defaults=self.defaults()) as run:
            run.listener, run.stopping = listener if world.first else None, stopping
            if run.results is not None and folder is not None:
                if beginning != run.results["digest"]["weights"]:  # which it has when it has just been trained here
                    note_beginning(run.results["digest"].get("beginning", beginning), beginning)
                return recall(folder, run, model, data)
            run.announce()
            note_machine(run, chosen)
            note_beginning(run.once("beginning", lambda: beginning, save=False), beginning)
            if data.train.noise is not None:
                run.write("noise.json", data.train.noise.to_json(data.train))
            known = {"format": 1, "recipe": self.name, "arm": self.name, "match": "epochs"}
            known |= {
                "seed": self.seed,
                "noise": self.noise,
                "data": "",
                "model": type(model).__name__,
                "command": "",
            }
            known |= labels or {}
            place = None if shared is None else Path(shared)
            return self.carry_out(Setting(run, model, data, chosen, workers, save_every, known, beginning, place))

    def carry_out(self, setting: Setting) -> Result:
        """Do all that the recipe is, in a run that has begun, and conclude it."""
        run, data = setting.run, setting.data
        trainer = prepare_trainer(self, run, setting.model, data, setting.device, setting.workers)
        watch = Watch(trainer, data, every=self.evaluate_every, probe=self.probe)
        subset = self.program(trainer, data, watch)
        settle(trainer, data, watch, subset, len(self.timetable(len(data.train))))
        return conclude(run, trainer, data, watch, subset, setting.labels, setting.beginning)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default of each option that has one."""
        options = dataclasses.fields(cls)
        return {option.name: option.default for option in options if option.default is not dataclasses.MISSING}

    def configuration(self, model: nn.Module, data: Data) -> dict[str, Any]:
        """Return all that decides the outcome of a run: options, data, the network's layers, not its machine."""
        return {
            "recipe": self.name,
            **dataclasses.asdict(self),
            **model_summary(model),
            "train": pool_summary(data.train),
            "validation": pool_summary(data.validation),
            "test": pool_summary(data.test),
            "augmentation": dataclasses.asdict(data.augment),
        }
