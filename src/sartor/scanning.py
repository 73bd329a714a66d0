"""Scan: what one pass of a model over a pool has seen, and all that a selector may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from sartor.costs import count_flops
from sartor.data.loader import Batch, Loader
from sartor.data.pool import Pool
from sartor.dist import World
from sartor.errors import ConfigError, SelectionError, nearest
from sartor.head import HeadTap, no_linear_head
from sartor.memory import fitting
from sartor.precision import Precision, arithmetic, has_bf16, pick_precision
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

Array = Tensor | NDArray[Any]
FORWARD_PARTS = frozenset({"logits", "features"})
"""Parts that cost a forward pass over the pool."""
SUPPLIERS: Mapping[str, str] = {
    "logits": "scan the pool with needs={'logits'}, or give Scan.from_arrays(logits=...)",
    "features": "scan the pool with needs={'features'}, or give Scan.from_arrays(features=...)",
    "targets": "use a pool with targets and needs={'targets'}, or give Scan.from_arrays(targets=...)",
    "members": "give Scan.from_arrays(members=...), one scan for each snapshot, dropout pass or network",
    "validation": "give scan(..., validation=POOL), or Scan.from_arrays(validation=...)",
    "labelled": "give Scan.from_arrays(labelled=...), the rows that have labels already",
    "history": "give Scan.from_arrays(history=...), the records of the training so far",
    "gradients": "give Scan.from_arrays(gradients=...), one row for each sample",
    "progress": "give scan(..., progress=...), the share of the training that is done",
    "lr": "give scan(..., lr=...), the learning rate of the moment",
}
"""All parts that a scan can hold, and what to do where one is missing."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A pool as a model sees it at one moment: per-sample parts in the order of `rows`, on the CPU.

    Reading a part that is not there raises SelectionError, which says who supplies it. Positions count within the
    scan; rows are those of the root pool, ascending. Make one with `scan` or with `Scan.from_arrays`.
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
        labelled: Array | None = None,
        history: Any = None,
        gradients: Array | None = None,
        progress: float | None = None,
        lr: float | None = None,
    ) -> Scan:
        """Make a scan of arrays or tensors that were computed elsewhere; rows default to 0, 1, 2, ...

        Rows may come in any order: the samples are sorted by row.
        Raises: SelectionError: for lengths that differ, rows given twice, values that are not finite, labels out of
            range (all name the rows).
        """
        samples = {"logits": logits, "features": features, "targets": targets, "gradients": gradients}
        arrays = {name: torch.as_tensor(array).detach().cpu() for name, array in samples.items() if array is not None}
        others = {"validation": validation, "history": history, "progress": progress, "lr": lr}
        given = {name: value for name, value in others.items() if value is not None}
        if labelled is not None:
            given["labelled"] = torch.as_tensor(labelled).cpu().to(torch.int64)
        if members:
            given["members"] = tuple(members)
        size = len(next(iter(arrays.values()))) if arrays else len(members[0]) if members else 0
        index, order = _as_row_index(torch.arange(size) if rows is None else torch.as_tensor(rows).cpu())
        _check_shapes(arrays, len(index))
        parts = {**given, **{name: array[order] for name, array in arrays.items()}}
        return cls(index, _checked(parts, index, _as_rows), head_bias)

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
        """What the model says of each sample, before softmax."""
        return self._part("logits")

    @property
    def features(self) -> Float[Tensor, "n d"]:
        """What goes into the head: the Linear that makes the logits, or another module that was named."""
        return self._part("features")

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
    def labelled(self) -> Int64[Tensor, "m"]:
        """Root rows that have labels already."""
        return self._part("labelled")

    @property
    def history(self) -> Any:
        """Per-sample records of the training so far."""
        return self._part("history")

    @property
    def gradients(self) -> Float[Tensor, "n p"]:
        """Per-sample gradients, where a caller computed them."""
        return self._part("gradients")

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
        """Number of classes: of the logits, or else the largest label and one."""
        return self.logits.shape[1] if self.has("logits") else int(self.targets.max()) + 1

    def at(self, rows: Int64[Tensor, "m"]) -> Int64[Tensor, "m"]:
        """Return the positions of root rows. Raises: SelectionError: for a row that the scan does not hold."""
        positions = torch.searchsorted(self.rows, rows).clamp(max=len(self) - 1)
        missing = rows[self.rows[positions] != rows]
        if len(missing):
            raise SelectionError(f"the scan does not hold {_few(_as_rows(missing))}; ask for rows of scan.rows.")
        return positions

    def errors(self, index: slice | Int64[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Return softmax - onehot (float32) of some positions: the gradient of cross-entropy in the logits.

        Computed when asked for and never kept: ask by block or by class.
        """
        errors = self.logits[index].softmax(1)
        errors[torch.arange(len(errors)), self.targets[index]] -= 1
        return errors

    def blocks(self, size: int = 16384) -> Iterator[slice]:
        """Yield slices that cover all positions, so that large scans are worked through in little memory."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


def scan(
    model: nn.Module,
    pool: Pool,
    *,
    needs: Iterable[str],
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    head: str | None = None,
    progress: float | None = None,
    lr: float | None = None,
    validation: Pool | None = None,
    channels_last: bool = True,
    precision: str = "auto",
    workers: int = 0,
    world: World | None = None,
) -> Scan:
    """Collect what `needs` names in one pass over the pool's rows: eval mode, no gradients, no augmentation.

    The model is left as it was: training flags, random states, buffers, gradients, hooks. Without logits or features
    among the needs it is not run at all. Features are the input of the Linear whose output is the logits; where the
    model returns something else, name what takes the features in: head="classifier". Inputs go to `device`, by default
    the model's.
    Large networks run in bfloat16 where the hardware has it (at least twice as fast, docs/precision.md), unless
    precision="fp32"; what is returned is float32. `batch_size` is 128 on a CPU, whose caches larger ones overflow, and
    1024 elsewhere, if not given. A streamed pool is read ahead by `workers` processes. The processes of a `world` run
    whole batches each; all get what one alone would. Batches that memory does not suffice for are halved.
    Raises: ConfigError: for an unknown need or head. SelectionError: for a need that nothing supplies, samples
        without a label, outputs that are not finite or not (batch, classes), a head that cannot be found.
    """
    wanted = _checked_needs(needs, progress=progress, lr=lr, validation=validation)
    if len(pool.rows) == 0:
        raise SelectionError("the pool has no rows, so there is nothing to scan; give a pool with samples.")
    parts: dict[str, Any] = {k: v for k, v in {"progress": progress, "lr": lr}.items() if v is not None}
    world = world or World()
    head_bias: bool | None = True
    if wanted & FORWARD_PARTS:
        place = torch.device(device) if device is not None else _device_of(model)
        size = (128 if place.type == "cpu" else 1024) if batch_size is None else batch_size
        tap = HeadTap(model, head) if "features" in wanted else None
        try:
            with undisturbed(model), arithmetic(resolved(precision, model, pool, place), place):
                rows = pool.rows[world.shard(len(pool.rows), block=size)]
                loader = Loader(
                    pool, batch_size=size, seed=0, device=place, channels_last=channels_last, workers=workers
                )

                def passed(size: int) -> dict[str, Tensor]:
                    with closing(loader.sequential(rows, batch_size=size)) as batches:
                        return _run(model, batches, tap, len(rows))

                outputs = fitting(passed, size)
        finally:
            if tap is not None:
                tap.remove()
        parts.update({name: world.gather_rows(outputs.get(name)) for name in sorted(wanted & FORWARD_PARTS)})
        head_bias = world.broadcast(tap.bias) if tap is not None else True
    if "targets" in wanted:
        parts["targets"] = _targets_of(pool)
    if validation is not None and "validation" in wanted:
        options: dict[str, Any] = {"batch_size": batch_size, "device": device, "head": head}
        needs = wanted & (FORWARD_PARTS | {"targets"})
        options |= {"channels_last": channels_last, "precision": precision, "workers": workers, "world": world}
        parts["validation"] = scan(model, validation, needs=needs, **options)
    return Scan(pool.rows, _checked(parts, pool.rows, pool.ids_of), head_bias)


def forward(model: nn.Module, inputs: Inputs) -> Tensor:
    """Call a module on a tensor, a tuple (positional arguments) or a dict (keyword arguments)."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _run(model: nn.Module, batches: Iterable[Batch], tap: HeadTap | None, n: int) -> dict[str, Tensor]:
    """Fill float32 tables of logits, and of features where a tap is given."""
    tables: dict[str, Tensor] = {}
    done = 0
    for batch in batches:
        window, done = slice(done, done + len(batch)), done + len(batch)
        logits = forward(model, batch.inputs)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SelectionError(f"the model returns {shape}; a scan needs a tensor of logits, (batch, classes).")
        found = {"logits": logits} if tap is None else {"logits": logits, "features": tap.take(logits)}
        for name, values in found.items():
            if name not in tables:
                tables[name] = torch.empty(n, values.shape[1])
            tables[name][window] = values.float().cpu()
    return tables


def resolved(precision: str, model: nn.Module, pool: Pool, device: torch.device) -> Precision:
    """Turn `auto` into the precision that pays for this network; its FLOPs are counted only where they decide."""
    flops = 0
    if precision == "auto" and has_bf16(device):
        flops = count_flops(model, pool.gather(pool.rows[:1], device)).forward
    return pick_precision(precision, device, flops)


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _checked_needs(needs: Iterable[str], **given: Any) -> frozenset[str]:
    wanted = frozenset(needs)
    for name in sorted(wanted):
        if name not in SUPPLIERS:
            raise ConfigError(f"there is no part {name!r}; known: {', '.join(SUPPLIERS)}.{nearest(name, SUPPLIERS)}")
        if name not in FORWARD_PARTS | {"targets"} and given.get(name) is None:
            raise SelectionError(f"a scan of the pool does not bring {name}; {SUPPLIERS[name]}.")
    return wanted


def _targets_of(pool: Pool) -> Tensor:
    if pool.targets is None:
        raise SelectionError("the pool has no targets but the selection needs them; choose a selector without labels.")
    targets = pool.targets_of(pool.rows)
    if bool((targets < 0).any()):
        missing = pool.ids_of(pool.rows[targets < 0])
        raise SelectionError(f"{_few(missing)} have no label but the selection needs it; scan labelled rows only.")
    return targets


def _as_rows(rows: Tensor) -> list[str]:
    return [f"row {row}" for row in rows.tolist()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _as_row_index(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows in ascending order, and the order that sorts them."""
    if rows.numel() == 0:
        raise SelectionError("the scan holds no samples; give logits, features, targets or rows.")
    if rows.ndim != 1 or rows.is_floating_point():
        raise SelectionError(
            f"rows are {rows.dtype} {tuple(rows.shape)}; a scan needs a list of whole numbers, 1 or more."
        )
    rows, order = rows.to(torch.int64).sort(stable=True)
    bad = (rows < 0) | torch.cat([torch.tensor([False]), rows[1:] == rows[:-1]])
    if bool(bad.any()):
        raise SelectionError(f"{_few(_as_rows(rows[bad]))} cannot be used; rows are distinct and not negative.")
    return rows, order


def _check_shapes(arrays: Mapping[str, Tensor], n: int) -> None:
    for name, array in arrays.items():
        shape = "(n,)" if name == "targets" else "(n, values)"
        if array.ndim != (1 if name == "targets" else 2) or len(array) != n:
            raise SelectionError(
                f"{name} have shape {tuple(array.shape)}; give {shape}, with n = {n}, one for each row."
            )


def _checked(parts: dict[str, Any], rows: Tensor, naming: Callable[[Tensor], list[str]]) -> dict[str, Any]:
    """Return the parts as float32 and int64, their values checked."""
    for name in ("logits", "features", "gradients"):
        if name in parts:
            values = parts[name].float()
            bad = ~values.isfinite().all(dim=1)
            if bool(bad.any()):
                which = _few(naming(rows[bad]))
                raise SelectionError(
                    f"the {name} of {which} are not finite; the network has diverged, or mend those samples."
                )
            parts[name] = values
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
        found = _few([f"{name} has {label}" for name, label in zip(naming(rows[bad]), targets[bad].tolist())])
        allowed = f"[0, {classes - 1}]" if logits is not None else "0, 1, 2, ..."
        raise SelectionError(f"labels out of range: {found}; they must lie in {allowed}, the model's classes.")
    return targets
