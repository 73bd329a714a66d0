"""One look at every picture of a data set: which can be read, how bright they are, a digest of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from sartor.data.images import Decoder, Unreadable, picture_size
from sartor.data.source import digests_of
from sartor.errors import DataError

Shape = tuple[int, int, int]
"""Channels, height, width."""
_BLOCK = 512  # files that are handed to the threads at once


class MixedSizes(DataError):
    """Pictures of more than one size where one was expected; the text counts them.

    `cure` is the name and the root by which the data set is opened at one size, where there is such a name.
    """

    cure: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found of n files; the tables hold zeros for one that cannot be read, `reasons` tells by place why."""

    shape: Shape
    sums: Int64[Tensor, "n channels 2"]
    """For each picture and channel, the sum of its bytes and the sum of their squares: exact whole numbers."""
    digests: UInt8[Tensor, "n 32"]
    """For each picture, what `digests_of` gives; left out (0 columns) where pixels are kept."""
    pixels: UInt8[Tensor, "n channels height width"] | None
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def blank(cls, n: int, shape: Shape, *, keep: bool) -> Self:
        """Make empty tables, with room for the pixels if they are kept."""
        sums = torch.zeros((n, shape[0], 2), dtype=torch.int64)
        digests = torch.zeros((n, 0 if keep else 32), dtype=torch.uint8)
        return cls(shape, sums, digests, torch.zeros((n, *shape), dtype=torch.uint8) if keep else None)

    def look(self, place: int, file: str, decoder: Decoder) -> bool:
        """Fill in one picture; False if it is of another size."""
        try:
            picture = decoder(file)
        except Unreadable as reason:
            self.reasons[place] = str(reason)
            return True
        if picture.shape != self.shape:
            return False
        flat = picture.reshape(len(picture), -1)  # in NumPy: torch would start threads of its own in each of ours
        self.sums.numpy()[place, :, 0] = flat.sum(1, dtype=np.int64)
        self.sums.numpy()[place, :, 1] = np.square(flat, dtype=np.uint32).sum(1, dtype=np.int64)
        if self.pixels is None:
            self.digests.numpy()[place] = digests_of(torch.from_numpy(picture)[None])[0]
        else:
            self.pixels.numpy()[place] = picture
        return True


def survey(files: Sequence[str], decoder: Decoder, shape: Shape, *, keep: bool) -> Survey:
    """Decode every file once, in a few threads; with `keep` the pixels stay in memory, else a digest of each.

    Raises: MixedSizes: if a picture has another shape. DataError: if a file is there but the system cannot read it.
    """
    found = Survey.blank(len(files), shape, keep=keep)

    def look(place: int) -> bool:
        return found.look(place, files[place], decoder)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for start in range(0, len(files), _BLOCK):
            if not all(threads.map(look, range(start, min(start + _BLOCK, len(files))))):
                raise MixedSizes(count_sizes(files))
    return found


def first_shape(files: Sequence[str], decoder: Decoder) -> Shape | None:
    """Return the shape that all pictures shall have: what was asked for, else that of the first one; None for none."""
    if decoder.size is not None:
        return decoder.channels, decoder.size, decoder.size
    for file in files:
        try:
            channels, height, width = decoder(file).shape
        except Unreadable:
            continue
        return channels, height, width
    return None


def count_sizes(files: Sequence[str]) -> str:
    """Count pictures by height and width, the most frequent first, as far as their headers tell."""
    counts = Counter(filter(None, map(picture_size, files))).most_common()
    shown = ", ".join(f"{height} x {width} ({count})" for (height, width), count in counts[:4])
    return f"{len(counts)} sizes (height x width): {shown}{', ...' if len(counts) > 4 else ''}"
