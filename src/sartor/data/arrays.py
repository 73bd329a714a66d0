"""What people bring (arrays, tensors, tuples, dicts, dataset items), made into tensors with a leading sample axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sartor.data.preprocess import Preprocess
from sartor.errors import DataError
from sartor.types import Inputs

_NARROW = {torch.float16, torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16}
_ACCEPTED = "a tensor, a numpy array, or a tuple or dict of these"


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply `function` to each tensor of the inputs and keep their structure."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {name: function(member) for name, member in inputs.items()}
    return tuple(function(member) for member in inputs)


def named_tensors(inputs: Inputs) -> list[tuple[str, Tensor]]:
    """List the tensors of the inputs with the names that messages use: inputs, inputs[0], inputs['mask']."""
    if isinstance(inputs, Tensor):
        return [("inputs", inputs)]
    items = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
    return [(f"inputs[{key!r}]", member) for key, member in items]


def not_finite(inputs: Inputs) -> Bool[Tensor, "b"]:
    """Return which samples hold a NaN or an infinity."""
    tables = [tensor.reshape(len(tensor), prod(tensor.shape[1:])) for _, tensor in named_tensors(inputs)]
    return torch.stack([~table.isfinite().all(1) for table in tables]).any(0)


def as_inputs(inputs: Any) -> Inputs:
    """Make CPU tensors of arrays; a tuple of one is its only member.

    Raises: DataError: for other types, an empty tuple or dict, a member without a sample axis, or differing lengths.
    """
    made: Inputs
    if isinstance(inputs, Mapping) and inputs:
        made = {str(name): as_tensor(member, f"inputs[{name!r}]") for name, member in inputs.items()}
    elif isinstance(inputs, tuple) and inputs:
        members = tuple(as_tensor(member, f"inputs[{i}]") for i, member in enumerate(inputs))
        made = members if len(members) > 1 else members[0]
    else:
        made = as_tensor(inputs, "inputs")
    tensors = named_tensors(made)
    for name, tensor in tensors:
        if tensor.ndim == 0:
            raise DataError(f"{name} is a single number; its first axis must count the samples.")
        if len(tensor) != len(tensors[0][1]):
            first = f"{tensors[0][0]} has {len(tensors[0][1])}"
            raise DataError(f"{name} has {len(tensor)} samples but {first}; give all of them the same number.")
    return made


def as_tensor(value: Any, name: str) -> Tensor:
    """Make a CPU tensor of an array, sharing its memory where possible.

    Numbers of 64-bit floating point become torch's default dtype, which is what networks are made of.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            cure = f"{name} must be numbers; make them so with .astype"
            raise DataError(f"{name} is an array of {value.dtype}; {cure}.")
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        shareable = native.flags.writeable and all(stride >= 0 for stride in native.strides)
        tensor = torch.from_numpy(native if shareable else native.copy())
    elif isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise DataError(f"{name} is a {value.layout} tensor; make it dense with .to_dense().")
        tensor = value.detach().cpu()
    else:
        raise DataError(f"{name} is {type(value).__name__}; it must be {_ACCEPTED}.")
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def as_targets(targets: Any, ids: Sequence[str], classes: int | None) -> Int64[Tensor, "n"]:
    """Check labels, whole numbers from 0 with -1 where missing, and return them as the pool's own int64 tensor.

    Labels of shape (n, 1) are taken as (n,).
    Raises: DataError: for another dtype, shape or length, one-hot labels, a label below -1, or one out of `classes`.
    """
    tensor = as_tensor(np.asarray(targets) if isinstance(targets, list) else targets, "targets")
    if is_one_hot(tensor):
        raise DataError(f"targets are one-hot, of shape {tuple(tensor.shape)}; give the classes, targets.argmax(1).")
    tensor = tensor.squeeze(1) if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        cure = "they must be whole numbers from 0, with -1 where missing; convert them with .astype('int64')"
        raise DataError(f"targets are {tensor.dtype}; {cure}.")
    if tensor.ndim != 1 or len(tensor) != len(ids):
        raise DataError(
            f"targets have shape {tuple(tensor.shape)}; there are {len(ids)} samples, so give ({len(ids)},)."
        )
    labels = tensor.to(torch.int64).clone()
    _refuse(labels, ids, labels < -1, "labels are whole numbers from 0, and -1 where missing")
    if classes is not None:
        _refuse(labels, ids, labels >= classes, f"with {classes} classes it must be in 0..{classes - 1}")
    return labels


def stack(items: Sequence[Any], ids: Sequence[str], name: str = "inputs") -> Any:
    """Collate the items of a dataset: numbers and arrays are stacked, tuples and dicts member by member.

    Raises: DataError: if items differ in structure or shape, naming two ids and what each holds.
    """
    first = items[0]
    if isinstance(first, (tuple, list, Mapping)):
        keys = list(first) if isinstance(first, Mapping) else list(range(len(first)))
        described = _describe(first)
        for item, sample in zip(items, ids, strict=True):
            if (found := _describe(item)) != described:
                raise DataError(_unlike(name, sample, found, ids[0], described))
        members = {key: stack([item[key] for item in items], ids, f"{name}[{key!r}]") for key in keys}
        return members if isinstance(first, Mapping) else tuple(members.values())
    tensors = [_item_tensor(item, sample, name) for item, sample in zip(items, ids, strict=True)]
    for tensor, sample in zip(tensors, ids, strict=True):
        if tensor.shape != tensors[0].shape:
            found, expected = (f"of shape {tuple(t.shape)}" for t in (tensor, tensors[0]))
            raise DataError(_unlike(name, sample, found, ids[0], expected))
    return torch.stack(tensors)


def is_one_hot(table: Any) -> bool:
    """Tell whether an array or tensor looks like one-hot labels: (n, 2 or more), a 1 among zeros in each row."""
    if getattr(table, "ndim", None) != 2 or len(table) == 0 or table.shape[1] < 2:
        return False
    if isinstance(table, np.ndarray) and table.dtype.kind not in "biuf":
        return False
    parts = (table[:64], table)  # most tables are told by their first rows
    return all(bool(((part == 0) | (part == 1)).all() and ((part == 1).sum(1) == 1).all()) for part in parts)


def as_numbers(inputs: Inputs) -> Inputs:
    """Make float32 of what a network of float32 cannot take.

    That is half-precision numbers anywhere, and a lone tensor of truth values or of whole numbers of 8 or 16 bits; as a
    member of several these may be masks. Whole numbers of 32 and 64 bits stay, for they may be tokens.
    """
    narrow = _NARROW if isinstance(inputs, Tensor) else {torch.float16}
    return map_inputs(lambda tensor: tensor.float() if tensor.dtype in narrow else tensor, inputs)


def is_image(tensor: Tensor) -> bool:
    """Tell whether a tensor holds images as bytes: uint8 of shape (n, channels, height, width)."""
    return tensor.dtype == torch.uint8 and tensor.ndim == 4


def check_ids(ids: Sequence[str] | None, n: int) -> list[str]:
    """Return the ids, by default the index padded with zeros. Raises: DataError: unless they are n strings."""
    if ids is None:
        return [str(i).zfill(len(str(n - 1))) for i in range(n)]
    names: list[str] = list(ids)
    if len(names) != n:
        raise DataError(f"there are {len(names)} ids for {n} samples; give one id for each.")
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"id {name!r} is {type(name).__name__}; ids are strings, so give str({name!r}).")
    return names


def id_order(ids: list[str]) -> Int64[Tensor, "n"] | None:
    """Return the order that sorts the ids, or None if they are sorted. Raises: DataError: for ids that repeat."""
    if all(map(str.__lt__, ids, ids[1:])):
        return None
    order = sorted(range(len(ids)), key=ids.__getitem__)
    repeated = sorted({ids[a] for a, b in pairwise(order) if ids[a] == ids[b]})
    if repeated:
        shown = ", ".join(map(repr, repeated[:3])) + (", ..." if len(repeated) > 3 else "")
        raise DataError(f"{len(repeated)} ids are given more than once ({shown}); each sample needs its own.")
    return torch.tensor(order)


def check_classes(classes: int | None, class_names: Sequence[str] | None) -> int | None:
    """Return the number of classes, if it is given. Raises: DataError: if it contradicts the names."""
    if class_names is not None and classes is not None and len(class_names) != classes:
        raise DataError(f"there are {len(class_names)} class names for {classes} classes; give one name for each.")
    limit = classes if class_names is None else len(class_names)
    if limit is not None and limit < 1:
        raise DataError(f"the number of classes is {limit}; it must be at least 1.")
    return limit


def check_images(inputs: Inputs, preprocess: Preprocess | None) -> None:
    """Refuse what looks like images with a missing or misplaced channel axis, and a preprocess that misses."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 4:
        shape = tuple(inputs.shape)
        if shape[3] in (1, 3, 4) and min(shape[1:3]) > 4:
            wanted = "the network takes (n, channels, height, width)"
            raise DataError(f"inputs are {inputs.dtype} of shape {shape}; {wanted}, so give .transpose(0, 3, 1, 2).")
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8:
        shape = tuple(inputs.shape)
        wanted = "images are (n, channels, height, width)"
        if inputs.ndim == 3:
            raise DataError(f"inputs are torch.uint8 of shape {shape}; {wanted}, so add an axis with inputs[:, None].")
        if inputs.ndim == 4 and shape[3] in (1, 3, 4) and shape[1] > 4:
            raise DataError(f"inputs are torch.uint8 of shape {shape}; {wanted}, so move the last axis to place 1.")
    if preprocess is None:
        return
    images = [(name, tensor) for name, tensor in named_tensors(inputs) if is_image(tensor)]
    if not images:
        found = ", ".join(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in named_tensors(inputs))
        raise DataError(f"preprocess is for torch.uint8 images of shape (n, channels, height, width); found {found}.")
    for name, tensor in images:
        if len(preprocess.mean) not in (1, tensor.shape[1]):
            raise DataError(
                f"{name} has {tensor.shape[1]} channels but preprocess {len(preprocess.mean)}; make them equal."
            )


def _item_tensor(item: Any, sample: str, name: str) -> Tensor:
    if isinstance(item, (bool, int, float, np.generic)):
        return torch.as_tensor(item)
    if not isinstance(item, (Tensor, np.ndarray)):
        cure = f"each must be {_ACCEPTED}; give the dataset a transform that makes one"
        raise DataError(f"{name} of sample {sample!r} is {type(item).__name__}; {cure}.")
    return as_tensor(item, f"{name} of sample {sample!r}")


def _describe(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a dict of {', '.join(map(repr, sorted(item, key=str)))}"
    return f"a tuple of {len(item)}" if isinstance(item, (tuple, list)) else f"a {type(item).__name__}"


def _unlike(name: str, sample: str, found: str, first: str, expected: str) -> str:
    return f"{name} of sample {sample!r} is {found} but that of {first!r} is {expected}; make all samples alike."


def _refuse(labels: Int64[Tensor, "n"], ids: Sequence[str], bad: Tensor, rule: str) -> None:
    wrong = bad.nonzero().squeeze(1).tolist()
    if wrong:
        more = f" ({len(wrong)} such labels)" if len(wrong) > 1 else ""
        raise DataError(f"sample {ids[wrong[0]]!r} has label {int(labels[wrong[0]])}; {rule}{more}.")
