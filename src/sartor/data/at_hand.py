"""Whatever is at hand, made a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sartor.data.arrays import is_one_hot
from sartor.data.pool import Pool
from sartor.data.preprocess import Preprocess
from sartor.errors import DataError


def as_pool(data: Any, *, preprocess: Preprocess | None = None, classes: int | None = None) -> Pool:
    """Make a pool of whatever is at hand: a Pool, a pair (x, y), a map-style dataset, or inputs without labels.

    A tuple of two whose second is a 1-d array (or list) of whole numbers, or one of shape (n, 1), or None, is a pair.
    Raises: DataError: for anything else, and as `Pool.from_arrays`.
    """
    if isinstance(data, Pool):
        if preprocess is not None or classes is not None:
            raise DataError("the data are a Pool already, so preprocess and classes have no effect; leave them out.")
        return data
    if isinstance(data, tuple) and len(data) == 2:
        if data[1] is None or _is_label_vector(data[1]):
            return Pool.from_arrays(data[0], data[1], preprocess=preprocess, classes=classes)
        if getattr(data[1], "ndim", None) == 1:
            cure = "labels must be whole numbers; for two inputs call Pool.from_arrays"
            raise DataError(f"the second of the pair is a 1-d array of {data[1].dtype}; {cure}.")
        if is_one_hot(data[1]):
            cure = "give the classes, y.argmax(1); for two inputs call Pool.from_arrays"
            raise DataError(f"the second of the pair is one-hot, of shape {tuple(data[1].shape)}; {cure}.")
    if isinstance(data, (Tensor, np.ndarray, tuple, dict)):
        return Pool.from_arrays(data, preprocess=preprocess, classes=classes)
    sequence = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes))
    if isinstance(data, Dataset) or sequence:
        return Pool.from_dataset(data, preprocess=preprocess, classes=classes)
    raise DataError(f"data are {type(data).__name__}; give a Pool, a pair (x, y), a map-style dataset or arrays.")


def _is_label_vector(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(label, (int, np.integer)) for label in value)
    integer = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    integer = integer or (isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool)
    return integer and (value.ndim == 1 or (value.ndim == 2 and value.shape[1] == 1))
