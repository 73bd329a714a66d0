"""`sartor inspect DATA`: what is in a data set, what may be wrong with it, and what training on it would cost."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from sartor.cli.findings import finding_lines, plan_lines
from sartor.cli.options import parse_options
from sartor.data.formats import Splits
from sartor.data.inspection import inspect
from sartor.data.opening import open_data
from sartor.data.survey import MixedSizes
from sartor.errors import ConfigError, SartorError, check_choice, check_range
from sartor.files import write_json
from sartor.recipes.arms import ARMS, make_arm
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import prepare_data
from sartor.recipes.swast import SWaST
from sartor.registry import parse
from sartor.scanning import FORWARD_PARTS, scan
from sartor.torchrun import refuse_company

_FLOAT = 4  # bytes of a number in a scan


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """What to look at, and which plans to price."""

    data: tyro.conf.Positional[str] = ""
    """Data set (sartor list datasets), or a folder of pictures, a .csv, .jsonl or .npz file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str | None = None
    """Network whose training is priced; if not given, cnn for images, vdcnn9 for texts, else fc."""
    arms: tuple[str, ...] = ("dense", "swast-cut")
    """Plans to price, arms of a comparison, such as "swast-cut(sparsity=0.5)"."""
    fraction: float = SWaST.fraction
    """Share of the training data in a coreset."""
    epochs: int = SWaST.epochs
    """Epochs of each plan."""
    every: int = SWaST.every
    """Epochs between two selections."""
    batch_size: int = SWaST.batch_size
    """Samples in a mini-batch."""
    json: Path | None = None
    """File for all that was found, every id included."""
    threads: int = 1
    """CPU threads of this process."""
    workers: int = 0
    """Processes that read streamed data ahead."""


@dataclass(frozen=True)
class Plan:
    """What an arm would cost on this data: FLOPs, also in epochs of dense training, seconds on this CPU.

    `table_bytes` are those of what a selection keeps of each sample: logits and features, 4 n (c + d).
    """

    arm: str
    epochs: int
    k: int
    selections: int
    flops: float
    dense_epochs: float
    seconds: float
    table_bytes: int


def run(arguments: Sequence[str]) -> int:
    """Look at all samples, price the plans, print both, write them as JSON if asked to."""
    refuse_company("sartor inspect", "start it without")
    about = "Tell what is in a data set, what may be wrong with it, and what training on it would cost."
    options = parse_options(Inspect, arguments, prog="sartor inspect", description=about)
    base = check(options)
    torch.set_num_threads(options.threads)
    splits = opened(options.data, None if options.root is None else str(options.root))
    plans, obstacle = priced(splits, options, base)
    with progress(len(splits.train) + len(splits.test)) as heard:
        found = inspect(splits, workers=options.workers, heard=heard)
    print("\n".join([*finding_lines(found), "", *plan_lines(plans, obstacle)]))
    if options.json is not None:
        plain = {"plans": [dataclasses.asdict(plan) for plan in plans], "obstacle": obstacle}
        write_json(options.json, {"format": 1, "data": options.data} | found.to_json() | plain)
        print(f"\n{options.json}")
    return 0


def opened(data: str, root: str | None) -> Splits:
    """Open a data set without what cannot be read; pictures of mixed sizes are brought to one, which is said."""
    try:
        return open_data(data, root, unreadable="skip")
    except MixedSizes as sizes:
        if sizes.cure is None:
            raise
        warnings.warn(f"{sizes} A training asks for that; below, they are looked at in this size.", stacklevel=2)
        return open_data(*sizes.cure, unreadable="skip")


def check(options: Inspect) -> SWaST:
    """Refuse what cannot be meant, before anything is read; return what the arms are made from."""
    if not options.data:
        raise ConfigError("name a data set, a folder or a file: sartor inspect DATA.")
    check_range("threads", options.threads, 1, float("inf"), high_open=True)
    check_range("workers", options.workers, 0, float("inf"), high_open=True)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise ConfigError(f"json is {options.json}, whose folder is not there; make it first.")
    base = SWaST(fraction=options.fraction, epochs=options.epochs, every=options.every, batch_size=options.batch_size)
    for arm in options.arms:
        check_choice("arm", parse(arm)[0], ARMS)
        make_arm(arm, base, n=10_000)
    return base


def priced(splits: Splits, options: Inspect, base: SWaST) -> tuple[list[Plan], str | None]:
    """Price the plans; where training would be refused, return none of them, and why.

    Raises: ConfigError: if a network was named that does not fit the data.
    """
    try:
        data = prepare_data(base, splits.train, splits.test, splits.augment)
        forecaster = Forecaster(splits, options.model or usual_model(splits))
        recipes = {arm: make_arm(arm, base, len(data.train)) for arm in options.arms}
        for recipe in recipes.values():
            recipe.check_data(forecaster.model, data)
        return make_plans(forecaster, recipes, make_arm("dense", base, len(data.train))), None
    except SartorError as error:
        if isinstance(error, ConfigError) and options.model is not None:
            raise
        return [], str(error)


def usual_model(splits: Splits) -> str:
    """Return the network that a data set gets if none is named. Raises: ConfigError: if a sample is many tensors."""
    inputs = splits.train.inputs
    if not isinstance(inputs, Tensor):
        raise ConfigError("a sample is more than one tensor; name a network that takes them with --model.")
    return "vdcnn9" if splits.name == "text" else "cnn" if inputs.ndim == 4 else "fc"


def make_plans(forecaster: Forecaster, recipes: dict[str, Recipe], dense: Recipe) -> list[Plan]:
    """Forecast each recipe; an epoch of `dense` is the unit of the others."""
    whole = forecaster(dense)
    seconds = forecaster.seconds_per_sample(dense)
    plans = []
    for arm, recipe in recipes.items():
        cost = forecaster(recipe)
        plans.append(
            Plan(
                arm=arm,
                epochs=cost.epochs,
                k=cost.k,
                selections=cost.selections,
                flops=cost.flops,
                dense_epochs=cost.flops / (whole.flops / whole.epochs),
                seconds=cost.seconds(seconds),
                table_bytes=cost.n * numbers_kept(forecaster, recipe) * _FLOAT,
            )
        )
    return plans


def numbers_kept(forecaster: Forecaster, recipe: Recipe) -> int:
    """Count the numbers that a selection's scan keeps of one sample; one is passed through the network."""
    selector = recipe.make_selector() if isinstance(recipe, SWaST) else None
    needs = frozenset() if selector is None else selector.needs & FORWARD_PARTS
    if not needs or not isinstance(recipe, SWaST):
        return 0
    if recipe.preserves != "none":
        needs |= {"logits"}
    train = forecaster.splits.train
    seen = scan(forecaster.model, train.only(train.rows[:1]), needs=needs, head=recipe.head, precision=recipe.scoring)
    return sum(seen.parts[part].shape[1] for part in needs)


@contextmanager
def progress(samples: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many samples have been looked at; yield what is told of them."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("samples", total=samples)
        yield lambda count: bars.advance(task, count)
