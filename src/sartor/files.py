"""Files that are whole or absent: written beside, synced, then renamed into place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sartor.errors import SartorError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one, never a part.

    Raises: SartorError: when the disk is full or the folder cannot be written; the old file is still there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    raw = content.encode() if isinstance(content, str) else content
    try:
        with open(beside, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise SartorError(
            f"{path} cannot be written ({error.strerror}); what was saved before is untouched. "
            "Free some space or choose another --out, then give the same command again."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused, for they are no JSON."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises: SartorError: when it is no JSON, naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SartorError(f"{path} cannot be read ({error}); delete it or restore it from a copy.") from error
