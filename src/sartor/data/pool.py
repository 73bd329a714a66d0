"""The pool: samples with stable ids, in the order of their ids, and views of them that share one storage."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.utils.data import Dataset

from sartor.data.arrays import (
    as_inputs,
    as_numbers,
    as_targets,
    check_classes,
    check_ids,
    check_images,
    id_order,
    is_image,
    map_inputs,
    named_tensors,
)
from sartor.data.hashing import id_keys
from sartor.data.items import ItemStream, count_items, read_items
from sartor.data.preprocess import UNIT, Preprocess
from sartor.data.source import Part, Resident, Source, read_checked
from sartor.data.workers import read_ahead
from sartor.errors import DataError
from sartor.types import Inputs


@dataclass(frozen=True, eq=False)
class LabelNoise:
    """What was done to the labels of a pool, so that a run can tell what its coresets hold; no scan shows it.

    `flags` marks the root rows whose label is wrong, `original` holds the labels from before.
    """

    flags: Bool[Tensor, "n"]
    original: Int64[Tensor, "n"]
    rate: float
    kind: str

    def ratio(self, rows: Int64[Tensor, "k"]) -> float:
        """Return the share of these root rows whose label is wrong (0 for no rows)."""
        return float(self.flags[rows.cpu()].double().mean()) if len(rows) else 0.0

    def to_json(self, pool: Pool) -> dict[str, Any]:
        """Return the wrong labels of the pool's view as columns: ids, original and given labels."""
        rows = pool.rows[self.flags[pool.rows]]
        original, given = self.original[rows].tolist(), pool.targets_of(rows).tolist()
        return {"kind": self.kind, "rate": self.rate, "ids": pool.ids_of(rows), "original": original, "given": given}


@dataclass(frozen=True, eq=False)
class Storage:
    """What all views of a pool share. Rows are in the order of the ids."""

    ids: tuple[str, ...]
    source: Resident | Source
    targets: Int64[Tensor, "n"] | None
    classes: int | None
    class_names: tuple[str, ...] | None
    preprocess: Preprocess | None
    noise: LabelNoise | None = None

    @functools.cached_property
    def keys(self) -> Int64[Tensor, "n"]:
        """The hash keys of the ids."""
        with torch.inference_mode(mode=False):
            return id_keys(self.ids)


class Pool:
    """Samples with stable string ids. Row numbers always mean the root pool, whose rows are in the order of the ids.

    So no result depends on the order in which the source lists its samples. Make one with `from_arrays`,
    `from_dataset` or `as_pool`; `only(rows)` makes a view that shares the storage and keeps the root's row numbers.
    """

    def __init__(self, storage: Storage, rows: Int64[Tensor, "n"]) -> None:
        self._storage = storage
        self.rows = rows

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        targets: Any = None,
        *,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        preprocess: Preprocess | None = None,
    ) -> Pool:
        """Make a pool of arrays whose first axis counts the samples.

        `inputs` is a tensor or array, or a tuple or dict of such; memory is shared where the ids are in order already.
        `targets` are whole numbers, -1 where missing. `ids` default to the index, padded with zeros. Images of uint8
        have channels first, (n, channels, height, width), and are normalised by `preprocess` (default: x / 255).

        Raises: DataError: for an empty pool, ids that repeat, lengths that differ, or labels that cannot be.
        """
        tensors = as_inputs(inputs)
        n = len(named_tensors(tensors)[0][1])
        if n == 0:
            raise DataError("the pool has no samples; give at least one.")
        names = check_ids(ids, n)
        check_images(tensors, preprocess)
        limit = check_classes(classes, class_names)
        labels = None if targets is None else as_targets(targets, names, limit)
        order = id_order(names)
        if order is not None:
            names = [names[i] for i in order.tolist()]
            tensors = map_inputs(lambda tensor: tensor[order], tensors)
            labels = None if labels is None else labels[order]
        return cls._of(Resident(tensors), names, labels, limit, class_names, preprocess)

    @classmethod
    def from_source(
        cls,
        source: Source,
        targets: Any = None,
        *,
        ids: Sequence[str],
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        preprocess: Preprocess | None = None,
    ) -> Pool:
        """Make a pool whose inputs are read when they are asked for; `ids`, in order already, are those of its rows.

        Raises: DataError: for ids that repeat or are out of order, and as `from_arrays`.
        """
        names = check_ids(ids, len(named_tensors(source.inputs)[0][1]))
        if not names or id_order(names) is not None:
            raise DataError("a source needs its samples, one at least, in the order of their ids; sort them first.")
        check_images(source.inputs, preprocess)
        limit = check_classes(classes, class_names)
        labels = None if targets is None else as_targets(targets, names, limit)
        return cls._of(source, names, labels, limit, class_names, preprocess)

    @classmethod
    def _of(
        cls,
        source: Resident | Source,
        names: Sequence[str],
        labels: Int64[Tensor, "n"] | None,
        limit: int | None,
        class_names: Sequence[str] | None,
        preprocess: Preprocess | None,
    ) -> Pool:
        """Make the pool of parts that are checked and in order."""
        if limit is None and labels is not None and int(labels.max()) >= 0:
            limit = int(labels.max()) + 1
        known = None if class_names is None else tuple(class_names)
        return cls(Storage(tuple(names), source, labels, limit, known, preprocess), torch.arange(len(names)))

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset[Any],
        *,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        preprocess: Preprocess | None = None,
        streamed: bool = False,
    ) -> Pool:
        """Read a map-style dataset once into memory. Items are x, or (x, y) with y a whole number, or None if missing.

        x is a tensor or array, or a tuple or dict of such; what a random transform of the dataset draws stays fixed.
        With `streamed`, x is not kept but read again when it is asked for, and must come out the same each time.
        Raises: DataError: if items differ in structure or shape (naming the id), and as `from_arrays`.
        """
        names = check_ids(ids, count_items(dataset))
        known: dict[str, Any] = {"class_names": class_names, "classes": classes, "preprocess": preprocess}
        if not streamed:
            inputs, labels = read_items(dataset, names)
            return cls.from_arrays(inputs, labels, ids=names, **known)
        order = id_order(names)
        order = torch.arange(len(names)) if order is None else order
        names = [names[number] for number in order.tolist()]
        source, labels = ItemStream.of(dataset, names, order)
        return cls.from_source(source, labels, ids=names, **known)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(t.shape[1:])} {t.dtype}" for name, t in named_tensors(self.inputs))
        kind = ", streamed" if self.streamed else ""
        return f"Pool({len(self)} of {len(self.ids)} samples, {shapes}, classes {self.classes}{kind})"

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids of the root, in order; the row number is the place in it."""
        return self._storage.ids

    @property
    def inputs(self) -> Inputs:
        """The root's inputs as stored, or, where they are streamed, tensors on torch's device `meta` of their shapes.

        `gather` returns what a network takes.
        """
        return self._storage.source.inputs

    @property
    def source(self) -> Resident | Source:
        """Where the root's inputs are: in memory, or what reads them."""
        return self._storage.source

    @property
    def streamed(self) -> bool:
        """Whether inputs are read when they are asked for."""
        return not isinstance(self._storage.source, Resident)

    @property
    def targets(self) -> Int64[Tensor, "n"] | None:
        """The root's labels, -1 where missing, or None if the pool has none at all."""
        return self._storage.targets

    @property
    def classes(self) -> int | None:
        """The number of classes, or None where neither labels nor names tell it."""
        return self._storage.classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, if they were given."""
        return self._storage.class_names

    @property
    def preprocess(self) -> Preprocess | None:
        """How uint8 images are normalised; None only divides them by 255."""
        return self._storage.preprocess

    @property
    def noise(self) -> LabelNoise | None:
        """What `corrupt` did to the labels, if it did."""
        return self._storage.noise

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample. Raises: DataError: if a sample is a tuple or dict, which has no single shape."""
        if isinstance(self.inputs, Tensor):
            return tuple(self.inputs.shape[1:])
        kind = type(self.inputs).__name__
        raise DataError(f"the inputs are a {kind}, which has no single shape; build the network for them yourself.")

    def only(self, rows: Int64[Tensor, "k"]) -> Pool:
        """Return the view of these root rows, in any order. Raises: DataError: for a repeated row or one not here."""
        chosen = rows.detach().cpu().to(torch.int64).sort().values
        repeated = (chosen[1:] == chosen[:-1]).nonzero().squeeze(1)
        if len(repeated):
            raise DataError(f"row {int(chosen[repeated[0]])} is given more than once; give each row once.")
        self.check_rows(chosen)
        return Pool(self._storage, chosen)

    def check_rows(self, rows: Int64[Tensor, "k"]) -> None:
        """Raise DataError unless all these root rows belong to this view."""
        places = torch.searchsorted(self.rows, rows).clamp_(max=max(len(self) - 1, 0))
        missing = (self.rows[places] != rows) if len(self) else torch.ones_like(rows, dtype=torch.bool)
        if bool(missing.any()):
            row = int(rows[missing][0])
            name = f" ({self.ids[row]!r})" if 0 <= row < len(self.ids) else ""
            raise DataError(f"row {row}{name} is not in this pool of {len(self)} samples; take rows from its .rows.")

    def relabelled(self, targets: Int64[Tensor, "n"], noise: LabelNoise | None) -> Pool:
        """Return this view with other root labels; inputs are shared and this pool stays as it is."""
        return Pool(dataclasses.replace(self._storage, targets=targets, noise=noise), self.rows)

    def alone(self, preprocess: Preprocess | None) -> Pool:
        """Return this view as a pool of its own, whose rows count from 0, with images of uint8 normalised like this.

        Inputs in memory are copied. Raises: DataError: for another number of channels.
        """
        check_images(self.inputs, preprocess)
        held, rows = self._storage, self.rows
        source = (
            Resident(held.source.take(rows, None)) if isinstance(held.source, Resident) else Part(held.source, rows)
        )
        noise = held.noise
        if noise is not None:
            noise = dataclasses.replace(noise, flags=noise.flags[rows], original=noise.original[rows])
        ids, targets = tuple(self.ids_of(rows)), None if held.targets is None else held.targets[rows]
        own = Storage(ids, source, targets, held.classes, held.class_names, preprocess, noise)
        return Pool(own, torch.arange(len(self)))

    def gather(self, rows: Int64[Tensor, "b"], device: torch.device | str | None = None) -> Inputs:
        """Return the inputs of root rows, in their order, as a network takes them: images of uint8 normalised.

        Other bytes, truth values and half-precision numbers come as float32, but not bytes in a tuple or dict.
        On another device than the CPU, all inputs are copied there once and stay.
        """
        source = self._storage.source
        if isinstance(source, Resident):
            return self._prepared(source.take(rows, device))
        return self._prepared(read_checked(source, rows.cpu()), device)

    def gather_each(
        self, rows: Int64[Tensor, "n"], ends: Sequence[int], device: torch.device | str | None = None, workers: int = 0
    ) -> Generator[Inputs, None, None]:
        """Yield `gather` of each part of some rows, from one of `ends` to the next.

        Streamed inputs are read ahead by `workers` processes, which end with the generator.
        """
        source, spans = self._storage.source, list(pairwise(ends))
        if isinstance(source, Resident):
            rows = rows.to("cpu" if device is None else device)
            for begin, end in spans:
                yield self._prepared(source.take(rows[begin:end], device))
            return
        rows = rows.cpu()
        with closing(read_ahead(source, [rows[begin:end] for begin, end in spans], workers)) as read:
            for stored in read:
                yield self._prepared(stored, device)

    def _prepared(self, stored: Inputs, device: torch.device | str | None = None) -> Inputs:
        """Return inputs as a network takes them, moved to a device first if one is given."""
        prepare = self._storage.preprocess or UNIT

        def made(tensor: Tensor) -> Tensor:
            tensor = tensor if device is None else tensor.to(device)
            return prepare(tensor) if is_image(tensor) else tensor

        return as_numbers(map_inputs(made, stored))

    def targets_of(self, rows: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Return the labels of root rows, -1 where missing."""
        rows = rows.cpu()
        return torch.full_like(rows, -1) if self.targets is None else self.targets[rows]

    def keys_of(self, rows: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Return the hash keys of the ids of root rows."""
        return self._storage.keys[rows.cpu()]

    def ids_of(self, rows: Int64[Tensor, "b"]) -> list[str]:
        """Return the ids of root rows."""
        return [self.ids[row] for row in rows.tolist()]

    def labelled_rows(self) -> Int64[Tensor, "k"]:
        """Return the root rows of this view that have a label."""
        return self.rows[self.targets_of(self.rows) >= 0]

    def class_counts(self) -> Int64[Tensor, "c"]:
        """Count the labels of this view by class. Raises: DataError: if the number of classes is not known."""
        if self.classes is None:
            raise DataError("the pool has no labels, so it has no classes to count; give targets, or classes=.")
        return torch.bincount(self.targets_of(self.labelled_rows()), minlength=self.classes)

    def fingerprint(self) -> str:
        """Return the SHA-256 of this view's ids, inputs (as stored), how they are normalised, and labels.

        The source's order has no effect, nor has it whether inputs are in memory or streamed.
        """
        digest = hashlib.sha256()
        for name in self.ids_of(self.rows):
            encoded = name.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        labels = self.targets_of(self.rows)
        for name, tensor in [*named_tensors(self.inputs), ("targets", labels)]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape[1:])}".encode())
        if self.preprocess is not None:
            digest.update(f"mean {self.preprocess.mean} std {self.preprocess.std}".encode())
        if len(self):
            digest.update(self._storage.source.digests(self.rows).tobytes())
        digest.update(labels.numpy().tobytes())
        return digest.hexdigest()
