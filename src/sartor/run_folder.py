"""A run's folder on the disk: one process at a time, and found again whatever has happened to its files.

A checkpoint holds the whole run: configuration, state, metrics. Every other file can be made from it again, but for
the subsets of earlier selections; so what is damaged is named and mended, and the training goes on.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from sartor.errors import ResumeError
from sartor.files import (
    SUMS,
    changed,
    make_folder,
    read_object,
    read_sums,
    set_aside,
    sha256,
    to_json,
    write_atomic,
    write_sums,
    writing,
)
from sartor.memory import shortage

FORMAT = 2
CONFIG, METRICS, RESULTS = "config.json", "metrics.jsonl", "results.json"
CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/previous.pt")
TABLES = ("model.safetensors", "masks.safetensors", "history.safetensors")
MADE = (METRICS, RESULTS, SUMS, "machine.json", "noise.json", "ledger.json", *TABLES)
"""What a start from nothing clears away, beside the subsets: an earlier start may have left it."""
_KINDS = {"config": dict, "tracked": dict, "places": dict, "values": dict, "files": dict, "metrics": str}


@dataclass
class Stand:
    """Where a run stands: the states of what it tracks, its places, values and metrics, its results if it is done.

    `origin` is the checkpoint that it was read from; empty for a run that begins.
    """

    tracked: dict[str, Any] = field(default_factory=dict)
    places: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] | None = None
    origin: str = ""


class Damaged(Exception):
    """A file that is not what was written; its text says what is wrong with it."""


class RunFolder:
    """The folder of one run with one configuration; `open` it, write to it, `close` it.

    `defaults`: what an option is taken to have been where the folder was made before there was that option.
    """

    def __init__(self, path: Path, config: dict[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.config: dict[str, Any] = json.loads(json.dumps(config))
        self.defaults: dict[str, Any] = json.loads(json.dumps(dict(defaults or {})))
        self._sums: dict[str, str] = {}
        self._lock: FileLock | None = None

    def open(self) -> Stand:
        """Take the folder for this process alone and return where its run stands; a finished one is only read.

        Damaged files are named in warnings; what a checkpoint can mend is mended. Raises: ResumeError: for a folder of
        something else, of another configuration, in use, or past mending; nothing in it is changed then.
        """
        self._refuse_stranger()
        done = self._finished()
        if done is not None:
            return done
        make_folder(self.path)
        try:
            self._take()
            return self._finished() or (self._restored() if self._begun() else self._begin())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.release()

    def append(self, line: dict[str, Any]) -> None:
        """Append a line to the metrics."""
        with writing(self.path / METRICS), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(as_line(line))

    def write(self, name: str, value: Any) -> None:
        """Write a file of the folder: bytes as they are, anything else as JSON."""
        content = value if isinstance(value, bytes) else to_json(value)
        make_folder((self.path / name).parent)
        write_atomic(self.path / name, content)
        self._sums[name] = sha256(content)

    def save(self, stand: Stand) -> None:
        """Write a checkpoint; the one before it is kept."""
        state = {"format": FORMAT, "config": self.config, "files": self._sums}
        state |= {"tracked": stand.tracked, "places": stand.places, "values": stand.values}
        state["metrics"] = "".join(map(as_line, stand.metrics))
        buffer = io.BytesIO()
        torch.save(state, buffer)
        last, previous = (self.path / name for name in CHECKPOINTS)
        make_folder(last.parent)
        write_atomic(last, buffer.getvalue(), keep=previous)

    def finish(self, metrics: list[dict[str, Any]], results: dict[str, Any]) -> None:
        """Write the metrics whole, the sums of all files, and the results; then only one checkpoint is still needed."""
        lines, content = "".join(map(as_line, metrics)), to_json(results)
        write_atomic(self.path / METRICS, lines)
        known = {CONFIG: to_json(self.config), METRICS: lines, RESULTS: content}
        write_sums(self.path, self._sums | {name: sha256(text) for name, text in known.items()})
        write_atomic(self.path / RESULTS, content)
        last, previous = (self.path / name for name in CHECKPOINTS)
        if last.exists():
            with suppress(OSError):  # the run is finished whether or not this goes
                previous.unlink(missing_ok=True)

    def _begun(self) -> bool:
        """Tell whether there is something to go on from."""
        return any((self.path / name).exists() for name in (RESULTS, *CHECKPOINTS))

    def _refuse_stranger(self) -> None:
        """Raise ResumeError unless the folder is new or empty, or something in it says that it is a run's.

        Others write a config.json too, but no .lock beside it, and not this configuration into it.
        """
        kept, marked = (self.path / CONFIG).exists(), (self.path / ".lock").exists()
        empty = self.path.is_dir() and all(path.name.startswith(".") for path in self.path.iterdir())
        if self._begun():
            ours = kept or (self.path / SUMS).exists() or self._checkpoint()[0] is not None
        else:
            ours = kept and (marked or read_text(self.path / CONFIG) == to_json(self.config))
        if self.path.exists() and not empty and not ours:
            raise ResumeError(f"{self.path} exists and is no run folder; choose another --out or empty it.")

    def _take(self) -> None:
        """Lock the folder; the operating system gives it back however the process ends."""
        lock = FileLock(self.path / ".lock")
        with writing(self.path / ".lock"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise ResumeError(
                    f"{self.path} is in use by another process; wait for it, or use another --out."
                ) from None
        self._lock = lock

    def _begin(self) -> Stand:
        """Clear away what an earlier start left that did not come to a checkpoint."""
        self._clear(*(self.path / name for name in MADE), *self.path.glob("subsets/epoch-*.json"))
        write_atomic(self.path / CONFIG, to_json(self.config))
        return Stand()

    def _damaged(self) -> list[str]:
        """Return which files of a finished run are not as they were written; its sums where there are none."""
        sums = read_sums(self.path)
        return changed(self.path, sums) if sums else [SUMS]

    def _finished(self) -> Stand | None:
        """Read a finished run; None where there is none, or one that is damaged."""
        return None if not (self.path / RESULTS).exists() or self._damaged() else self._read()

    def _read(self) -> Stand:
        """Read configuration, metrics and results of a finished run."""
        refuse_other_configuration(self.path, read_object(self.path / CONFIG), self.config, self.defaults)
        return Stand(metrics=as_metrics(read_text(self.path / METRICS)), results=read_object(self.path / RESULTS))

    def _restored(self) -> Stand:
        """Go on from the newest checkpoint that is whole."""
        damaged = self._damaged() if (self.path / RESULTS).exists() else []
        try:
            state, origin, broken = self._checkpoint()
        except ResumeError:
            if damaged != [SUMS]:
                raise
            return self._unchecked(damaged, [])  # an earlier version finished it
        if state is None:
            return self._unchecked(damaged, broken)
        refuse_other_configuration(self.path, state["config"], self.config, self.defaults)
        for path, reason in broken:
            warnings.warn(f"{path} is damaged ({reason}); going on from {origin}.", stacklevel=4)
            set_aside(path)
        if damaged:
            what = f"{', '.join(damaged[:3])} of the finished run in {self.path}"
            warnings.warn(f"{what}: damaged or missing; made again from {origin}.", stacklevel=4)
        self._mend(state, origin)
        metrics = as_metrics(state["metrics"])
        return Stand(state["tracked"], state["places"], state["values"], metrics, None, str(origin))

    def _unchecked(self, damaged: list[str], broken: list[tuple[Path, str]]) -> Stand:
        """Where no checkpoint can be read: take a finished run that has no sums as it is; refuse anything else."""
        if damaged == [SUMS] and not broken:
            warnings.warn(f"{self.path} has no {SUMS}: its files are taken as they are, unchecked.", stacklevel=5)
            return self._read()
        if damaged:
            what = f"{', '.join(damaged[:3])} in {self.path}: damaged or missing, and there is no checkpoint to mend it"
            raise ResumeError(f"{what}; restore it from a copy, or delete {RESULTS} to train again.")
        what = "; ".join(f"{path}: {reason}" for path, reason in broken)
        raise ResumeError(
            f"no checkpoint can be read ({what}); restore one from a copy, or delete {self.path / 'checkpoints'} to "
            "train from the start."
        )

    def _checkpoint(self) -> tuple[dict[str, Any] | None, Path, list[tuple[Path, str]]]:
        """Return the newest checkpoint that is whole, where it was, and the damaged ones before it."""
        broken: list[tuple[Path, str]] = []
        for path in (self.path / name for name in CHECKPOINTS):
            if path.exists():
                try:
                    return read_checkpoint(path), path, broken
                except Damaged as damage:
                    broken.append((path, str(damage)))
        return None, self.path, broken

    def _mend(self, state: dict[str, Any], origin: Path) -> None:
        """Bring the folder to where the checkpoint stands."""
        self._clear(self.path / RESULTS, self.path / SUMS)
        for name, content in ((CONFIG, to_json(self.config)), (METRICS, state["metrics"])):
            there = read_text(self.path / name)
            if not there.startswith(content):
                warnings.warn(f"{self.path / name} was damaged or cut short; written anew from {origin}.", stacklevel=5)
            if there != content:
                write_atomic(self.path / name, content)
        self._sums = dict(state["files"])
        for name in changed(self.path, self._sums):
            del self._sums[name]
            warnings.warn(
                f"{self.path / name} is damaged or missing; unless the run writes it again, it is lost. The training "
                "does not need it.",
                stacklevel=5,
            )
            if (self.path / name).exists():
                set_aside(self.path / name)

    def _clear(self, *paths: Path) -> None:
        """Delete files, and what is left of writes that a kill cut short."""
        with writing(self.path):
            for path in (*paths, *self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")):
                path.unlink(missing_ok=True)


def as_line(line: dict[str, Any]) -> str:
    """Return a line of the metrics."""
    return json.dumps(line, allow_nan=False) + "\n"


def as_metrics(text: str) -> list[dict[str, Any]]:
    """Read the lines of the metrics. Raises: ResumeError: where they are damaged."""
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise ResumeError(f"{METRICS} is damaged ({error}); restore it from a copy, or use another --out.") from error


def read_text(path: Path) -> str:
    """Return a file's text; empty where it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, every byte of it checked.

    Raises: Damaged: where it is not what was written. ResumeError: for another format, or where it may not be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the sums that torch.save writes
            wrong = archive.testzip()
        if wrong is not None:
            raise Damaged(f"{wrong} has another checksum")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except PermissionError as error:
        raise ResumeError(f"{path} cannot be read ({error.strerror}); make it readable.") from error
    except Exception as error:  # many kinds, for a damaged file
        if shortage(error) is not None or isinstance(error, Damaged):
            raise
        raise Damaged((str(error) or type(error).__name__).splitlines()[0].rstrip(".")) from error
    found = state.get("format") if isinstance(state, dict) else None
    if found is not None and found != FORMAT:
        raise ResumeError(f"{path} has format {found}; this version reads {FORMAT}. Use a new --out.")
    if found is None or not all(isinstance(state.get(key), kind) for key, kind in _KINDS.items()):
        raise Damaged("it holds something else than a run's state")
    return state


def refuse_other_configuration(
    folder: Path, kept: Mapping[str, Any], asked: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Raise ResumeError naming what differs between a folder's configuration and the one asked for.

    An option that there was not when the folder was made had its default.
    """
    kept = {name: value for name, value in defaults.items() if name in asked} | dict(kept)
    differing = [key for key in {**kept, **asked} if kept.get(key) != asked.get(key)]
    if not differing:
        return
    what = "; ".join(f"{key} was {kept.get(key)!r}, is now {asked.get(key)!r}" for key in sorted(differing)[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise ResumeError(f"{folder} holds a run of another configuration: {what}{more}. Use another --out.")
