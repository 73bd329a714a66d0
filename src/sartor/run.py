"""A run: one folder, one configuration, one seed; killed at any moment, it goes on bit for bit.

A program built on a Run has no state machine. It tracks what changes, loops over `run.epochs` and `run.steps`,
and when it is started again it replays to its place: finished epochs and steps are not yielded a second time.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch

from sartor import randomness
from sartor.dist import World
from sartor.errors import ResumeError, Stopped
from sartor.memory import shortage
from sartor.run_folder import RunFolder, Stand

ASKED = 1
"""Stands for `stopping` among the signals that stop a run; none of those has this number."""
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

    `config` says what is trained; a folder made with another configuration is refused. Options that it lacks, since it
    is older than they are, had their `defaults`. Use it as a context manager: inside, the first SIGINT or SIGTERM saves
    at the end of the step and raises Stopped, the second one quits at once. Of several processes of a `world` the first
    alone has the folder; the others get from it where the run stands. All stop after the same step, whichever got the
    signal; a second one is for torchrun.
    """

    def __init__(
        self,
        folder: Path | None,
        config: dict[str, Any],
        *,
        seed: int,
        save_every: float = 60.0,
        world: World | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.world = world or World()
        self.folder = folder if self.world.first else None
        self.place = folder
        self.seed = seed
        self.listener: Callable[[dict[str, Any]], None] | None = None
        self.stopping: Callable[[], bool] | None = None
        self._save_every = save_every
        self._tracked: dict[str, Tracked] = {}
        self._phase = ""
        self._stop_signal = 0
        self._handlers: dict[int, Any] = {}
        self.world.same("the configurations", lambda: json.dumps(config, sort_keys=True))
        self._disk = RunFolder(self.folder, config, defaults) if self.folder is not None else None
        stand = self._disk.open() if self._disk is not None else Stand()
        self._stand = Stand(**self.world.broadcast(vars(stand)))
        self._last_save = time.monotonic()

    def __enter__(self) -> Self:
        if self.place is not None:
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
        if self._disk is not None:
            self._disk.close()
        if self._stop_signal and kind is None:
            raise KeyboardInterrupt  # it came when nothing was left to save: it is for our caller

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl."""
        return self._stand.metrics

    @property
    def results(self) -> dict[str, Any] | None:
        """The results of a run that is finished, else None."""
        return self._stand.results

    @property
    def origin(self) -> str:
        """The checkpoint that this run goes on from; empty where it begins."""
        return self._stand.origin

    def generator(self, purpose: str, epoch: int = 0) -> torch.Generator:
        """Return a fresh generator that depends on (seed, purpose, epoch) only."""
        return randomness.generator(self.seed, purpose, epoch)

    def announce(self) -> None:
        """Tell the listener from which checkpoint the run goes on, if it does."""
        if self.origin and self.listener is not None:
            epoch, step = list(self._stand.places.values())[-1] if self._stand.places else (0, 0)
            self.listener({"kind": "continued", "checkpoint": self.origin, "epoch": epoch, "step": step})

    def track(self, name: str, thing: T) -> T:
        """Save `thing` with every checkpoint; where one is being continued, restore it now."""
        if name in self._stand.tracked:
            try:
                thing.load_state_dict(self._stand.tracked.pop(name))
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                if shortage(error) is not None:
                    raise
                reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else name}"
                raise ResumeError(
                    f"{self.origin} does not fit this program: {name} cannot be restored ({reason.rstrip('.:')}). Use "
                    "the code that it was written with, or another --out."
                ) from error
        self._tracked[name] = thing
        return thing

    def once(self, name: str, compute: Callable[[], Any], *, save: bool = True) -> Any:
        """Compute a value (tensors and plain values) the first time; read it back ever after.

        `save=False` leaves it to the next checkpoint, for a value that may be computed anew if there is none.
        """
        if name not in self._stand.values:
            self._stand.values[name] = self.world.broadcast(compute())
            if save:
                self.save()
        return self._stand.values[name]

    def epochs(self, count: int, phase: str) -> Iterator[int]:
        """Yield the epochs of a phase that are left; the state is saved when due and at the phase's end."""
        place = self._stand.places.setdefault(phase, [0, 0])
        while place[0] < count:
            self._phase = phase
            yield place[0]
            place[0], place[1] = place[0] + 1, 0
            self._save_if_due()
        self.save()

    @property
    def step(self) -> int:
        """Steps of the current epoch that are done: where a loader has to start."""
        return self._stand.places[self._phase][1]

    def steps(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield batches, counting each as done when the next is asked for."""
        place = self._stand.places[self._phase]
        for batch in batches:
            yield batch
            place[1] += 1
            self._save_if_due()

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        line = {"kind": kind, **values}
        self.metrics.append(line)
        if self._disk is not None:
            self._disk.append(line)
        if self.listener is not None:
            self.listener(line)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file (or bytes) of the run folder, atomically."""
        if self._disk is not None:
            self._disk.write(name, value)

    def save(self) -> None:
        """Save everything tracked, atomically; the checkpoint before it is kept as `previous.pt`."""
        self._last_save = time.monotonic()
        if self._disk is not None:
            states = {name: thing.state_dict() for name, thing in self._tracked.items()}
            self._disk.save(replace(self._stand, tracked=self._stand.tracked | states))

    def pause(self) -> None:
        """Save if it is time; where a signal or `stopping` asks for a stop, save and raise Stopped."""
        self._save_if_due()

    def finish(self, results: dict[str, Any]) -> None:
        """Write the sums of all files and, last of all, the results: a folder that holds them is finished."""
        self._stand.results = results
        if self._disk is not None:
            self._disk.finish(self.metrics, results)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal and self.world.size == 1:  # torchrun repeats a signal that all have got already
            raise KeyboardInterrupt
        self._stop_signal = number

    def _save_if_due(self) -> None:
        asked = self._stop_signal or (ASKED if self.stopping is not None and self.stopping() else 0)
        if asked := self.world.highest(asked):
            self.save()
            self.world.wait()
            by = "" if asked == ASKED else f" by {signal.Signals(asked).name}"
            raise Stopped(f"stopped{by}; the state is saved in {self.place}.")
        if self.folder is not None and time.monotonic() - self._last_save >= self._save_every:
            self.save()
