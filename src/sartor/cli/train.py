"""`sartor train RECIPE`: one network, one recipe, one folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from sartor.cli.display import epoch_line, forecast_lines, printed_by
from sartor.cli.options import command, differing, parse_options, take_option
from sartor.comparison import load
from sartor.dist import joined
from sartor.errors import ConfigError, check_range
from sartor.recipes.family import arm_folder
from sartor.recipes.forecaster import Forecaster, model_for
from sartor.recipes.presets import PRESETS
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import prepare_data
from sartor.registry import RECIPES


@dataclass(frozen=True, kw_only=True)
class Where:
    """On what to train, and where to keep it."""

    data: str = "digits"
    """Data set (sartor list datasets), or a folder of pictures, a .csv, .jsonl or .npz file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "cnn"
    """Network, with options: cnn(width=16), timm:NAME, torchvision:NAME; your own as package.module:factory or
    file.py:factory (sartor list models)."""
    out: Path | None = None
    """Run folder, runs/RECIPE-DATA-SEED if not given; the same command and folder go on where a run stopped."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int = 1
    """CPU threads of this process."""
    workers: int = 0
    """Processes that read streamed data ahead; their number changes no result."""
    save_every: float = 60.0
    """Seconds between two checkpoints."""
    dry_run: bool = False
    """Print what the run would cost, and stop."""


def run(arguments: Sequence[str]) -> int:
    """Train in this process, or in all that torchrun started, of which the first one prints."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: sartor train RECIPE [OPTIONS]; RECIPE is {' or '.join(RECIPES)}; each has its own --help")
        return 0
    with joined() as world, printed_by(world):
        return train(*parse(arguments))


def parse(arguments: Sequence[str]) -> tuple[Where, Recipe]:
    """Parse the flags of one recipe; a preset alone names its recipe."""
    if not arguments or arguments[0].startswith("-"):
        preset = take_option(arguments, "--preset", "name")[1]
        if preset is None:
            raise ConfigError(f"name a recipe first: sartor train RECIPE ...; known: {', '.join(RECIPES)}.")
        arguments = [PRESETS[preset].recipe, *arguments]
    name = arguments[0]
    kind: Any = RECIPES[name]
    nested = ("recipe", tyro.conf.OmitArgPrefixes[kind], field(default_factory=kind))  # type: ignore[misc]
    options = dataclasses.make_dataclass("Train", [nested], bases=(Where,), frozen=True, kw_only=True)
    about: dict[str, Any] = {"prog": f"sartor train {name}", "description": RECIPES.describe(name)}
    parsed: Any = parse_options(options, arguments[1:], **about, recipe=name)
    return parsed, parsed.recipe


def train(where: Where, recipe: Recipe) -> int:
    """Train, printing a line an epoch and the results; or print the forecast only."""
    check_range("threads", where.threads, 1, float("inf"), high_open=True)
    check_range("save_every", where.save_every, 0, float("inf"))
    check_range("workers", where.workers, 0, float("inf"), high_open=True)
    torch.set_num_threads(where.threads)
    root = None if where.root is None else str(where.root)
    splits = load(where.data, root)
    out = where.out or Path("runs") / f"{recipe.name}-{arm_folder(where.data)}-{recipe.seed}"
    model = model_for(splits, where.model, recipe.seed)
    if where.dry_run:
        recipe.check_data(model, prepare_data(recipe, splits.train, splits.test, splits.augment))
        forecaster = Forecaster(splits, where.model)
        print("\n".join(forecast_lines(forecaster(recipe), forecaster.seconds_per_sample(recipe))))
        return 0
    again = repeat(recipe, where, out)
    print(f"{again}\n")
    started, finished = time.monotonic(), (out / "results.json").exists()
    result = recipe.fit(
        model,
        splits.train,
        splits.test,
        out=out,
        device=where.device,
        augment=splits.augment,
        save_every=where.save_every,
        workers=where.workers,
        labels={"data": where.data, "model": where.model, "command": again},
        listener=lambda line: print(epoch_line(line, time.monotonic() - started), flush=True),
    )
    results = result.results
    if finished:
        print(f"{out} holds a finished run, which was read back")
    print(
        f"\ntest accuracy {100 * results['test_accuracy']:.2f} % after {results['steps']} steps, "
        f"{results['flops']:.3g} FLOPs, {results['seconds']:.1f} s; "
        f"{results['kept_weights']:,} of {results['parameters']:,} weights kept\n{out}"
    )
    return 0


def repeat(recipe: Recipe, where: Where, out: Path) -> str:
    """Return the one command that repeats a run."""
    places = differing(where, leave_out=("recipe", "out", "dry_run"))
    return command(f"sartor train {recipe.name}", places | differing(recipe) | {"out": out})
