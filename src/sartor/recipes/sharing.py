"""Trainings that several runs share: named by all that decides what comes of them, made by one process at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sartor.errors import ConfigError
from sartor.files import make_folder
from sartor.run import Run

WAIT = 0.5
"""Seconds between two looks at whether a wait shall end."""


def key_of(config: Mapping[str, Any]) -> str:
    """Name a training by its configuration: its title and a hash of all of it."""
    text = json.dumps(config, sort_keys=True)
    return f"{config['title']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@contextmanager
def alone(place: Path, run: Run) -> Iterator[None]:
    """Have a folder for this process alone, after whichever has it now; what stops `run` ends the wait as well.

    Raises: Stopped: after a signal, or when `run.stopping` says so. ConfigError: among processes that train together.
    """
    if run.world.size > 1:
        raise ConfigError("processes that train together cannot share trainings with other runs; leave shared out.")
    make_folder(place.parent)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    while not lock.is_locked:
        run.pause()
        with suppress(Timeout):
            lock.acquire(timeout=WAIT)
    try:
        yield
    finally:
        lock.release()
