"""What is in a data set: counts, values, and what may be wrong: equal samples, labels that disagree, blank images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from sartor.data.arrays import named_tensors, not_finite
from sartor.data.formats import Splits
from sartor.data.pool import Pool
from sartor.data.source import Resident, digests_of
from sartor.data.workers import read_ahead
from sartor.types import Inputs

_BLOCK_BYTES = 1 << 22  # of stored inputs that are looked at together; eight times as much as float64
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Sample:
    """One sample as it is named to people; `label` is -1 where it is missing."""

    part: str
    id: str
    label: int


@dataclass(frozen=True)
class Twins:
    """Samples whose stored inputs are the same, byte by byte; in the order of parts, then of ids."""

    samples: tuple[Sample, ...]

    @property
    def across(self) -> bool:
        """Whether they are in more than one part, such as train and test."""
        return len({sample.part for sample in self.samples}) > 1

    @property
    def disagree(self) -> bool:
        """Whether they have different labels, of which all but one are wrong or a matter of opinion."""
        return len({sample.label for sample in self.samples if sample.label >= 0}) > 1


@dataclass(frozen=True)
class Values:
    """One tensor of the inputs: shape of a sample, and its finite values as stored, images channel by channel.

    `std` is that of the population; all of them are empty where no value is finite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """The training or the test samples: `counts` by class; ids of unlabelled, blank and not finite ones."""

    name: str
    samples: int
    counts: tuple[int, ...]
    values: tuple[Values, ...]
    unlabelled: tuple[str, ...]
    constant: tuple[str, ...]
    infinite: tuple[str, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """Classes without a sample."""
        return tuple(label for label, count in enumerate(self.counts) if not count)

    @property
    def imbalance(self) -> float | None:
        """The largest class by the smallest one that has samples; None where there is none."""
        present = [count for count in self.counts if count]
        return max(present) / min(present) if present else None


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set. `skipped` are files that cannot be read, each with the reason."""

    name: str
    class_names: tuple[str, ...]
    parts: tuple[Part, ...]
    twins: tuple[Twins, ...]
    skipped: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values, properties included."""
        content = dataclasses.asdict(self)
        for written, part in zip(content["parts"], self.parts, strict=True):
            written |= {"missing": part.missing, "imbalance": part.imbalance}
        for written, twins in zip(content["twins"], self.twins, strict=True):
            written |= {"across": twins.across, "disagree": twins.disagree}
        return content


def inspect(splits: Splits, *, workers: int = 0, heard: Callable[[int], None] = lambda samples: None) -> Inspection:
    """Look at every sample of a data set once, block by block; streamed ones are read ahead by `workers` processes.

    Beside one block, 32 bytes a sample are held. `heard` is told the number of samples after each block.
    Raises: DataError: if a streamed sample cannot be read, or is not what it was.
    """
    pools = {"train": splits.train, "test": splits.test}
    classes = max(pool.classes or 0 for pool in pools.values())
    known = splits.train.class_names or splits.test.class_names or ()
    names = (*known, *map(str, range(len(known), classes)))
    parts, tables = [], []
    for name, pool in pools.items():
        part, digests = inspect_pool(pool, name, classes=len(names), workers=workers, heard=heard)
        parts.append(part)
        tables.append(digests)
    twins = find_twins(np.concatenate(tables), lambda place: _sample_at(pools, place))
    return Inspection(splits.name, names, tuple(parts), twins, splits.skipped)


def inspect_pool(
    pool: Pool, name: str, *, classes: int, workers: int = 0, heard: Callable[[int], None] = lambda samples: None
) -> tuple[Part, UInt8[np.ndarray, "n 32"]]:
    """Look at every sample of a pool; return what was found, and a digest of each sample's stored inputs."""
    moments = [_Moments(tensor) for _, tensor in named_tensors(pool.inputs)]
    digests = np.zeros((len(pool), 32), np.uint8)
    flags = {kind: torch.zeros(len(pool), dtype=torch.bool) for kind in ("constant", "infinite")}
    begin = 0
    for rows, inputs in stored_blocks(pool, workers):
        span = slice(begin, begin + len(rows))
        resident = isinstance(pool.source, Resident)
        digests[span] = digests_of(inputs) if resident else pool.source.digests(rows)
        for moment, (_, tensor) in zip(moments, named_tensors(inputs), strict=True):
            moment.add(tensor)
        flags["infinite"][span] = not_finite(inputs)
        flags["constant"][span] = is_constant(inputs)
        begin += len(rows)
        heard(len(rows))
    ids = {kind: tuple(pool.ids_of(pool.rows[marked])) for kind, marked in flags.items()}
    labels = pool.targets_of(pool.rows)
    part = Part(
        name=name,
        samples=len(pool),
        counts=tuple(torch.bincount(labels[labels >= 0], minlength=classes).tolist()),
        values=tuple(
            moment.values(member) for moment, (member, _) in zip(moments, named_tensors(pool.inputs), strict=True)
        ),
        unlabelled=tuple(pool.ids_of(pool.rows[labels < 0])),
        **ids,
    )
    return part, digests


def stored_blocks(pool: Pool, workers: int = 0) -> Iterator[tuple[Int64[Tensor, "b"], Inputs]]:
    """Yield the rows of a pool and their inputs as stored, a few megabytes at a time."""
    size = sum(tensor[:1].numel() * tensor.element_size() for _, tensor in named_tensors(pool.inputs))
    blocks = pool.rows.split(max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(1, size))))
    source = pool.source
    if isinstance(source, Resident):
        yield from ((rows, source.take(rows, None)) for rows in blocks)
        return
    with closing(read_ahead(source, blocks, workers)) as read:
        yield from zip(blocks, read, strict=True)


def find_twins(digests: UInt8[np.ndarray, "n 32"], sample_at: Callable[[int], Sample]) -> tuple[Twins, ...]:
    """Return the groups of equal digests, in the order of their first member."""
    if len(digests) < 2:
        return ()
    words = np.ascontiguousarray(digests).view(np.uint64)
    order = np.lexsort(words.T)  # stable: equal ones keep their order
    ordered = words[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    starts = np.flatnonzero(same & ~np.concatenate([[False], same[:-1]]))
    ends = np.flatnonzero(same & ~np.concatenate([same[1:], [False]])) + 2
    groups = sorted(order[start:end].tolist() for start, end in zip(starts, ends, strict=True))
    return tuple(Twins(tuple(map(sample_at, group))) for group in groups)


def is_constant(inputs: Inputs) -> Bool[Tensor, "b"]:
    """Mark images of more than one pixel each channel of which is one value; other inputs are never marked."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[2] * inputs.shape[3] < 2:
        return torch.zeros(len(named_tensors(inputs)[0][1]), dtype=torch.bool)
    flat = inputs.flatten(2)
    return (flat == flat[:, :, :1]).all(2).all(1)


class _Moments:
    """Range, mean and std of one tensor, gathered block by block (Chan et al. 1983, eq. 2.1), in float64."""

    def __init__(self, like: Tensor) -> None:
        self.dtype, self.shape = str(like.dtype).removeprefix("torch."), tuple(like.shape[1:])
        lines = self.shape[0] if len(self.shape) == 3 else 1
        self.count, self.mean, self.square = (torch.zeros(lines, dtype=torch.float64) for _ in range(3))
        self.low = torch.full((lines,), math.inf, dtype=torch.float64)
        self.high = -self.low

    def add(self, block: Tensor) -> None:
        """Take in the finite values of a block."""
        values = (torch.view_as_real(block) if block.is_complex() else block).double()
        table = values.transpose(0, 1).flatten(1) if len(self.shape) == 3 else values.reshape(1, -1)
        finite = table.isfinite()
        if table.numel() and bool(finite.all()):
            self._merge(table, self.count.new_full((len(table),), table.shape[1]))
            return
        for line, (numbers, fine) in enumerate(zip(table, finite, strict=True)):
            if len(known := numbers[fine]):
                self._merge(known[None], self.count.new_tensor([len(known)]), slice(line, line + 1))

    def _merge(self, table: Float64[Tensor, "l values"], count: Float64[Tensor, "l"], at: slice = slice(None)) -> None:
        mean = table.mean(1)
        square = (table - mean[:, None]).square_().sum(1)
        total, apart = self.count[at] + count, mean - self.mean[at]
        self.square[at] += square + apart.square() * self.count[at] * count / total
        self.mean[at] += apart * count / total
        self.count[at] = total
        self.low[at] = torch.minimum(self.low[at], table.amin(1))
        self.high[at] = torch.maximum(self.high[at], table.amax(1))

    def values(self, name: str) -> Values:
        """Return what was gathered."""
        if not bool((self.count > 0).all()):
            return Values(name, self.dtype, self.shape, (), (), (), ())
        found = self.low, self.high, self.mean, (self.square / self.count).sqrt()
        return Values(name, self.dtype, self.shape, *(tuple(numbers.tolist()) for numbers in found))


def _sample_at(pools: dict[str, Pool], place: int) -> Sample:
    """Name the sample at a place in the row of all parts."""
    for part, pool in pools.items():
        if place < len(pool):
            row = pool.rows[place : place + 1]
            return Sample(part, pool.ids_of(row)[0], int(pool.targets_of(row)[0]))
        place -= len(pool)
    raise AssertionError("a place beyond the last part")
