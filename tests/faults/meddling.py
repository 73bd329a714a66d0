"""Every change that a program makes to the files below a folder, numbered; a test may spoil any of them.

`meddled` takes the place of the calls by which Python opens for writing, writes, syncs, renames and deletes. What it
calls before each may do nothing (to count), kill the process, raise an OSError, or send a signal.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Change:
    """One call that changes a file, or brings it to the disk: its number from 0, what it does, to which file.

    `kind` is open, write, fsync, replace, unlink or mkdir; `data` is what is written; `target` is the new name.
    """

    number: int
    kind: str
    path: Path
    data: bytes = b""
    target: Path | None = None
    write: Callable[[bytes], Any] | None = None

    def write_half(self) -> None:
        """Bring half of what is to be written to the file."""
        if self.write is not None:
            self.write(self.data[: len(self.data) // 2])

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.path.name}"


Meddle = Callable[[Change], None]


class Watched:
    """A file that is open for writing; writes and the sync of its descriptor are told before they happen."""

    def __init__(self, file: Any, path: Path, tell: Callable[..., None], descriptors: dict[int, Path]) -> None:
        self._file, self._path, self._tell = file, path, tell
        descriptors[file.fileno()] = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        """Tell of a write, and pass it on."""
        text = isinstance(content, str)

        def part(data: bytes) -> None:
            self._file.write(data.decode() if text else data)
            self._file.flush()

        self._tell("write", self._path, data=content.encode() if text else bytes(content), write=part)
        return self._file.write(content)


@contextmanager
def meddled(folder: Path, meddle: Meddle) -> Iterator[list[Change]]:
    """Tell `meddle` of each change below a folder before it happens; yields the list of all that happened so far."""
    seen: list[Change] = []
    busy = [False]
    descriptors: dict[int, Path] = {}
    original = {name: getattr(os, name) for name in ("open", "replace", "rename", "unlink", "remove", "mkdir", "fsync")}
    real_open = builtins.open

    def below(path: Any) -> Path | None:
        if not isinstance(path, str | os.PathLike):
            return None
        place = Path(os.path.abspath(path))
        return place if place == folder or folder in place.parents else None

    def tell(kind: str, path: Path, **more: Any) -> None:
        if busy[0]:  # what `meddle` itself does
            return
        change = Change(len(seen), kind, path, **more)
        busy[0] = True
        try:
            meddle(change)
        finally:
            busy[0] = False
        seen.append(change)

    def opened(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        place = below(file)
        if place is None or not set(mode) & set("wax+"):
            return real_open(file, mode, *more, **options)
        tell("open", place, data=mode.encode())
        return Watched(real_open(file, mode, *more, **options), place, tell, descriptors)

    def os_opened(path: Any, flags: int, *more: Any, **options: Any) -> int:
        place = below(path)
        if place is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            tell("open", place)
        descriptor = original["open"](path, flags, *more, **options)
        if place is not None:
            descriptors[descriptor] = place
        return descriptor

    def renamed(source: Any, target: Any, **options: Any) -> None:
        place, goal = below(source), below(target)
        if place is not None:
            tell("replace", place, target=goal)
        original["replace"](source, target, **options)

    def deleted(path: Any, **options: Any) -> None:
        place = below(path)
        if place is not None and place.exists():
            tell("unlink", place)
        original["unlink"](path, **options)

    def made(path: Any, *more: Any, **options: Any) -> None:
        place = below(path)
        if place is not None and not place.exists():
            tell("mkdir", place)
        original["mkdir"](path, *more, **options)

    def synced(descriptor: int) -> None:
        if descriptor in descriptors:
            tell("fsync", descriptors[descriptor])
        original["fsync"](descriptor)

    stand_ins = {"open": os_opened, "replace": renamed, "rename": renamed, "unlink": deleted, "remove": deleted}
    stand_ins |= {"mkdir": made, "fsync": synced}
    patches = [
        mock.patch.multiple(os, **stand_ins),
        *(mock.patch.object(each, "open", opened) for each in (builtins, io)),
    ]
    with patches[0], patches[1], patches[2]:
        yield seen


def nothing(_: Change) -> None:
    """Only count."""


def kill_at(number: int) -> Meddle:
    """Kill the process just before a change, or in the middle of a write."""

    def meddle(change: Change) -> None:
        if change.number == number:
            change.write_half()
            os.kill(os.getpid(), signal.SIGKILL)

    return meddle


def refuse_from(number: int, code: int, *, only_one: bool = False) -> Meddle:
    """Refuse a change, and all after it unless it is `only_one`, with an error of the system; half a write is done."""
    kinds = {"open", "write", "fsync", "replace", "mkdir"}  # deleting still works on a full disk
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        kinds.add("unlink")

    def meddle(change: Change) -> None:
        due = change.number == number or (change.number > number and not only_one)
        if due and change.kind in kinds:
            change.write_half()
            raise OSError(code, os.strerror(code), str(change.path))

    return meddle


def signal_at(number: int, *signals: int) -> Meddle:
    """Send signals to this process just before a change."""

    def meddle(change: Change) -> None:
        if change.number == number:
            for each in signals:
                os.kill(os.getpid(), each)

    return meddle


def spread(count: int, size: int) -> list[int]:
    """Return `size` numbers below `count`, the first and the last among them, spread evenly."""
    if size >= count:
        return list(range(count))
    return sorted({round(place * (count - 1) / (size - 1)) for place in range(size)})
