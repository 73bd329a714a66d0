"""A real training that takes a third of a second, what it leaves, and what a test does to it."""

from __future__ import annotations

import functools
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sartor.data.formats import Splits, digits
from sartor.errors import SartorError
from sartor.models.build import build_model
from sartor.recipes import SWaST
from sartor.recipes.outcome import Result

RECIPE = SWaST(
    epochs=4,
    warmup=1,
    fraction=0.25,
    every=1,
    batch_size=16,
    selector="gradmatch",
    pruner="rigl(every=2)",
    noise=0.2,
    probe=20,
)
"""Fifteen steps; a selection before each of the last three epochs; masks that move at every other step."""
SELECTIONS = ("subsets/epoch-0001.json", "subsets/epoch-0002.json", "subsets/epoch-0003.json")


def covers(*faults: str) -> Callable[[Any], Any]:
    """Say which rows of docs/reliability.md a test stands behind; test_reliability_page.py compares the two."""
    assert all(isinstance(fault, str) for fault in faults)
    return lambda test: test


@functools.cache
def splits() -> Splits:
    """The first digits."""
    found = digits()
    train, test = found.train, found.test
    return Splits(found.name, train.only(train.rows[:160]), test.only(test.rows[:40]), found.augment)


def network(seed: int = 0) -> nn.Module:
    """A small network."""
    return build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=seed)


def fit(folder: Path | None, *, save_every: float = 0.0, recipe: SWaST = RECIPE, **options: Any) -> Result:
    """Train, or go on; the state is saved after every step."""
    data = splits()
    return recipe.fit(
        network(), data.train, data.test, out=folder, augment=data.augment, save_every=save_every, **options
    )


def outcome(folder: Path) -> dict[str, Any]:
    """All that has to be equal, bit for bit: weights, masks, subsets, metrics, costs but for seconds."""
    results = json.loads((folder / "results.json").read_text())
    found: dict[str, Any] = {"results": {k: v for k, v in results.items() if not k.startswith("seconds")}}
    names = ["config.json", "metrics.jsonl", "noise.json", "machine.json", "model.safetensors", "masks.safetensors"]
    names += [str(path.relative_to(folder)) for path in sorted(folder.glob("subsets/*.json"))]
    return found | {name: (folder / name).read_bytes() for name in names}


@functools.cache
def unbroken() -> dict[str, Any]:
    """What a run leaves that nothing has disturbed."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        fit(Path(place) / "run")
        return outcome(Path(place) / "run")


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked process; return its exit code, or the negative number of the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            warnings.simplefilter("ignore")
            work()
            code = 0
        except SartorError:
            code = 2
        except KeyboardInterrupt:
            code = 75
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stop_after(folder: Path, steps: int) -> None:
    """Leave a run that was killed so many steps after it began."""
    from sartor.run import Run

    def work() -> None:
        calls, original = [0], Run._save_if_due

        def counted(run: Run) -> None:
            calls[0] += 1
            original(run)
            if calls[0] == steps:
                os.kill(os.getpid(), signal.SIGKILL)

        Run._save_if_due = counted  # type: ignore[method-assign]
        fit(folder)

    assert in_child(work) == -signal.SIGKILL
    assert (folder / "checkpoints" / "last.pt").exists()


@contextmanager
def notes() -> Iterator[list[str]]:
    """Collect warnings as the lines that the command line prints."""
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: lines.append(str(message))
        yield lines


def one_line(error: BaseException) -> str:
    """The message of an error, which must be one line that ends with what to do."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def deterministic() -> None:
    """One thread, so that a run is the same bit for bit."""
    torch.set_num_threads(1)
