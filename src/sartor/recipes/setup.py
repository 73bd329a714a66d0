"""From what the user gives to what a recipe trains: pools cut and corrupted, a trainer with its costs counted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sartor.costs import Flops, Ledger, count_flops
from sartor.data.arrays import named_tensors, not_finite
from sartor.data.at_hand import as_pool
from sartor.data.augment import Augment
from sartor.data.loader import Loader, check_workers
from sartor.data.noise import corrupt
from sartor.data.pool import Pool
from sartor.data.split import hold_out
from sartor.errors import ConfigError, DataError, SartorError, check_effects
from sartor.history import History
from sartor.memory import shortage
from sartor.models.shapes import shape_of
from sartor.precision import arithmetic, gains, has_bf16, pick_precision
from sartor.prune.masks import Masks
from sartor.recipes.masking import PURPOSE, first_cost, first_masks, samples_read
from sartor.recipes.optimizing import make_optimizer
from sartor.recipes.timetable import count_steps
from sartor.recording import Recorder
from sartor.run import Run
from sartor.scanning import forward
from sartor.schedules import Schedule
from sartor.teacher import Teacher
from sartor.train import Trainer
from sartor.types import Pruner
from sartor.undisturbed import undisturbed
from sartor.version import __version__

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe

AUGMENTS = {
    "none": Augment(),
    "crop": Augment(crop=4),
    "flip": Augment(flip=True),
    "crop+flip": Augment(crop=4, flip=True),
    "alternate": Augment(flip=True, alternate=True),
    "crop+alternate": Augment(crop=4, flip=True, alternate=True),
}


@dataclass(frozen=True)
class Data:
    """What a recipe learns from and is watched on; `train` may hold wrong labels, the others do not."""

    train: Pool
    validation: Pool | None
    test: Pool | None
    augment: Augment


@dataclass(frozen=True, eq=False)
class Setting:
    """In what a recipe is carried out: the run, the user's network, the data, and where the work is done.

    `labels` are written into the results as they are; `beginning` is the digest of the network's first weights;
    `shared` is the folder of trainings that are also those of other runs.
    """

    run: Run
    model: nn.Module
    data: Data
    device: torch.device
    workers: int
    save_every: float
    labels: dict[str, Any]
    beginning: str
    shared: Path | None = None


def prepare_data(recipe: Recipe, train: object, test: object | None, augment: Augment | None = None) -> Data:
    """Make pools of whatever was given, cut the hold-out first, then make labels wrong as asked.

    Raises: ConfigError: for a noise_kind without noise. DataError: where training samples have no label, or train and
        test disagree about classes.
    """
    check_effects(recipe, {"noise": (recipe.noise > 0, ("noise_kind",))})  # here, for comparisons vary the noise
    pool = as_pool(train)
    if len(pool.labelled_rows()) < len(pool):
        missing = pool.ids_of(pool.rows[(pool.targets_of(pool.rows) < 0)][:3]) if pool.targets is not None else []
        which = f", among them {', '.join(missing)}" if missing else ""
        raise DataError(
            f"{len(pool) - len(pool.labelled_rows())} of {len(pool)} training samples have no label{which}; "
            "training needs all of them. Keep the labelled ones with pool.only(pool.labelled_rows())."
        )
    check_finite(pool, "training")
    kept, validation = hold_out(pool, recipe.holdout, seed=recipe.seed)
    if recipe.noise:
        kept = corrupt(kept, recipe.noise, seed=recipe.seed, kind=recipe.noise_kind)
    test_pool = None if test is None else test_like(pool, test)
    return Data(kept, validation, test_pool, pick_augment(recipe.augment, augment or Augment()))


def check_finite(pool: Pool, what: str) -> None:
    """Raise DataError for samples in memory that hold a NaN or an infinity; streamed ones are looked at in training."""
    if pool.streamed or not any(tensor.is_floating_point() for _, tensor in named_tensors(pool.inputs)):
        return
    for rows in pool.rows.split(4096):
        bad = rows[not_finite(pool.gather(rows))]
        if len(bad):
            names = ", ".join(pool.ids_of(bad[:3])) + (", ..." if len(bad) > 3 else "")
            raise DataError(f"the inputs of {what} samples {names} are not finite; mend them or leave them out.")


def check_reading(data: Data, workers: int) -> None:
    """Raise ConfigError for fewer than 0 workers; warn where they have nothing to read."""
    check_workers(workers)
    if workers and not any(pool.streamed for pool in (data.train, data.test) if pool is not None):
        warnings.warn("workers has no effect: the data are in memory.", stacklevel=3)


def pick_augment(name: str, own: Augment) -> Augment:
    """Return the augmentation of that name; `own` is the data set's, whose flips alternate for auto+alternate."""
    if name == "auto+alternate":
        return replace(own, alternate=own.flip)
    return own if name == "auto" else AUGMENTS[name]


def test_like(train: Pool, test: object) -> Pool:
    """Make a pool of the test data, read as the training data are. Raises: DataError: for other classes."""
    pool = test if isinstance(test, Pool) else as_pool(test, preprocess=train.preprocess, classes=train.classes)
    unlabelled = len(pool) - len(pool.labelled_rows())
    if unlabelled:
        raise DataError(f"{unlabelled} of {len(pool)} test samples have no label; keep those that have one.")
    check_finite(pool, "test")
    if pool.classes != train.classes:
        raise DataError(f"the test data have {pool.classes} classes, the training data {train.classes}; give the same.")
    pairs = enumerate(zip(train.class_names or (), pool.class_names or ()))  # none where either has no names
    differing = [(number, *names) for number, names in pairs if names[0] != names[1]]
    if differing:
        number, own, other = differing[0]
        raise DataError(
            f"class {number} is {own!r} in the training data and {other!r} in the test data; give both the same "
            "class_names in the same order."
        )
    return pool


def pick_device(device: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1`, `mps` into a device. Raises: ConfigError: when it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used here ({reason}); use auto or cpu.") from error
    return torch.device(device)


def check_model(model: nn.Module, data: Data) -> None:
    """Raise ConfigError unless the model is float32 and makes a logit for each class; it stays as it was."""
    kinds = {str(p.dtype) for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32}
    if kinds:
        raise ConfigError(f"the model has parameters of {', '.join(sorted(kinds))}; call model.float() first.")
    for pool in filter(None, (data.train, data.validation, data.test)):
        check_fit(model, pool, data.train.classes or 0)


def check_fit(model: nn.Module, pool: Pool, classes: int) -> None:
    """Raise ConfigError unless the model takes the pool's samples and makes a logit for each class."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = pool.gather(pool.rows[:1], device=device)
    try:
        with undisturbed(model):
            logits = forward(model, inputs)
    except Exception as error:
        if isinstance(error, SartorError) or shortage(error) is not None:
            raise
        name, reason = pool.ids[int(pool.rows[0])], (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        found = f"sample {name!r}, {shape_of(inputs)}"
        whole = isinstance(inputs, Tensor) and inputs.dtype == torch.int64
        cure = "measurements are given as float32, for whole numbers stay such" if whole else "it must fit the data"
        raise ConfigError(f"the model cannot take {found} ({reason}); {cure}.") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < classes:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"the model makes {shape} of one sample; it must make logits, (1, {classes}).")


def check_arithmetic(recipe: Recipe, model: nn.Module, pool: Pool) -> None:
    """Raise ConfigError for a model that cannot be run in the precisions of the recipe though it can in float32."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = pool.gather(pool.rows[:1], device=device)
    gaining = gains(model, count_flops(model, inputs))
    for option in ("precision", "scoring"):
        if pick_precision(getattr(recipe, option), device, gaining) == "bf16":
            try:
                with undisturbed(model), arithmetic("bf16", device):
                    forward(model, inputs)
            except RuntimeError as error:
                if shortage(error) is not None:
                    raise
                reason = str(error).splitlines()[0].rstrip(".")
                raise ConfigError(
                    f"the model cannot be run in bf16 ({reason}); use --precision fp32 --scoring fp32."
                ) from error


def note_machine(run: Run, device: torch.device) -> None:
    """Warn where a run goes on with other threads, processes, device or versions than it began with."""
    here: dict[str, Any] = {"device": str(device), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    here |= {"sartor": __version__, "bf16": has_bf16(device), "processes": run.world.size}
    there = run.once("machine", lambda: here, save=False)
    run.write("machine.json", there)
    if there != here:
        changed = ", ".join(
            f"{name} {there.get(name)} -> {here[name]}" for name in here if there.get(name) != here[name]
        )
        warnings.warn(
            f"this run began elsewhere ({changed}); its last bits may differ from an unbroken run.", stacklevel=2
        )


def note_beginning(there: str, here: str) -> None:
    """Warn where a run is given a network with other weights than it began with: those of the run are used."""
    if there != here:
        warnings.warn(
            "the network that was given has other weights than the one that this run began with; the run goes by its "
            "own. For another training, name another folder.",
            stacklevel=2,
        )


def begin_masks(
    recipe: Recipe, pruner: Pruner, run: Run, model: nn.Module, data: Data, flops: Flops, ledger: Ledger
) -> Masks:
    """Make the first masks; where they come of samples, that is charged, and all processes take those of the first."""
    if not samples_read(pruner):
        return first_masks(recipe, pruner, model, None)
    with ledger.timed(PURPOSE):
        masks = first_masks(recipe, pruner, model, data.train)
    passed, cost = first_cost(pruner, flops, len(data.train))
    ledger.charge(PURPOSE, trained=passed, flops=cost)
    masks.load_state_dict(run.world.broadcast(masks.state_dict()))
    run.world.share(model.state_dict().values())
    return masks


def lay_out(recipe: Recipe, model: nn.Module, pool: Pool) -> bool:
    """Keep a network's convolutions channels last, in place, where the recipe has it so; tell whether it has."""
    channels_last = recipe.channels_last and isinstance(pool.inputs, Tensor) and pool.inputs.ndim == 4
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return channels_last


def prepare_trainer(
    recipe: Recipe,
    run: Run,
    model: nn.Module,
    data: Data,
    device: torch.device,
    workers: int = 0,
    *,
    masks: Masks | None = None,
    teacher: Teacher | None = None,
) -> Trainer:
    """Lay out the model, count its FLOPs, draw the masks, make the optimiser, and track all of it in the run.

    `masks` are those of the model that are given already, where no pruner makes them; `teacher` is who teaches it.
    """
    channels_last = lay_out(recipe, model, data.train)
    example = data.train.gather(data.train.rows[:1], device=device)
    flops = count_flops(model, example)
    gaining = gains(model, flops)
    run.world.share(model.state_dict().values())
    optimizer = make_optimizer(recipe, model)
    slots = recipe.timetable(len(data.train))
    steps = count_steps(slots, recipe.batch_size)
    pruner, ledger = recipe.make_pruner(), Ledger()
    if pruner is not None:
        masks = begin_masks(recipe, pruner, run, model, data, flops, ledger)
    if masks is not None:
        masks = masks.attach(optimizer)
    run.track("model", model)
    if masks is not None:
        run.track("masks", masks)
    run.track("optimizer", optimizer)
    recorder = None
    if recipe.recording != "none":
        recorder = Recorder(run.track("history", History(data.train.rows)), recipe.recording, run.world)
    trainer = Trainer(
        run=run,
        model=model,
        optimizer=optimizer,
        loader=Loader(
            data.train,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            augment=data.augment,
            device=device,
            channels_last=channels_last,
            workers=workers,
            world=run.world,
        ),
        flops=flops,
        ledger=run.track("ledger", ledger),
        total_steps=steps,
        device=device,
        lr=recipe.lr,
        schedule=Schedule(
            recipe.schedule, epochs=len(slots), steps=steps, peak_at=recipe.peak_at, shape=recipe.steps_shape
        ),
        label_smoothing=recipe.label_smoothing,
        pruner=pruner,
        masks=masks,
        weighting=recipe.weighting,
        precision=pick_precision(recipe.precision, device, gaining),
        scoring=pick_precision(recipe.scoring, device, gaining),
        recorder=recorder,
        planned=[slot.steps(recipe.batch_size) for slot in slots] if recipe.bounded else (),
        teacher=None if teacher is None else run.track("teacher", teacher),
    )
    return run.track("trainer", trainer)
