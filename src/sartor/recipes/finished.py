"""A finished run as it was: its recipe, its network with the trained weights, its data cut as they were cut."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sartor.data.opening import open_data
from sartor.data.pool import Pool
from sartor.digest import digest
from sartor.errors import ConfigError, DataError, ResumeError, SartorError
from sartor.files import changed, read_object, read_sums
from sartor.history import History
from sartor.models.build import build_model
from sartor.models.shapes import shape_of
from sartor.recipes.outcome import pool_summary
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import Data, prepare_data
from sartor.registry import RECIPES
from sartor.run_folder import CONFIG, RESULTS

WEIGHTS, MASKS, HISTORY = "model.safetensors", "masks.safetensors", "history.safetensors"


@dataclass(frozen=True, eq=False)
class Finished:
    """A run that was read back. `data`, `root` and `spec` are the names from which data and network were made again."""

    folder: Path
    recipe: Recipe
    results: dict[str, Any]
    model: nn.Module
    pools: Data
    data: str
    root: str | None
    spec: str

    @property
    def densities(self) -> dict[str, float]:
        """Share of the weights that live, by parameter; empty where nothing was pruned."""
        masks = load_weights(self.folder / MASKS) if (self.folder / MASKS).exists() else {}
        return {name: float(mask.double().mean()) for name, mask in masks.items()}

    @property
    def history(self) -> History | None:
        """Records of the training; None where none were kept."""
        path = self.folder / HISTORY
        return History.from_tables(load_weights(path)) if path.exists() else None


def read_finished(
    folder: Path, *, data: str | None = None, root: str | None = None, model: str | None = None
) -> Finished:
    """Read a finished run back; nothing in its folder is changed.

    `data`, `root` and `model` take the place of the names that the run was given, for data that were moved, say.
    Raises: ResumeError: for a folder without a finished run, or a damaged one. ConfigError: for a network that cannot
        be made by its name, or does not take the weights. DataError: for data that are not those of the run.
    """
    config, results = described(folder)
    recipe = rebuilt(folder, config)
    named, spec = data or str(results.get("data", "")), model or str(results.get("model", ""))
    if not named:
        raise ConfigError(
            f"{folder} does not name its data and network, for it was not made by a command; give --data and --model, "
            "or scan its network in Python (docs/how-to/own-loop.md)."
        )
    place = root if root is not None or data is not None else word_after("--root", str(results.get("command", "")))
    splits = open_data(named, place)
    pools = prepare_data(recipe, splits.train, None, splits.augment)
    check_pool(folder, "training", pools.train, config.get("train"))
    check_pool(folder, "held-out", pools.validation, config.get("validation"))
    try:
        shape = shape_of(splits.train.inputs)
        network = build_model(spec, classes=splits.train.classes or 0, input_shape=shape, seed=recipe.seed)
    except SartorError as error:
        raise ConfigError(
            f"the network of {folder} cannot be made again by its name {spec!r}: {str(error).rstrip('.')}. Name what "
            "makes it with --model, such as package.module:factory."
        ) from error
    state = load_weights(folder / WEIGHTS)
    if digest(state) != results.get("digest", {}).get("weights"):
        raise ResumeError(f"{folder / WEIGHTS} is not the one that {RESULTS} tells of; restore it from a copy.")
    load_into(network, state, folder / WEIGHTS, spec)
    return Finished(folder, recipe, results, network, pools, named, place, spec)


def described(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and results of a run. Raises: ResumeError: where it is not finished, or is damaged."""
    if not (folder / CONFIG).exists():
        raise ResumeError(f"{folder} is no run folder; name one that sartor train left.")
    if not (folder / RESULTS).exists():
        raise ResumeError(f"the run in {folder} is not finished; give its own command again to go on, then this one.")
    damaged = changed(folder, read_sums(folder), {CONFIG, RESULTS, WEIGHTS, MASKS, HISTORY})
    if damaged:
        raise ResumeError(f"{damaged[0]} in {folder} is damaged or missing; give the run's command again to mend it.")
    return read_object(folder / CONFIG), read_object(folder / RESULTS)


def rebuilt(folder: Path, config: dict[str, Any]) -> Recipe:
    """Make the recipe of a configuration again."""
    kind: Any = RECIPES[str(config.get("recipe"))]
    names = {field.name for field in dataclasses.fields(kind)}
    try:
        recipe: Recipe = kind(**{name: value for name, value in config.items() if name in names})
    except TypeError as error:
        raise ResumeError(f"{folder / CONFIG} cannot be read ({error}); restore it from a copy.") from error
    return recipe


def check_pool(folder: Path, what: str, pool: Pool | None, kept: dict[str, Any] | None) -> None:
    """Raise DataError unless the samples are those that the run had."""
    found = pool_summary(pool)
    if found != kept:
        sizes = [0 if summary is None else summary["size"] for summary in (found, kept)]
        how = f"{sizes[0]:,} samples, it had {sizes[1]:,}" if sizes[0] != sizes[1] else "as many, but others"
        raise DataError(f"the {what} data are not those of {folder} ({how}); name its own with --data and --root.")


def word_after(flag: str, command: str) -> str | None:
    """Return what follows a flag in a command; None where it is not there."""
    words = shlex.split(command)
    return words[words.index(flag) + 1] if flag in words[:-1] else None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors. Raises: DataError: where it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); name a file of weights in the safetensors format."
        ) from error


def load_into(network: nn.Module, state: dict[str, Tensor], path: Path, spec: str) -> None:
    """Give a network its weights, and put it in eval mode. Raises: ConfigError: where they do not fit."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise ConfigError(
            f"the weights in {path} do not fit {spec} ({reason}); name their network by --model."
        ) from error
    network.eval()


def on_device(network: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move a network, its convolutions channels last if asked for."""
    network.to(device)
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]
