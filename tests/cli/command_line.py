"""The command line in this process: exit code, what it printed, and the small images that it trains on."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.cli import main

SMALL = ("--data", "mnist", "--root", "images", "--model", "cnn(width=2)", "--batch-size", "32")
"""Flags for a training of some milliseconds an epoch on the images that `write_images` leaves."""
SELECTING = ("--epochs", "4", "--fraction", "0.3", "--every", "2", "--pruner", "rigl(every=3)")
SWAST = ("train", "swast", *SMALL, *SELECTING)
DENSE = ("train", "dense", *SMALL, "--epochs", "2")
COMPARE = ("compare", *SMALL, *SELECTING)


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of an error."""
        assert self.err.startswith("sartor: "), self.err
        assert self.err.endswith("\n"), self.err
        assert len(self.err.splitlines()) == 1, self.err
        return self.err.removeprefix("sartor: ").strip()


def call(*arguments: object, encoding: str = "utf-8") -> Ended:
    """Run a command as the shell would, in this process."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    out.flush()
    return Ended(code, out.buffer.getvalue().decode(encoding), err.getvalue())


def done(*arguments: object) -> Ended:
    """Run a command that has to succeed."""
    ended = call(*arguments)
    assert ended.code == 0, ended.err
    return ended


def refused(*arguments: object, encoding: str = "utf-8") -> str:
    """Run a command that is wrong and return its message: it exits with 2, trains nothing, and touches no file."""
    before = files_below(Path.cwd())
    ended = call(*arguments, encoding=encoding)
    assert ended.code == 2, ended.err
    assert not re.search(r"(?m)^epoch +\d|^\[ *\d+/", ended.out), f"it ran before it refused: {ended.out}"
    assert files_below(Path.cwd()) == before
    return ended.message


def write_images(root: Path, *, train: int = 240, test: int = 60) -> None:
    """Write made-up images, 8 x 8 and of ten kinds, as the four idx files of MNIST."""
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 256, (10, 8, 8))
    root.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        images = (0.6 * kinds[labels] + 0.4 * generator.integers(0, 256, (count, 8, 8))).astype(np.uint8)
        for array, kind in ((images, "images-idx3"), (labels.astype(np.uint8), "labels-idx1")):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())


def files_below(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with `images/` in it the current one."""
    monkeypatch.chdir(folder)
    write_images(folder / "images")
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    """The results of a finished run."""
    return json.loads((folder / "results.json").read_text())
