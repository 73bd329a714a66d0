"""Data sets of one file: arrays in an npz file, a table of numbers in a csv file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from sartor.data.arrays import check_ids, is_one_hot
from sartor.data.formats import Splits
from sartor.data.parts import TEST_SHARE, cut_test
from sartor.data.pool import Pool
from sartor.data.preprocess import Preprocess
from sartor.data.records import Records, as_number, class_labels, existing_file, read_csv
from sartor.errors import DataError, check_choice
from sartor.registry import DATASETS

TARGETS = ("label", "target", "class")
"""Columns that hold the class if no other is named."""
CATEGORIES = 20
"""A column of words with at most so many different ones becomes a column of 0 and 1 for each."""
_NO_CLASS = "it must hold classes, as words or whole numbers; name the column of classes with target=NAME"
_PAIRS = ("x_train", "y_train", "x_test", "y_test")
_SINGLE = ("inputs", "targets", "ids")


@DATASETS.register("npz")
def npz(root: str | Path | None = None, test: float = TEST_SHARE) -> Splits:
    """Arrays in an npz file: x_train, y_train, x_test, y_test, or inputs and targets (and ids) to be split.

    Bytes of shape (n, height, width), (n, height, width, channels) or (n, channels, height, width) are images and are
    normalised; other bytes, truth values and half-precision numbers reach the network as float32, all else as it is.
    Labels are whole numbers from 0, or names.
    Raises: DataError: naming what is damaged, missing or not understood.
    """
    path = existing_file("npz", root)
    arrays = read_npz(path)
    if "inputs" in arrays:
        inputs, targets = images_first(arrays["inputs"]), label_vector(path, [arrays["targets"]])
        given = [str(name) for name in arrays["ids"].reshape(-1).tolist()] if "ids" in arrays else None
        return array_splits(path, inputs, targets, check_ids(given, len(inputs)), [""] * len(inputs), test)
    members = {part: images_first(arrays[f"x_{part}"]) for part in ("test", "train")}  # in the order of their ids
    found = [f"{member.dtype} {member.shape[1:]}" for member in members.values()]
    if found[0] != found[1]:
        raise DataError(f"{path} has x_test of {found[0]} and x_train of {found[1]}; make them alike.")
    targets = label_vector(path, [arrays["y_test"], arrays["y_train"]])
    parts = [part for part, member in members.items() for _ in member]
    ids = [f"{part}/{number:06d}" for part, member in members.items() for number in range(len(member))]
    return array_splits(path, np.concatenate(list(members.values())), targets, ids, parts, test)


@DATASETS.register("csv")
def csv(
    root: str | Path | None = None,
    target: str | None = None,
    id: str | None = None,
    separator: str = ",",
    test: float = TEST_SHARE,
) -> Splits:
    """A table in a csv file: a line of column names, then a line for each sample; one column holds its class.

    `target` is by default the column label, target or class, else the last one, with a warning; `id` by default the
    column id, else lines are numbered. A column `split` tells train from test. Capital letters in names have no effect.
    Numbers are standardised by the training samples' mean and std; a column of up to 20 different words becomes a
    column of 0 and 1 for each.
    Raises: DataError: naming line and column of what is missing or no number.
    """
    path = existing_file("csv", root)
    table = read_csv(path, separator)
    if target is None and (listed := table.find("path")):
        raise DataError(f"{path} has a column {listed}; a list of pictures is read with --data manifest --root {path}.")
    goal = _column(table, "target", target, TARGETS) or _last_column(table)
    key = _column(table, "id", id, ("id",))
    table, ids = table.ordered(key)
    labels, names = class_labels(_classes(table, goal))
    targets = torch.tensor(labels)
    train, held = cut_test(ids, targets, table.parts(), test)
    apart = (goal, key, table.find("split"))
    columns = [_values(table, name, train) for name in table.names if name not in apart]
    if not columns:
        raise DataError(f"{path} has no column beside {goal!r} to learn from; give at least one.")
    pool = Pool.from_arrays(torch.cat(columns, dim=1), targets, ids=ids, class_names=names)
    return Splits("csv", pool.only(train), pool.only(held))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file. Raises: DataError: if it is damaged, or holds other arrays than are known."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = tuple(file.files)
            if set(names) not in (set(_PAIRS), set(_SINGLE), set(_SINGLE[:2])):
                wanted = f"{', '.join(_PAIRS)}, or {', '.join(_SINGLE)} (ids may be left out)"
                raise DataError(f"{path} holds {', '.join(names) or 'nothing'}; it must hold {wanted}.")
            arrays = {name: file[name] for name in names}
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{path} cannot be read ({error}); save plain arrays with np.savez.") from error
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) == 0:
            raise DataError(f"{path} has no samples in {name}; give at least one.")
    return arrays


def images_first(array: np.ndarray) -> np.ndarray:
    """Give images of bytes their channel axis, and bring it to the front; other arrays stay as they are."""
    if array.dtype == np.uint8 and array.ndim == 3:
        return array[:, None]
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] > 4:
        return np.ascontiguousarray(np.moveaxis(array, 3, 1))
    return array


def label_vector(path: Path, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Join labels, of shape (n,) or (n, 1). Raises: DataError: unless they are whole numbers, or names."""
    flat = [array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in arrays]
    for array in flat:
        if is_one_hot(array):
            raise DataError(f"{path} has one-hot labels of shape {array.shape}; give array.argmax(1).")
        if array.ndim != 1 or array.dtype.kind not in "iuU" or array.dtype.kind != flat[0].dtype.kind:
            cure = "give whole numbers from 0, or names, in shape (n,)"
            raise DataError(f"{path} has labels of {array.dtype} in shape {array.shape}; {cure}.")
    return np.concatenate(flat)


def array_splits(
    path: Path, inputs: np.ndarray, labels: np.ndarray, ids: list[str], parts: list[str], test: float
) -> Splits:
    """Make the pools of arrays: two views of one pool, images normalised by the mean and std of training."""
    if len(labels) != len(inputs):
        raise DataError(f"{path} has {len(inputs)} inputs and {len(labels)} labels; give one for each.")
    names = None
    if labels.dtype.kind == "U":
        numbers, names = class_labels(labels.tolist())
        labels = np.asarray(numbers)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    if order != list(range(len(ids))):
        inputs, labels, ids = inputs[order], labels[order], [ids[place] for place in order]
        parts = [parts[place] for place in order]
    train, held = cut_test(ids, torch.from_numpy(labels.astype(np.int64)), parts, test)
    images = inputs.dtype == np.uint8 and inputs.ndim == 4
    preprocess = Preprocess.measure(torch.from_numpy(inputs[train.numpy()])) if images else None
    pool = Pool.from_arrays(inputs, labels, ids=ids, class_names=names, preprocess=preprocess)
    return Splits("npz", pool.only(train), pool.only(held))


def _column(table: Records, role: str, given: str | None, usual: Sequence[str]) -> str | None:
    """Return the column for a role: the one that was named, or the only one of its usual names, in any letters."""
    if given is not None:
        found = (
            [given] if given in table.places else [name for name in table.names if name.casefold() == given.casefold()]
        )
        if len(found) != 1:
            check_choice(role, given, table.names)
        return found[0]
    present = [name for name in table.names if name.casefold() in usual]
    found = sorted(present, key=lambda name: usual.index(name.casefold()))
    if len(found) > 1:
        raise DataError(f"{table.path} has columns {' and '.join(found)}; say which one is meant with {role}=NAME.")
    return found[0] if found else None


def _last_column(table: Records) -> str:
    """Return the last column, but for id and split, as that of the classes, with a warning."""
    name = next((name for name in table.names[::-1] if name.casefold() not in ("id", "split")), table.names[-1])
    warnings.warn(
        f"{table.path} has no column {', '.join(TARGETS)}; the last one, {name!r}, is taken for the classes. "
        "Another one is named with target=NAME.",
        stacklevel=4,
    )
    return name


def _classes(table: Records, name: str) -> list[Any]:
    """Return the column of classes. Raises: DataError: if it holds measurements, or one class, or one for each line."""
    values = table.complete(name)
    for row, value in zip(table.rows, values, strict=True):
        number = as_number(value)
        if number is not None and not number.is_integer():
            raise DataError(f"{table.path} has {value} in column {name!r}, line {row.line}; {_NO_CLASS}.")
    count = len(class_labels(values)[1])
    if count < 2 or count == len(values):
        raise DataError(
            f"{table.path} has {count} different values in column {name!r}, {len(values)} lines; {_NO_CLASS}."
        )
    return values


def _values(table: Records, name: str, train: Int64[Tensor, "k"]) -> Float[Tensor, "n columns"]:
    """Return a column as numbers, standardised, or as one column of 0 and 1 for each of its words.

    Raises: DataError: naming the line of what is missing, or no number where most others are.
    """
    values = table.complete(name)
    numbers = [as_number(value) for value in values]
    odd = [place for place, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    if not odd:
        return _standardised(torch.tensor(numbers, dtype=torch.float64), train)[:, None]
    if 2 * len(odd) < len(values):
        found = f"{values[odd[0]]!r} in column {name!r}, line {table.rows[odd[0]].line}"
        raise DataError(f"{table.path} has {found}, which is no finite number; mend it, or take the line out.")
    words = sorted(set(map(str, values)))
    if len(words) > CATEGORIES:
        cure = f"only {CATEGORIES} can be told apart; take the column out, or make numbers of it"
        raise DataError(f"{table.path} has {len(words)} different words in column {name!r}; {cure}.")
    return torch.tensor([[float(str(value) == word) for word in words] for value in values])


def _standardised(column: Float64[Tensor, "n"], train: Int64[Tensor, "k"]) -> Float32[Tensor, "n"]:
    """Subtract the mean of the training samples and divide by their (population) std, 1 where they are all the same."""
    known = column[train]
    spread = 1.0 if known.min() == known.max() else float(known.std(correction=0))
    return ((column - known.mean()) / spread).float()
