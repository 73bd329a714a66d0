"""The log of a labelling: which ids were asked for, and what was told of them; lines are added, never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from sartor.errors import DataError, nearest
from sartor.files import writing


class LabelLog:
    """A file of JSON lines, {"asked": [ids]} or {"told": {id: label}}; what a kill cut short is no line.

    Labels are numbers of classes, below `classes` where that is given. Several processes may tell at once; each line is
    whole and on the disk before the call returns. Lines may end as any editor ends them; the last one may lack its end.
    """

    def __init__(self, path: Path, classes: int | None = None) -> None:
        self.path = path
        self.classes = classes

    def read(self) -> tuple[list[str], dict[str, int]]:
        """Return all ids that were asked for, in order, and all labels.

        Raises: DataError: for a damaged line, or one, written by hand maybe, that tells what `tell` would have refused.
        """
        asked: dict[str, None] = {}
        told: dict[str, int] = {}
        for number, content in enumerate(self._whole().splitlines(), start=1):
            try:
                line = _parsed(content)
            except ValueError as error:
                raise DataError(
                    f"line {number} of {self.path} is damaged ({error}); mend it, or restore it from a copy."
                ) from error
            asked |= dict.fromkeys(line.get("asked", ()))
            for name, label in line.get("told", {}).items():
                wrong = self._wrong(label) or _against(name, label, asked, told)
                if wrong:
                    raise DataError(
                        f"line {number} of {self.path} tells {json.dumps(label)} of {name!r}, {wrong}; mend the line "
                        "or take that label out. Nothing was changed."
                    )
                told[name] = label
        return list(asked), told

    def ask(self, ids: Sequence[str]) -> None:
        """Add ids that are asked for, as far as they are not there yet."""
        with self._locked():
            known = set(self.read()[0])
            fresh = [name for name in ids if name not in known]
            if fresh:
                self._append({"asked": fresh})

    def tell(self, labels: Mapping[str, int]) -> None:
        """Add labels; those that are there already, and say the same, change nothing.

        Raises: DataError: for an id that was not asked for, or has another label already; then none is added.
        """
        with self._locked():
            asked, told = self.read()
            known = set(asked)
            strange = [name for name in labels if name not in known]
            if strange:
                raise DataError(
                    f"{strange[0]!r} was not asked for; tell labels of ids that ask() returned. Nothing was taken."
                    f"{nearest(str(strange[0]), asked)}"
                )
            for name, label in labels.items():
                if told.get(name, label) != label:
                    raise DataError(
                        f"{name!r} has the label {told[name]} already, and is now told {label}; a label that was "
                        "learnt from cannot change. Nothing was taken; leave that id out."
                    )
            fresh = {name: label for name, label in labels.items() if name not in told}
            if fresh:
                self._append({"told": fresh})

    def _wrong(self, label: Any) -> str:
        """Say why something is no label; nothing where it is one."""
        if type(label) is int and label >= 0 and (self.classes is None or label < self.classes):
            return ""
        numbers = "whole numbers from 0" if self.classes is None else f"numbers from 0 to {self.classes - 1}"
        return f"which is no class; they are {numbers} in this file"

    def _whole(self) -> bytes:
        """Return all lines that are whole."""
        if not self.path.exists():
            return b""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        return content if _is_object(content[end:]) else content[:end]

    def _append(self, line: dict[str, Any]) -> None:
        whole = self._whole()
        lacking = b"" if not whole or whole.endswith(b"\n") else b"\n"
        with writing(self.path), open(self.path, "ab") as file:
            file.truncate(len(whole))
            file.write(lacking + json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            yield


def _parsed(content: bytes) -> dict[str, Any]:
    """Return a line. Raises: ValueError: for what is none."""
    line = json.loads(content, object_pairs_hook=_without_conflict)
    known = isinstance(line, dict) and line.keys() <= {"asked", "told"}
    asked, told = (line.get("asked", []), line.get("told", {})) if known else (None, None)
    if not isinstance(told, dict) or not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ValueError('it is neither {"asked": [ids]} nor {"told": {id: label}}')
    return dict(line)


def _without_conflict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs. Raises: ValueError: where two of a name differ, of which JSON keeps the last."""
    found = dict(pairs)
    twice = [name for name, value in pairs if found[name] != value]
    if twice:
        raise ValueError(f"{twice[0]!r} is in it twice, with different values")
    return found


def _against(name: str, label: int, asked: Mapping[str, Any], told: Mapping[str, int]) -> str:
    """Say what is against a label, by the lines up to its own; nothing where nothing is."""
    if name not in asked:
        return "which was not asked for before that line"
    return "" if told.get(name, label) == label else f"but {told[name]} was told before"


def _is_object(content: bytes) -> bool:
    """Tell whether this is a whole JSON object; no part of a line is one."""
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False
