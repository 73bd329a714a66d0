"""A run: one folder, one configuration, one seed; killed at any moment, it goes on bit for bit.

A program built on a Run has no state machine. It tracks what changes, loops over `run.epochs` and `run.steps`,
and when it is started again it replays to its place: finished epochs and steps are not yielded a second time.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch
from filelock import FileLock, Timeout

from sartor import randomness
from sartor.errors import ResumeError, SartorError, Stopped
from sartor.files import read_json, write_atomic, write_json

FORMAT = 1
Item = TypeVar("Item")


class Tracked(Protocol):
    """Anything that can be saved and restored: a module, an optimiser, masks, a ledger."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take back what `state_dict` returned."""
        ...


T = TypeVar("T", bound=Tracked)


class Run:
    """A folder that holds one training, or no folder at all (then nothing is saved).

    `config` says what is trained; a folder made with another configuration is refused. Use it as a context manager:
    inside, the first SIGINT or SIGTERM saves at the end of the step and raises Stopped, the second one quits at once.
    """

    def __init__(self, folder: Path | None, config: dict[str, Any], *, seed: int, save_every: float = 60.0) -> None:
        self.folder = folder
        self.seed = seed
        self.metrics: list[dict[str, Any]] = []
        self.listener: Callable[[dict[str, Any]], None] | None = None
        self.stopping: Callable[[], bool] | None = None
        self._save_every = save_every
        self._tracked: dict[str, Tracked] = {}
        self._places: dict[str, list[int]] = {}
        self._values: dict[str, Any] = {}
        self._phase = ""
        self._stop_signal = 0
        self._handlers: dict[int, Any] = {}
        self._saved: dict[str, Any] = {}
        self._lock: FileLock | None = None
        if folder is not None:
            self._open(folder, json.loads(json.dumps(config)))
        self._last_save = time.monotonic()

    def __enter__(self) -> Self:
        if self.folder is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                try:
                    self._handlers[number] = signal.signal(number, self._on_signal)
                except ValueError:  # only the main thread may set handlers; elsewhere a signal acts as usual
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._lock is not None:
            self._lock.release()
        if self._stop_signal and kind is None:
            raise KeyboardInterrupt  # it came when nothing was left to save: it is for our caller

    def generator(self, purpose: str, epoch: int = 0) -> torch.Generator:
        """Return a fresh generator that depends on (seed, purpose, epoch) only."""
        return randomness.generator(self.seed, purpose, epoch)

    def track(self, name: str, thing: T) -> T:
        """Save `thing` with every checkpoint; where one is being continued, restore it now."""
        if name in self._saved:
            thing.load_state_dict(self._saved[name])
        self._tracked[name] = thing
        return thing

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute a value (tensors and plain values) the first time; read it back ever after."""
        if name not in self._values:
            self._values[name] = compute()
            self.save()
        return self._values[name]

    def epochs(self, count: int, phase: str) -> Iterator[int]:
        """Yield the epochs of a phase that are left; the state is saved when due and at the phase's end."""
        place = self._places.setdefault(phase, [0, 0])
        while place[0] < count:
            self._phase = phase
            yield place[0]
            place[0], place[1] = place[0] + 1, 0
            self._save_if_due()
        self.save()

    @property
    def step(self) -> int:
        """Steps of the current epoch that are done: where a loader has to start."""
        return self._places[self._phase][1]

    def steps(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield batches, counting each as done when the next is asked for."""
        place = self._places[self._phase]
        for batch in batches:
            yield batch
            place[1] += 1
            self._save_if_due()

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        line = {"kind": kind, **values}
        self.metrics.append(line)
        if self.folder is not None:
            text = json.dumps(line, allow_nan=False) + "\n"
            try:
                with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise SartorError(
                    f"{self.folder / 'metrics.jsonl'} cannot be written ({error.strerror}); the last checkpoint is "
                    "untouched. Free some space, then give the same command again."
                ) from error
        if self.listener is not None:
            self.listener(line)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file (or bytes) of the run folder, atomically."""
        if self.folder is None:
            return
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            write_atomic(path, value)
        else:
            write_json(path, value)

    def save(self) -> None:
        """Save everything tracked, atomically; the checkpoint before it is kept as `previous.pt`."""
        self._last_save = time.monotonic()
        if self.folder is None:
            return
        state = {
            "format": FORMAT,
            "tracked": self._saved | {name: thing.state_dict() for name, thing in self._tracked.items()},
            "places": self._places,
            "values": self._values,
            "metrics": len(self.metrics),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._sync_metrics(self.folder / "metrics.jsonl")
        last = self.folder / "checkpoints" / "last.pt"
        last.parent.mkdir(exist_ok=True)
        if last.exists():
            os.replace(last, last.with_name("previous.pt"))
        write_atomic(last, buffer.getvalue())

    @property
    def goes_on(self) -> bool:
        """Whether this run continues from a checkpoint."""
        return bool(self._saved or self._places or self._values)

    @property
    def results(self) -> dict[str, Any] | None:
        """The results of a run that is finished, else None."""
        path = None if self.folder is None else self.folder / "results.json"
        return read_json(path) if path is not None and path.exists() else None

    @staticmethod
    def _sync_metrics(path: Path) -> None:
        """Bring the lines to the disk before a checkpoint counts them."""
        if path.exists():
            with open(path, "rb") as file:
                os.fsync(file.fileno())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal:
            raise KeyboardInterrupt
        self._stop_signal = number

    def _save_if_due(self) -> None:
        if self._stop_signal or (self.stopping is not None and self.stopping()):
            self.save()
            by = f" by {signal.Signals(self._stop_signal).name}" if self._stop_signal else ""
            raise Stopped(f"stopped{by}; the state is saved in {self.folder}.")
        if self.folder is not None and time.monotonic() - self._last_save >= self._save_every:
            self.save()

    def _open(self, folder: Path, config: dict[str, Any]) -> None:
        kept = folder / "config.json"
        begun = (folder / "results.json").exists() or any((folder / "checkpoints").glob("*.pt"))
        if kept.exists() and begun:
            refuse_other_configuration(folder, read_json(kept), config)
            self._take(folder)
            self._restore(folder)
            return
        if folder.exists() and not kept.exists() and not is_empty(folder):
            raise ResumeError(f"{folder} exists and is no run folder; choose another --out or empty it.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SartorError(f"{folder} cannot be made ({error.strerror}); choose another --out.") from error
        self._take(folder)
        write_json(kept, config)
        (folder / "metrics.jsonl").unlink(missing_ok=True)

    def _take(self, folder: Path) -> None:
        """Take the folder for this process alone; the operating system gives it back however the process ends."""
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ResumeError(f"{folder} is in use by another process; wait for it, or use another --out.") from None

    def _restore(self, folder: Path) -> None:
        for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
            leftover.unlink(missing_ok=True)
        if (folder / "results.json").exists():
            path = folder / "metrics.jsonl"
            self.metrics = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
            return
        places = [folder / "checkpoints" / name for name in ("last.pt", "previous.pt")]
        state = next(filter(None, map(read_checkpoint, filter(Path.exists, places))), None)
        if state is None:
            raise ResumeError(f"no checkpoint in {folder / 'checkpoints'} can be read; use another --out.")
        self._saved, self._places, self._values = state["tracked"], state["places"], state["values"]
        self._cut_metrics(folder / "metrics.jsonl", state["metrics"])

    def _cut_metrics(self, path: Path, count: int) -> None:
        """Drop the lines that were logged after the checkpoint: they will be logged again."""
        lines = path.read_text(encoding="utf-8").splitlines()[:count] if path.exists() else []
        if len(lines) < count:
            raise ResumeError(
                f"{path} has {len(lines)} lines, the checkpoint knows of {count}; restore the file or use a new --out."
            )
        self.metrics = [json.loads(line) for line in lines]
        write_atomic(path, "".join(line + "\n" for line in lines))


def is_empty(folder: Path) -> bool:
    """Tell whether there is a folder with nothing in it but hidden files."""
    return folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; one that is damaged is named in a warning and counts as absent."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises many kinds for a damaged file
        warnings.warn(f"{path} is damaged ({type(error).__name__}); trying the checkpoint before it.", stacklevel=2)
        return None
    if state.get("format") != FORMAT:
        raise ResumeError(f"{path} has format {state.get('format')}; this version reads {FORMAT}. Use a new --out.")
    return state


def refuse_other_configuration(folder: Path, kept: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise ResumeError naming what differs between a folder's configuration and the one asked for."""
    differing = [key for key in {**kept, **asked} if kept.get(key) != asked.get(key)]
    if not differing:
        return
    what = "; ".join(f"{key} was {kept.get(key)!r}, is now {asked.get(key)!r}" for key in sorted(differing)[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise ResumeError(f"{folder} holds a run of another configuration: {what}{more}. Use another --out.")
