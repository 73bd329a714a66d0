"""Scan: what a model has seen of a pool at one moment, and all that a selector may look at."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from sartor.errors import SelectionError
from sartor.head import no_linear_head

if TYPE_CHECKING:
    from sartor.history import History

Array = Tensor | NDArray[Any]
TABLES = ("logits", "features", "gradients")
"""Parts with a row of numbers for each sample."""
SUPPLIERS: Mapping[str, str] = {
    "logits": "scan the pool with needs={'logits'}, or give Scan.from_arrays(logits=...)",
    "features": "scan the pool with needs={'features'}, or give Scan.from_arrays(features=...)",
    "targets": "use a pool with targets and needs={'targets'}, or give Scan.from_arrays(targets=...)",
    "members": "give scan(..., dropout_passes=...) or scan(..., committee=...), or Scan.from_arrays(members=...), one "
    "scan for each dropout pass, snapshot or network",
    "validation": "give scan(..., validation=POOL), or Scan.from_arrays(validation=...)",
    "labelled": "give scan(..., labelled=POOL), or Scan.from_arrays(labelled=...), a scan of the samples with labels",
    "history": "give scan(..., history=...) or Scan.from_arrays(history=...), the sartor.History of a training",
    "gradients": "give Scan.from_arrays(gradients=...), one row for each sample",
    "gradient_norms": "scan the pool with needs={'gradient_norms'}, or give Scan.from_arrays(gradient_norms=...)",
    "progress": "give scan(..., progress=...), the share of the training that is done",
    "lr": "give scan(..., lr=...), the learning rate of the moment",
}
"""All parts that a scan can hold, and what to do where one is missing."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A pool as a model sees it at one moment: per-sample parts in the order of `rows`, on the CPU.

    Reading a part that is not there raises SelectionError, which says who supplies it. Positions count within the
    scan; rows are those of the root pool, ascending. Make one with `scan` or with `Scan.from_arrays`. Tables are
    float32 or, if they came so, in half precision, and stay where they are, in a memory-mapped file say: read them by
    `logits_of`, `features_of`, `errors`, a block or a class at a time, and only that is ever in memory as float32.
    """

    rows: Int64[Tensor, "n"]
    parts: Mapping[str, Any]
    bias: bool | None = True
    """Whether the Linear that makes the logits has a bias; None where another module takes the features in."""

    @classmethod
    def from_arrays(
        cls,
        *,
        logits: Array | None = None,
        features: Array | None = None,
        targets: Array | None = None,
        rows: Array | None = None,
        head_bias: bool | None = True,
        members: Sequence[Scan] = (),
        validation: Scan | None = None,
        labelled: Scan | None = None,
        history: History | None = None,
        gradients: Array | None = None,
        gradient_norms: Array | None = None,
        progress: float | None = None,
        lr: float | None = None,
    ) -> Scan:
        """Make a scan of arrays or tensors that were computed elsewhere; rows default to 0, 1, 2, ...

        Rows may come in any order: the samples are sorted by row. Where they are in order, nothing is copied: an array
        may be memory-mapped (`numpy.load(..., mmap_mode="r")`) and larger than the memory.
        Raises: SelectionError: for lengths that differ, rows given twice, values that are not finite, labels out of
            range (all name the rows).
        """
        samples = {"logits": logits, "features": features, "targets": targets, "gradients": gradients}
        samples["gradient_norms"] = gradient_norms
        arrays = {name: _as_tensor(array) for name, array in samples.items() if array is not None}
        others: dict[str, Any] = {
            "validation": validation,
            "labelled": labelled,
            "history": history,
            "progress": progress,
            "lr": lr,
        }
        given = {name: value for name, value in others.items() if value is not None}
        if members:
            given["members"] = tuple(members)
        size = len(next(iter(arrays.values()))) if arrays else len(members[0]) if members else 0
        index, order = _as_row_index(torch.arange(size) if rows is None else torch.as_tensor(rows).cpu())
        _check_shapes(arrays, len(index))
        parts = {**given, **{name: array if order is None else array[order] for name, array in arrays.items()}}
        return cls(index, checked_parts(parts, index, as_rows), head_bias)

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, part: str) -> bool:
        """Tell whether the scan holds a part."""
        return part in self.parts

    def _part(self, name: str) -> Any:
        if name not in self.parts:
            raise SelectionError(f"the scan has no {name}; {SUPPLIERS[name]}.")
        return self.parts[name]

    @property
    def logits(self) -> Float[Tensor, "n c"]:
        """What the model says of each sample, before softmax; maybe in half precision."""
        return self._part("logits")

    def logits_of(self, index: slice | Int64[Tensor, "b"]) -> Float32[Tensor, "b c"]:
        """Return the logits of some positions in float32."""
        return self.logits[index].float()

    def probabilities(self, index: slice | Int64[Tensor, "b"]) -> Float32[Tensor, "b c"]:
        """Return the softmax of the logits of some positions."""
        return self.logits_of(index).softmax(1)

    @property
    def features(self) -> Float[Tensor, "n d"]:
        """What goes into the head: the Linear that makes the logits, or another module that was named."""
        return self._part("features")

    def features_of(self, index: slice | Int64[Tensor, "b"]) -> Float32[Tensor, "b d"]:
        """Return the features of some positions in float32."""
        return self.features[index].float()

    @property
    def head_bias(self) -> bool:
        """Whether the head's gradient has a bias row. Raises: SelectionError: where the head is no Linear."""
        if self.bias is None:
            raise no_linear_head()
        return self.bias

    @property
    def targets(self) -> Int64[Tensor, "n"]:
        """Given labels, wrong ones included."""
        return self._part("targets")

    @property
    def members(self) -> tuple[Scan, ...]:
        """Scans of the same rows by other networks: snapshots, dropout passes, a committee."""
        return self._part("members")

    @property
    def validation(self) -> Scan:
        """A scan of held-out samples by the same model."""
        return self._part("validation")

    @property
    def labelled(self) -> Scan:
        """A scan, by the same model, of the samples that have labels already."""
        return self._part("labelled")

    @property
    def history(self) -> History:
        """Records of the training so far, of the scan's samples and in their order."""
        return self._part("history").of(self.rows)

    @property
    def gradients(self) -> Float[Tensor, "n p"]:
        """Per-sample gradients, where a caller computed them."""
        return self._part("gradients")

    @property
    def gradient_norms(self) -> Float[Tensor, "n"]:
        """Euclidean norm of each sample's gradient in all weights of the network."""
        return self._part("gradient_norms")

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return self._part("progress")

    @property
    def lr(self) -> float:
        """Learning rate of the moment."""
        return self._part("lr")

    @property
    def classes(self) -> int:
        """Number of classes: of the logits, of the members' logits, or else the largest label and one."""
        if not self.has("logits") and self.has("members"):
            return self.members[0].classes
        return self.logits.shape[1] if self.has("logits") else int(self.targets.max()) + 1

    def at(self, rows: Int64[Tensor, "m"]) -> Int64[Tensor, "m"]:
        """Return the positions of root rows. Raises: SelectionError: for a row that the scan does not hold."""
        positions = torch.searchsorted(self.rows, rows).clamp(max=len(self) - 1)
        missing = rows[self.rows[positions] != rows]
        if len(missing):
            raise SelectionError(f"the scan does not hold {few(as_rows(missing))}; ask for rows of scan.rows.")
        return positions

    def errors(self, index: slice | Int64[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Return softmax - onehot (float32) of some positions: the gradient of cross-entropy in the logits.

        Computed when asked for and never kept: ask by block or by class.
        """
        errors = self.probabilities(index)
        errors[torch.arange(len(errors)), self.targets[index]] -= 1
        return errors

    def blocks(self, size: int = 16384) -> Iterator[slice]:
        """Yield slices that cover all positions, so that large scans are worked through in little memory."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


def as_rows(rows: Tensor) -> list[str]:
    """Name rows where there are no ids."""
    return [f"row {row}" for row in rows.tolist()]


def few(names: Sequence[str]) -> str:
    """Name three, and tell how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _as_tensor(array: Array) -> Tensor:
    """Return a tensor on the CPU that shares an array's memory, be it only to be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.as_tensor(array).detach().cpu()


def _as_row_index(rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return rows in ascending order, and the order that sorts them; None where they are sorted."""
    if rows.numel() == 0:
        raise SelectionError("the scan holds no samples; give logits, features, targets or rows.")
    if rows.ndim != 1 or rows.is_floating_point():
        raise SelectionError(
            f"rows are {rows.dtype} {tuple(rows.shape)}; a scan needs a list of whole numbers, 1 or more."
        )
    rows = rows.to(torch.int64)
    order = None
    if bool((rows[1:] < rows[:-1]).any()):
        rows, order = rows.sort(stable=True)
    bad = (rows < 0) | torch.cat([torch.tensor([False]), rows[1:] == rows[:-1]])
    if bool(bad.any()):
        raise SelectionError(f"{few(as_rows(rows[bad]))} cannot be used; rows are distinct and not negative.")
    return rows, order


def _check_shapes(arrays: Mapping[str, Tensor], n: int) -> None:
    for name, array in arrays.items():
        flat = name not in TABLES
        if array.ndim != (1 if flat else 2) or len(array) != n:
            shape = "(n,)" if flat else "(n, values)"
            raise SelectionError(
                f"{name} have shape {tuple(array.shape)}; give {shape}, with n = {n}, one for each row."
            )


def checked_parts(parts: dict[str, Any], rows: Tensor, naming: Callable[[Tensor], list[str]]) -> dict[str, Any]:
    """Return the parts with numbers as floats and labels as int64, their values checked a block at a time."""
    for name in (*TABLES, "gradient_norms"):
        if name not in parts:
            continue
        if parts[name].dtype not in (torch.float32, torch.float16, torch.bfloat16):
            parts[name] = parts[name].float()
        for values, which in zip(parts[name].split(16384), rows.split(16384)):
            bad = ~values.isfinite().reshape(len(values), -1).all(dim=1)
            if bool(bad.any()):
                found = few(naming(which[bad]))
                raise SelectionError(
                    f"the {name} of {found} are not finite; the network has diverged, or mend those samples."
                )
    if "targets" in parts:
        parts["targets"] = _checked_targets(parts["targets"], parts.get("logits"), rows, naming)
    if any(not torch.equal(member.rows, rows) for member in parts.get("members", ())):
        raise SelectionError("the members of the scan hold other rows than the scan; scan the same pool with each.")
    if not 0 <= parts.get("progress", 0.0) <= 1:
        raise SelectionError(f"progress is {parts['progress']:g}; it must lie in [0, 1], the share of training done.")
    return parts


def _checked_targets(
    targets: Tensor, logits: Tensor | None, rows: Tensor, naming: Callable[[Tensor], list[str]]
) -> Tensor:
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise SelectionError(f"targets are {targets.dtype}; they must be whole numbers from 0.")
    targets = targets.to(torch.int64)
    classes = logits.shape[1] if logits is not None else int(np.iinfo(np.int64).max)
    bad = (targets < 0) | (targets >= classes)
    if bool(bad.any()):
        found = few([f"{name} has {label}" for name, label in zip(naming(rows[bad]), targets[bad].tolist())])
        allowed = f"[0, {classes - 1}]" if logits is not None else "0, 1, 2, ..."
        raise SelectionError(f"labels out of range: {found}; they must lie in {allowed}, the model's classes.")
    return targets
