"""Pools of picture files, decoded into memory or streamed, however a data set lists them."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from sartor.data.augment import Augment
from sartor.data.formats import Splits
from sartor.data.images import Decoder, Unreadable
from sartor.data.kept_survey import kept_survey
from sartor.data.parts import cut_test
from sartor.data.pool import Pool
from sartor.data.preprocess import Preprocess
from sartor.data.survey import MixedSizes, Survey, first_shape, survey
from sartor.errors import ConfigError, DataError, check_choice

RESIDENT_BYTES = 2 * 1024**3
"""A data set whose decoded pictures take more is streamed, unless `streamed` says otherwise."""


class Picture(NamedTuple):
    """One file of a data set: its id, place, label (-1 if missing) and part ("train", "test"; "" if not told)."""

    id: str
    file: str
    label: int
    part: str = ""


@dataclass(frozen=True)
class Reading:
    """How picture files are read: the decoder, and what to do with unreadable ones and with many of them.

    `root` is where they were found; `resizes` tells whether the data set has the option `size`.
    """

    root: Path
    decoder: Decoder
    unreadable: str = "refuse"
    streamed: bool | None = None
    resizes: bool = True

    def __post_init__(self) -> None:
        check_choice("unreadable", self.unreadable, ("refuse", "skip"))
        if self.streamed not in (None, True, False):
            raise ConfigError(f"streamed is {self.streamed!r}; it must be true, false, or left out.")

    def again(self, name: str, option: str) -> str:
        """Return the flags that read the data set with another option."""
        return f'--data "{name}({option})" --root {shlex.quote(str(self.root))}'


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """Picture files that are decoded when they are asked for."""

    pictures: Sequence[Picture]
    decoder: Decoder
    inputs: UInt8[Tensor, "n channels height width"]
    table: UInt8[np.ndarray, "n 32"]

    def read(self, rows: Int64[Tensor, "b"]) -> UInt8[Tensor, "b channels height width"]:
        """Decode files. Raises: DataError: naming the one that cannot be read."""
        read = np.empty((len(rows), *self.inputs.shape[1:]), np.uint8)
        for place, row in enumerate(rows.tolist()):
            try:
                picture = self.decoder(self.pictures[row].file)
            except (Unreadable, DataError) as error:
                raise DataError(f"sample {self.describe(row)} cannot be read any more ({error}).") from error
            if picture.shape != read.shape[1:]:
                raise DataError(f"sample {self.describe(row)} has another size than when the pool was made.")
            read[place] = picture
        return torch.from_numpy(read)

    def digests(self, rows: Int64[Tensor, "b"]) -> UInt8[np.ndarray, "b 32"]:
        """Return the digests of these pictures as they were at first."""
        return self.table[rows.numpy()]

    def describe(self, row: int) -> str:
        """Name a sample by its id and file."""
        return f"{self.pictures[row].id!r} ({self.pictures[row].file})"


def picture_splits(
    name: str,
    pictures: Sequence[Picture],
    class_names: Sequence[str],
    reading: Reading,
    *,
    test: float,
    augment: Augment | None = None,
) -> Splits:
    """Make train and test pools of picture files: two views of one pool, normalised by the mean and std of training.

    The parts are those that the pictures tell, or else a fixed share `test` of each class is held out by ids.
    Raises: DataError: for pictures that cannot be read or differ in size, naming the first and counting them.
    """
    pictures = sorted(pictures, key=lambda picture: picture.id)
    found = _survey(name, pictures, reading)
    skipped = tuple((pictures[place].id, reason) for place, reason in sorted(found.reasons.items()))
    if len(skipped) == len(pictures):
        raise DataError(f"none of the {len(pictures)} pictures can be read, such as {skipped[0][0]} ({skipped[0][1]}).")
    if skipped:
        _refuse_or_warn(name, skipped, len(pictures), reading)
    whole = torch.tensor([place for place in range(len(pictures)) if place not in found.reasons])
    readable = [pictures[place] for place in whole.tolist()]
    labels = torch.tensor([picture.label for picture in readable])
    ids, parts = [picture.id for picture in readable], [picture.part for picture in readable]
    train, held = cut_test(ids, labels, parts, test)
    preprocess = average(found, whole[train])
    if found.pixels is not None:
        pixels = found.pixels if not skipped else found.pixels[whole]
        pool = Pool.from_arrays(pixels, labels, ids=ids, class_names=class_names, preprocess=preprocess)
    else:
        layout = torch.empty((len(ids), *found.shape), dtype=torch.uint8, device="meta")
        source = PictureFiles(readable, reading.decoder, layout, found.digests[whole].numpy())
        pool = Pool.from_source(source, labels, ids=ids, class_names=class_names, preprocess=preprocess)
    return Splits(name, pool.only(train), pool.only(held), augment or Augment(), skipped)


def average(found: Survey, rows: Int64[Tensor, "n"]) -> Preprocess:
    """Return mean and (population) standard deviation of x / 255 of some pictures, std 1 for a single value.

    They come from exact sums, so they are the same for pictures in memory and streamed ones.
    """
    count = len(rows) * found.shape[1] * found.shape[2]
    means, stds = [], []
    for total, squares in found.sums[rows].sum(0).tolist():
        means.append(total / count / 255)
        stds.append(math.sqrt(count * squares - total * total) / count / 255 or 1.0)
    return Preprocess(tuple(means), tuple(stds))


def _survey(name: str, pictures: Sequence[Picture], reading: Reading) -> Survey:
    files = [picture.file for picture in pictures]
    shape = first_shape(files, reading.decoder)
    if shape is None:
        raise DataError(
            f"none of the {len(pictures)} pictures can be read, {pictures[0].id} among them; fetch them again."
        )
    streamed = reading.streamed
    if streamed is None:
        streamed = len(files) * math.prod(shape) > RESIDENT_BYTES
    try:
        return (
            kept_survey(files, reading.decoder, shape) if streamed else survey(files, reading.decoder, shape, keep=True)
        )
    except MixedSizes as sizes:
        cure = f"bring them to one with {reading.again(name, 'size=64')}" if reading.resizes else "fetch them again"
        refusal = MixedSizes(f"the {len(files)} pictures have {sizes}; {cure}.")
        if reading.resizes:
            refusal.cure = f"{name}(size=64)", str(reading.root)
        raise refusal from sizes


def _refuse_or_warn(name: str, failed: Sequence[tuple[str, str]], n: int, reading: Reading) -> None:
    shown = ", ".join(f"{id} ({reason})" for id, reason in failed[:3]) + (", ..." if len(failed) > 3 else "")
    text = f"{len(failed)} of {n} pictures cannot be read: {shown}"
    if reading.unreadable == "refuse":
        raise DataError(f"{text}; mend or remove them, or leave them out with {reading.again(name, 'unreadable=skip')}")
    warnings.warn(f"{text}; they are left out.", stacklevel=3)
