"""`sartor select SELECTOR`: a coreset out of a finished run, a network or arrays, and a page that shows it."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sartor.cli.options import as_flags, command, differing, parse_options
from sartor.data.embeddings import read_embeddings
from sartor.data.opening import open_data
from sartor.errors import ConfigError, check_range
from sartor.memory import enough_memory
from sartor.models.build import build_model
from sartor.models.shapes import shape_of
from sartor.recipes.choosing import Choice, choose
from sartor.recipes.family import COMMON
from sartor.recipes.finished import Finished, load_into, load_weights, on_device, read_finished
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import check_fit, pick_device
from sartor.recipes.sources import Brought, Heard, Source, Trained
from sartor.registry import SELECTORS
from sartor.report.coreset import MARK, write_choice
from sartor.report.wording import brief_percent, flops, percent, seconds
from sartor.select.coreset_file import KIND, is_coreset
from sartor.select.from_file import share_for
from sartor.torchrun import refuse_company

IDLE = {
    "run": ("weights",),
    "embeddings": ("data", "root", "model", "weights", "head", "lr", "device", "batch_size", "workers"),
    "data": (),
    "data alone": ("head", "lr", "device", "batch_size", "workers"),
}
"""Options without effect, by what is chosen from."""


@dataclass(frozen=True, kw_only=True)
class Select:
    """What chooses, what it looks at, how many it chooses, and where they go."""

    selector: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SELECTOR")] = ""
    """What chooses, such as moderate or "el2n(keep=lowest)" (sartor list selectors)."""
    run: Path | None = None
    """A finished run: its network looks at its training data; what it held out stays out."""
    embeddings: Path | None = None
    """Arrays instead of a network: an .npz file, or a folder of .npy files, with logits, features, targets, ids."""
    data: str | None = None
    """Data set, or a folder or file, with --model and --weights; or where the data of --run are now."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str | None = None
    """Network of --weights, or what makes that of --run, if its own name does not: package.module:factory."""
    weights: Path | None = None
    """Trained weights of --model, a .safetensors file."""
    head: str | None = None
    """Name of the classifier, the Linear that makes the logits; if not given, the run's, or the last Linear."""
    lr: float | None = None
    """Learning rate, for selectors that look a step ahead; if not given, the run's."""
    k: int | None = None
    """Number of samples to choose."""
    fraction: float | None = None
    """Share of the samples to choose, instead of k."""
    out: Path = Path("coreset.csv")
    """The coreset: id, row, weight, score and label of each sample; what else is known goes into .json beside it."""
    page: Path | None = None
    """A page that shows the coreset; the name of the csv with .html, if not given."""
    overwrite: bool = False
    """Write even where a file of another kind stands."""
    seed: int = 0
    """Seed of what is drawn at random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int = 1
    """CPU threads of this process."""
    batch_size: int | None = None
    """Samples that go through the network at once; 128 on a CPU, 1024 elsewhere, if not given."""
    workers: int = 0
    """Processes that read streamed data ahead."""


def run(arguments: Sequence[str]) -> int:
    """Choose, write, say what was chosen."""
    refuse_company("sartor select", "start it without")
    options = parse_options(Select, arguments, prog="sartor select", description=about())
    check(options)
    torch.set_num_threads(options.threads)
    with enough_memory("lower --batch-size, or give --embeddings as a folder of .npy files, which stay on the disk."):
        source, recipe = open_source(options)
        with progress() as heard:
            sizes: dict[str, Any] = {"k": options.k, "fraction": options.fraction}
            choice = choose(options.selector, source, **sizes, seed=options.seed, heard=heard)
    commands = commands_for(options, choice, recipe)
    write_choice(choice, options.out, page_of(options), commands=commands)
    print("\n".join(summary(choice)))
    print(f"\n{options.out}\n{options.out.with_suffix('.json')}\n{page_of(options)}")
    for name, line in list(commands.items())[1:]:
        print(f"\n{name.lower()}:\n{line}")
    return 0


def about() -> str:
    """Return what `--help` says first: what the command does, and the selectors, a line each."""
    width = max(map(len, SELECTORS))
    lines = [f"  {name:<{width}}  {SELECTORS.describe(name)}" for name in SELECTORS]
    return "\n".join(
        [
            "Choose a coreset by a network that is trained already, and show it on a page. Selectors are:",
            "",
            *lines,
            "  package.module:NAME or file.py:NAME, your own",
        ]
    )


def check(options: Select) -> None:
    """Refuse what cannot be meant, before anything is read."""
    if not options.selector:
        raise ConfigError(f"name a selector: sartor select SELECTOR ...; known: {', '.join(SELECTORS)}.")
    SELECTORS.build(options.selector)
    if (options.k is None) == (options.fraction is None):
        raise ConfigError("say how many to choose: give --k or --fraction, one of them.")
    if options.fraction is not None:
        check_range("fraction", options.fraction, 0, 1, low_open=True)
    check_sources(options)
    check_range("threads", options.threads, 1, float("inf"), high_open=True)
    check_range("workers", options.workers, 0, float("inf"), high_open=True)
    if options.batch_size is not None:
        check_range("batch_size", options.batch_size, 1, float("inf"), high_open=True)
    if options.lr is not None:
        check_range("lr", options.lr, 0, float("inf"), low_open=True, high_open=True)
    if options.out.suffix != ".csv":
        raise ConfigError(f"out is {options.out}; it must end with .csv.")
    page, beside = page_of(options), options.out.with_suffix(".json")
    if page in (options.out, beside):
        raise ConfigError(f"page is {page}, where the coreset goes; name another file.")
    for path, ours in ((options.out, is_coreset), (beside, is_description), (page, is_page)):
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"the folder of {path} is not there; make it first.")
        if path.is_dir() or (path.exists() and not options.overwrite and not ours(path)):
            raise ConfigError(f"{path} is there and no coreset of sartor select; name another --out, or --overwrite.")


def check_sources(options: Select) -> None:
    """Refuse none, or more than one, of what can be chosen from; and options that have no effect on it."""
    kinds = [kind for kind in ("run", "embeddings") if getattr(options, kind) is not None]
    if len(kinds) == 2 or (not kinds and options.data is None):
        raise ConfigError("say what to choose from: give --run, --embeddings, or --data with --model and --weights.")
    if not kinds and (options.model is None) != (options.weights is None):
        raise ConfigError(
            "--model and --weights go together; give both, or neither for a selector that looks at nothing."
        )
    kind = kinds[0] if kinds else "data"
    idle = IDLE["data alone" if kind == "data" and options.model is None else kind]
    given = differing(options)
    for name in idle:
        if name in given:
            raise ConfigError(f"{name} has no effect on a choice from {kind}; leave it out.")
    needs = SELECTORS.build(options.selector).needs
    if options.lr is not None and "lr" not in needs:
        raise ConfigError(f"lr has no effect on {options.selector}; leave it out.")
    if options.head is not None and "features" not in needs:
        raise ConfigError(f"head has no effect on {options.selector}, which reads no features; leave it out.")


def page_of(options: Select) -> Path:
    """Return where the page goes."""
    return options.out.with_suffix(".html") if options.page is None else options.page


def is_description(path: Path) -> bool:
    """Tell whether a file is the JSON that stands beside a coreset."""
    return f'"kind": "{KIND}"' in path.read_text("utf-8", "replace")[:200]


def is_page(path: Path) -> bool:
    """Tell whether a file is the page of a coreset."""
    return MARK in path.read_text("utf-8", "replace")[:400]


def open_source(options: Select) -> tuple[Source, Recipe | None]:
    """Open what is chosen from; return with it the recipe of a run."""
    if options.embeddings is not None:
        return Brought(read_embeddings(options.embeddings), {"embeddings": str(options.embeddings)}), None
    device = pick_device(options.device)
    given: dict[str, Any] = {"batch_size": options.batch_size, "workers": options.workers, "device": device}
    root = None if options.root is None else str(options.root)
    if options.run is not None:
        found = read_finished(options.run, data=options.data, root=root, model=options.model)
        return from_run(found, options, given), found.recipe
    assert options.data is not None
    splits = open_data(options.data, root)
    pool, network = splits.train, None
    described: dict[str, Any] = {"data": options.data, "root": root}
    if options.model is not None and options.weights is not None:
        shape = shape_of(pool.inputs)
        network = build_model(options.model, classes=pool.classes or 0, input_shape=shape, seed=0)
        load_into(network, load_weights(options.weights), options.weights, options.model)
        check_fit(on_device(network, device, channels_last=len(shape) == 3), pool, pool.classes or 0)
        described |= {"model": options.model, "weights": str(options.weights)}
    return Trained(pool, described, network, lr=options.lr, head=options.head, **given), None


def from_run(found: Finished, options: Select, given: dict[str, Any]) -> Trained:
    """Make a source of a finished run."""
    pools, recipe = found.pools, found.recipe
    images = len(shape_of(pools.train.inputs)) == 3 and recipe.channels_last
    described: dict[str, Any] = {
        "run": str(found.folder),
        "recipe": recipe.name,
        "data": found.data,
        "root": found.root,
    }
    described |= {"model": found.spec, "holdout": recipe.holdout, "noise": recipe.noise, "run_seed": recipe.seed}
    return Trained(
        pools.train,
        described | {"test_accuracy": found.results.get("test_accuracy")},
        on_device(found.model, given["device"], channels_last=images),
        validation=pools.validation,
        history=found.history,
        lr=recipe.lr if options.lr is None else options.lr,
        progress=1.0,
        head=options.head or getattr(recipe, "head", None),
        densities=found.densities,
        precision=recipe.scoring,
        channels_last=recipe.channels_last,
        **given,
    )


def commands_for(options: Select, choice: Choice, recipe: Recipe | None) -> dict[str, str]:
    """Return the command that makes the same choice and, of a run, the one that trains on it as the run was trained."""
    rest = differing(options, leave_out=("selector", "overwrite"))
    commands = {"Choose it again": shlex.join(["sartor", "select", options.selector, *as_flags(rest)])}
    if recipe is None:
        return commands
    common = [field for field in dataclasses.fields(recipe) if field.name in COMMON]
    trained = {f.name: getattr(recipe, f.name) for f in common if getattr(recipe, f.name) != f.default}
    where = {name: choice.source.described[name] for name in ("data", "root", "model")}
    out = str(options.out)
    path = out if re.fullmatch(r"[A-Za-z_][\w.+-]*", out) else repr(out)
    own = {"sampler": f"file(path={path})", "fraction": share_for(len(choice.subset), len(choice.rows)), "warmup": 0}
    given = {name: value for name, value in where.items() if value is not None} | trained | own
    return commands | {"Train on it as the run did": command("sartor train dense", given)}


@contextmanager
def progress() -> Iterator[Heard]:
    """Show on a terminal how many samples have gone through the network; yield what is told of them."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("samples looked at", total=None)
        yield lambda count: bars.advance(task, count)


def summary(choice: Choice) -> list[str]:
    """Return what was chosen, in a few lines."""
    n, k, weights = len(choice.rows), len(choice.subset), choice.subset.weights
    low, high = float(weights.min()), float(weights.max())
    lines = [f"{choice.spec} chose {k:,} of {n:,} samples ({percent(k / n)})"]
    if high - low > 1e-6:
        lines.append(f"weights from {low:.2g} to {high:.3g}, mean 1: worth {choice.effective:,.0f} equal ones")
    if choice.wrong is not None:
        ratios = [brief_percent(float(part.double().mean())) for part in (choice.wrong[choice.chosen], choice.wrong)]
        lines.append(f"wrong labels: {ratios[0]} of the chosen, {ratios[1]} of all")
    if choice.targets is not None:
        empty = len(choice.targets.unique()) - len(choice.targets[choice.chosen].unique())
        lines += [f"nothing was chosen of {empty} classes"] if empty else []
    costs = choice.ledger.by_purpose()
    spent = [f"{seconds(costs[name]['seconds'])} and {flops(costs[name]['flops'])}" for name in ("scan", "select")]
    return [*lines, f"{spent[0]} to look at them, {spent[1]} to choose"]
