"""Where a pool's inputs are: tensors in memory, or a source that reads samples when they are asked for."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from sartor.data.arrays import map_inputs, named_tensors
from sartor.errors import DataError
from sartor.types import Inputs


class Source(Protocol):
    """Samples that are read when they are asked for. Numbers are root rows: samples are in the order of their ids.

    Reading a sample gives the same bytes every time; `read_checked` holds it to that.
    """

    @property
    def inputs(self) -> Inputs:
        """Tensors (n, ...) on torch's device `meta`: shapes and types without data."""
        ...

    def read(self, rows: Int64[Tensor, "b"]) -> Inputs:
        """Return the samples of these rows, in their order, as CPU tensors. Raises: DataError: naming id and place."""
        ...

    def digests(self, rows: Int64[Tensor, "b"]) -> UInt8[np.ndarray, "b 32"]:
        """Return what `digests_of` gives for these samples, without reading them again."""
        ...

    def describe(self, row: int) -> str:
        """Name a sample in a message: its id, and where it comes from."""
        ...


BLOCK, KEPT = 4096, 256
"""Samples that are hashed together, and of how many such blocks the digests are kept: of a million samples, 32 MB."""


@dataclass(frozen=True, eq=False)
class Resident:
    """Inputs in memory; a copy on another device is made at the first use and kept.

    So are digests, each block's under one of all its bytes: that one tells, in a fourth to half of the time, that they
    are still right, and a process that reads many runs back asks for them with each.
    """

    inputs: Inputs
    copies: dict[torch.device, Inputs] = field(default_factory=dict)
    hashed: dict[bytes, UInt8[np.ndarray, "b 32"]] = field(default_factory=dict)

    def take(self, rows: Int64[Tensor, "b"], device: torch.device | str | None) -> Inputs:
        """Return the samples of these rows, in their order, on a device."""
        return map_inputs(lambda stored: stored.index_select(0, rows.to(stored.device)), self.on(device))

    def on(self, device: torch.device | str | None) -> Inputs:
        """Return all inputs on a device."""
        place = torch.device("cpu" if device is None else device)
        if place.type == "cpu":
            return self.inputs
        if place.type == "cuda" and place.index is None:
            place = torch.device("cuda", torch.cuda.current_device())
        if place not in self.copies:
            with torch.inference_mode(mode=False):
                self.copies[place] = map_inputs(lambda tensor: tensor.to(place), self.inputs)
        return self.copies[place]

    def digests(self, rows: Int64[Tensor, "b"]) -> UInt8[np.ndarray, "b 32"]:
        """Return the digests of these samples."""
        found = self._block if len(rows) <= BLOCK * KEPT else digests_of
        return np.concatenate([found(self.take(block, None)) for block in rows.split(BLOCK)])

    def _block(self, inputs: Inputs) -> UInt8[np.ndarray, "b 32"]:
        tables = packed(inputs)
        whole = hashlib.blake2b(str(len(tables[0])).encode())
        for table in tables:
            whole.update(table.data)
        name = whole.digest()
        if name not in self.hashed:
            while len(self.hashed) >= KEPT:
                del self.hashed[next(iter(self.hashed))]
            self.hashed[name] = digests_of(inputs)
        return self.hashed[name]


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of a source as a source of their own; `rows` are theirs there, in order."""

    whole: Source
    rows: Int64[Tensor, "k"]

    @property
    def inputs(self) -> Inputs:
        """Tensors (k, ...) on torch's device `meta`."""
        return map_inputs(lambda like: like.new_empty((len(self.rows), *like.shape[1:])), self.whole.inputs)

    def read(self, rows: Int64[Tensor, "b"]) -> Inputs:
        """Return the samples of these rows."""
        return self.whole.read(self.rows[rows])

    def digests(self, rows: Int64[Tensor, "b"]) -> UInt8[np.ndarray, "b 32"]:
        """Return the digests of these samples."""
        return self.whole.digests(self.rows[rows])

    def describe(self, row: int) -> str:
        """Name a sample in a message."""
        return self.whole.describe(int(self.rows[row]))


def digests_of(inputs: Inputs) -> UInt8[np.ndarray, "b 32"]:
    """Return the SHA-256 of each sample: the bytes of its tensors, one after the other, as they are stored."""
    tables = packed(inputs)
    found = np.empty((len(tables[0]), 32), np.uint8)
    for place, members in enumerate(zip(*tables)):
        digest = hashlib.sha256()
        for member in members:
            digest.update(member)
        found[place] = np.frombuffer(digest.digest(), np.uint8)
    return found


def read_checked(source: Source, rows: Int64[Tensor, "b"]) -> Inputs:
    """Read samples. Raises: DataError: where one is not what it was when the pool was made, and as `source.read`."""
    if not len(rows):
        return map_inputs(lambda like: torch.empty((0, *like.shape[1:]), dtype=like.dtype), source.inputs)
    inputs = source.read(rows)
    changed = (digests_of(inputs) != source.digests(rows)).any(axis=1).nonzero()[0]
    if len(changed):
        raise DataError(
            f"sample {source.describe(int(rows[changed[0]]))} reads otherwise than when the pool was made. Streamed "
            "data must stay as they are: change no file meanwhile, and leave random transforms to the recipe's augment."
        )
    return inputs


def packed(inputs: Inputs) -> list[UInt8[np.ndarray, "b bytes"]]:
    """Return each tensor as bytes, a line for each sample: what can be hashed, and sent to another process."""
    return [_as_bytes(tensor) for _, tensor in named_tensors(inputs)]


def unpacked(tables: list[UInt8[np.ndarray, "b bytes"]], layout: Inputs) -> Inputs:
    """Make tensors of `packed` bytes again, of the types and sample shapes of `layout`."""
    left = iter(tables)
    return map_inputs(lambda like: _as_tensor(next(left), like), layout)


def _as_bytes(tensor: Tensor) -> UInt8[np.ndarray, "b bytes"]:
    flat = tensor.reshape(-1)
    if flat.stride(0) != 1:  # a single number out of a larger tensor
        flat = torch.empty(flat.shape, dtype=flat.dtype).copy_(flat)
    return flat.view(torch.uint8).numpy().reshape(len(tensor), math.prod(tensor.shape[1:]) * tensor.itemsize)


def _as_tensor(table: UInt8[np.ndarray, "b bytes"], like: Tensor) -> Tensor:
    shape = (len(table), *like.shape[1:])
    if not table.size:
        return torch.empty(shape, dtype=like.dtype)
    return torch.from_numpy(table.reshape(-1)).view(like.dtype).reshape(shape)
