"""`sartor data get NAME`, `sartor data list`: data sets from their original addresses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from sartor.cli.options import parse_options
from sartor.data.download import Listener, get
from sartor.data.originals import OFFERS
from sartor.errors import ConfigError, nearest

USAGE = "usage: sartor data get NAME [--root DIR]\n       sartor data list [--root DIR]"


@dataclass(frozen=True, kw_only=True)
class Get:
    """Which data set to fetch, and where to."""

    name: tyro.conf.Positional[str] = ""
    """Data set to fetch (sartor data list)."""
    root: Path = Path("data")
    """Folder for the files; the one that training looks into, if not given."""


@dataclass(frozen=True, kw_only=True)
class List:
    """Where to look for what is there."""

    root: Path = Path("data")
    """Folder for the files; the one that training looks into, if not given."""


def run(arguments: Sequence[str]) -> int:
    """Run `get` or `list`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    action, rest = arguments[0], arguments[1:]
    if action == "get":
        about = "Fetch a data set from its original address, check it, and put it where --data NAME finds it."
        fetch(parse_options(Get, rest, prog="sartor data get", description=about))
    elif action == "list":
        about = "List the data sets that can be fetched."
        show(parse_options(List, rest, prog="sartor data list", description=about))
    else:
        hint = nearest(action, ("get", "list"))
        raise ConfigError(f"sartor data is given {action!r}; it must be get NAME, or list.{hint}")
    return 0


def fetch(options: Get) -> None:
    """Fetch one data set, showing how far it is."""
    if not options.name:
        raise ConfigError(f"name a data set: sartor data get NAME; known: {', '.join(OFFERS)}.")
    with progress(Console()) as heard:
        fetched = get(options.name, options.root, offers=OFFERS, heard=heard)
    flag = "" if options.root == Path("data") else f" --root {options.root}"
    told = "is there" if fetched else "was there already; nothing was fetched"
    print(f"{options.name} {told}: --data {options.name}{flag}")


def show(options: List) -> None:
    """Print name, size, address and state of what can be fetched."""
    for name, offer in OFFERS.items():
        missing = offer.missing(options.root)
        state = "there" if not missing else "not there" if len(missing) == len(offer.holds) else "in part"
        where = offer.files[0].address.rpartition("/")[0] if len(offer.files) > 1 else offer.files[0].address
        print(f"{name:<14} {megabytes(offer.size):>6} MB  {state:<9}  {where}")


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Listener]:
    """Yield what is told of the bytes that come: bars on a terminal, elsewhere a line now and then."""
    if not console.is_terminal:
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def heard(name: str, have: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=size)
            bars.update(tasks[name], completed=have)

        yield heard


@dataclass
class Lines:
    """A line for each file every so many seconds, and when it is whole."""

    every: float = 10.0
    begun: dict[str, tuple[float, int]] = field(default_factory=dict)
    told: float = 0.0

    def __call__(self, name: str, have: int, size: int) -> None:
        """Hear of bytes that came; the speed is that since the first ones."""
        now = time.monotonic()
        if name not in self.begun:
            self.begun[name], self.told = (now, have), now
        if now - self.told < self.every and have < size:
            return
        self.told = now
        since, first = self.begun[name]
        speed = max(0, have - first) / max(now - since, 1e-3)
        print(f"{name}: {megabytes(have)} of {megabytes(size)} MB, {megabytes(speed)} MB/s", flush=True)


def megabytes(count: float) -> str:
    """Return a number of bytes in millions."""
    return f"{count / 1e6:,.1f}"
