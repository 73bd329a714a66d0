"""Map-style datasets as a pool's samples: read once into memory, or item by item when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from sartor.data.arrays import as_inputs, is_one_hot, map_inputs, named_tensors, stack
from sartor.data.source import digests_of
from sartor.errors import DataError, SartorError
from sartor.types import Inputs

_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


def count_items(dataset: Dataset[Any]) -> int:
    """Return the length of a map-style dataset. Raises: DataError: for any other, and for an empty one."""
    length = getattr(dataset, "__len__", None)
    if length is None or isinstance(dataset, IterableDataset):
        raise DataError(f"{type(dataset).__name__} has no samples by number; only map-style datasets can be a pool.")
    if not length():
        raise DataError("the dataset has no samples; give at least one.")
    return length()


def is_labelled(item: Any) -> bool:
    """Tell whether a dataset's item is (x, y): two members, the second a single number, also in shape (1,), or None."""
    return isinstance(item, (tuple, list)) and len(item) == 2 and (item[1] is None or _is_single(item[1]))


def refuse_dict_of_labels(item: Any, name: str) -> None:
    """Raise DataError for an item that is a dict with its label inside."""
    for key in _LABEL_KEYS if isinstance(item, Mapping) else ():
        if key in item and not isinstance(item[key], float) and _is_single(item[key]):
            raise DataError(
                f"sample {name!r} is a dict that holds its label as {key!r}; give pairs (x, y), y being that label and "
                "x the dict without it."
            )


def is_one_hot_pair(item: Any) -> bool:
    """Tell whether a dataset's item is a pair whose second looks like a one-hot label."""
    pair = isinstance(item, (tuple, list)) and len(item) == 2
    return pair and getattr(item[1], "ndim", None) == 1 and is_one_hot(item[1][None])


def refuse_one_hot(item: Any, name: str) -> None:
    """Raise DataError, for an item like all others, because its label is one-hot."""
    found = f"y of sample {name!r}, as of all others, is one-hot, of shape {tuple(item[1].shape)}"
    raise DataError(f"{found}; give the class, y.argmax().")


def label_of(item: Any, name: str, first: str) -> Any:
    """Return y of a pair (x, y), -1 where it is None. Raises: DataError: if the item is no pair."""
    if not is_labelled(item):
        raise DataError(f"sample {name!r} is no pair (x, y) but {first!r} is; give y=None where missing.")
    label = item[1]
    return -1 if label is None else label.item() if hasattr(label, "item") else label


def read_items(dataset: Dataset[Any], names: Sequence[str]) -> tuple[Any, Tensor | None]:
    """Read all items into stacked inputs, and labels where the first item is a pair (x, y)."""
    items = [dataset[i] for i in range(len(names))]
    refuse_dict_of_labels(items[0], names[0])
    if all(map(is_one_hot_pair, items)):
        refuse_one_hot(items[0], names[0])
    if not is_labelled(items[0]):
        return stack(items, names), None
    labels = [label_of(item, name, names[0]) for item, name in zip(items, names, strict=True)]
    return stack([x for x, _ in items], names), torch.from_numpy(np.asarray(labels))


@dataclass(frozen=True, eq=False)
class ItemStream:
    """A dataset whose items are read when they are asked for; row r is its item `numbers[r]`."""

    dataset: Dataset[Any]
    names: Sequence[str]
    numbers: Int64[Tensor, "n"]
    inputs: Inputs
    table: UInt8[np.ndarray, "n 32"]
    labelled: bool

    @classmethod
    def of(cls, dataset: Dataset[Any], names: Sequence[str], numbers: Int64[Tensor, "n"]) -> tuple[Self, Tensor | None]:
        """Look through a dataset once, keeping labels and digests; `names` are the ids of the items `numbers`.

        Raises: DataError: if items differ in structure, type or shape, naming the id.
        """
        first = dataset[int(numbers[0])]
        refuse_dict_of_labels(first, names[0])
        labelled, one_hot = is_labelled(first), True
        layout = as_inputs(stack([first[0] if labelled else first], names[:1]))
        table, labels = np.empty((len(names), 32), np.uint8), []
        for row, (name, number) in enumerate(zip(names, numbers.tolist(), strict=True)):
            item = dataset[number]
            one_hot = one_hot and is_one_hot_pair(item)
            if labelled:
                labels.append(label_of(item, name, names[0]))
                item = item[0]
            sample = as_inputs(stack([item], [name]))
            if _layout(sample) != _layout(layout):
                stack([first[0] if labelled else first, item], [names[0], name])  # says what is unlike
                raise DataError(f"sample {name!r} holds numbers of another type than {names[0]!r}; make all alike.")
            table[row] = digests_of(sample)[0]
        if one_hot:
            refuse_one_hot(first, names[0])
        meta = map_inputs(lambda t: torch.empty((len(names), *t.shape[1:]), dtype=t.dtype, device="meta"), layout)
        targets = torch.from_numpy(np.asarray(labels)) if labelled else None
        return cls(dataset, names, numbers, meta, table, labelled), targets

    def read(self, rows: Int64[Tensor, "b"]) -> Inputs:
        """Read items. Raises: DataError: naming the one that cannot be read."""
        items = []
        for row in rows.tolist():
            try:
                item = self.dataset[int(self.numbers[row])]
            except Exception as error:
                reason = str(error) if isinstance(error, SartorError) else f"{type(error).__name__}: {error}"
                raise DataError(f"sample {self.describe(row)} cannot be read ({reason}).") from error
            items.append(item[0] if self.labelled else item)
        return as_inputs(stack(items, [self.names[row] for row in rows.tolist()]))

    def digests(self, rows: Int64[Tensor, "b"]) -> UInt8[np.ndarray, "b 32"]:
        """Return the digests of these samples as they were at first."""
        return self.table[rows.numpy()]

    def describe(self, row: int) -> str:
        """Name a sample by its id and its number in the dataset."""
        return f"{self.names[row]!r} (item {int(self.numbers[row])} of {type(self.dataset).__name__})"


def _layout(inputs: Inputs) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    return [(name, tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in named_tensors(inputs)]


def _is_single(value: Any) -> bool:
    """Tell whether a value is one number; of shape (1,) only if it is a whole one."""
    if isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0:
        return True
    if not isinstance(value, (np.ndarray, Tensor)) or value.shape != (1,):
        return False
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    return value.dtype != torch.bool and not value.is_floating_point() and not value.is_complex()
