"""From what the user gives to what a recipe trains: pools cut and corrupted, a trainer with its costs counted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sartor.costs import Ledger, count_flops
from sartor.data.augment import Augment
from sartor.data.loader import Loader
from sartor.data.noise import corrupt
from sartor.data.pool import Pool, as_pool
from sartor.data.split import hold_out
from sartor.errors import ConfigError, DataError
from sartor.files import read_json
from sartor.precision import has_bf16, pick_precision
from sartor.recipes.timetable import count_steps
from sartor.run import Run
from sartor.scanning import forward, undisturbed
from sartor.train import Trainer

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe

AUGMENTS = {
    "none": Augment(),
    "crop": Augment(crop=4),
    "flip": Augment(flip=True),
    "crop+flip": Augment(crop=4, flip=True),
}


@dataclass(frozen=True)
class Data:
    """What a recipe learns from and is watched on; `train` may hold wrong labels, the others do not."""

    train: Pool
    validation: Pool | None
    test: Pool | None
    augment: Augment


def prepare_data(recipe: Recipe, train: object, test: object | None, augment: Augment | None = None) -> Data:
    """Make pools of whatever was given, cut the hold-out first, then make labels wrong as asked.

    Raises: DataError: where training samples have no label, or train and test disagree about classes.
    """
    pool = as_pool(train)
    if len(pool.labelled_rows()) < len(pool):
        missing = pool.ids_of(pool.rows[(pool.targets_of(pool.rows) < 0)][:3]) if pool.targets is not None else []
        which = f", among them {', '.join(missing)}" if missing else ""
        raise DataError(
            f"{len(pool) - len(pool.labelled_rows())} of {len(pool)} training samples have no label{which}; "
            "training needs all of them. Keep the labelled ones with pool.only(pool.labelled_rows())."
        )
    kept, validation = hold_out(pool, recipe.holdout, seed=recipe.seed)
    if recipe.noise:
        kept = corrupt(kept, recipe.noise, seed=recipe.seed, kind=recipe.noise_kind)
    test_pool = None if test is None else test_like(pool, test)
    chosen = (augment or Augment()) if recipe.augment == "auto" else AUGMENTS[recipe.augment]
    return Data(kept, validation, test_pool, chosen)


def test_like(train: Pool, test: object) -> Pool:
    """Make a pool of the test data, read as the training data are. Raises: DataError: for other classes or shapes."""
    pool = test if isinstance(test, Pool) else as_pool(test, preprocess=train.preprocess, classes=train.classes)
    unlabelled = len(pool) - len(pool.labelled_rows())
    if unlabelled:
        raise DataError(f"{unlabelled} of {len(pool)} test samples have no label; keep those that have one.")
    if pool.classes != train.classes:
        raise DataError(f"the test data have {pool.classes} classes, the training data {train.classes}; give the same.")
    return pool


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that the recipe names over all trainable parameters."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ConfigError("the model has no parameter that requires a gradient; there is nothing to train.")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trainable,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(trainable, lr=recipe.lr, weight_decay=recipe.weight_decay)


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
    classes, device = data.train.classes or 0, next(model.parameters()).device
    for pool in filter(None, (data.train, data.validation, data.test)):
        try:
            with undisturbed(model):
                logits = forward(model, pool.gather(pool.rows[:1], device=device))
        except Exception as error:
            name, reason = pool.ids[int(pool.rows[0])], str(error).splitlines()[0]
            raise ConfigError(f"the model cannot take sample {name!r} ({reason}); it must fit the data.") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < classes:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(f"the model makes {shape} of one sample; it must make logits, (1, {classes}).")


def note_machine(run: Run, device: torch.device) -> None:
    """Warn where a run goes on with other threads, device or torch than it began with: the last bits may differ."""
    here: dict[str, Any] = {"device": str(device), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    here["bf16"] = has_bf16(device)
    if run.folder is None or not run.goes_on:
        run.write("machine.json", here)
        return
    there = read_json(run.folder / "machine.json")
    if there != here:
        changed = ", ".join(
            f"{name} {there.get(name)} -> {here[name]}" for name in here if there.get(name) != here[name]
        )
        warnings.warn(
            f"this run began elsewhere ({changed}); its last bits may differ from an unbroken run.", stacklevel=2
        )


def prepare_trainer(recipe: Recipe, run: Run, model: nn.Module, data: Data, device: torch.device) -> Trainer:
    """Lay out the model, count its FLOPs, draw the masks, make the optimiser, and track all of it in the run."""
    inputs = data.train.inputs
    channels_last = recipe.channels_last and isinstance(inputs, Tensor) and inputs.ndim == 4
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    example = data.train.gather(data.train.rows[:1], device=device)
    flops = count_flops(model, example)
    optimizer = make_optimizer(recipe, model)
    pruner = recipe.make_pruner()
    masks = None if pruner is None else pruner.init(model, generator=run.generator("masks")).attach(optimizer)
    run.track("model", model)
    if masks is not None:
        run.track("masks", masks)
    run.track("optimizer", optimizer)
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
        ),
        flops=flops,
        ledger=run.track("ledger", Ledger()),
        total_steps=count_steps(recipe.timetable(len(data.train)), recipe.batch_size),
        device=device,
        lr=recipe.lr,
        pruner=pruner,
        masks=masks,
        weighting=recipe.weighting,
        precision=pick_precision(recipe.precision, device, flops.forward),
        scoring=pick_precision(recipe.scoring, device, flops.forward),
    )
    return run.track("trainer", trainer)
