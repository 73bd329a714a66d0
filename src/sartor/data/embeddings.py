"""What people bring of their own network's view of the data: logits, features, labels and ids, in files of numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sartor.data.arrays import check_ids, id_order
from sartor.errors import DataError, SartorError, nearest
from sartor.history import History
from sartor.seen import TABLES, Scan

SCANNED = (*TABLES, "gradient_norms", "targets")
SAMPLES = (*SCANNED, "rows", "ids")
"""Arrays with an entry for each sample."""
NUMBERS = ("lr", "progress")
BESIDE = {f"{part}.{name}": part for part in ("validation", "labelled") for name in ("logits", "features", "targets")}
"""Arrays of other samples, and the part of a scan that they make up."""
HISTORY = "history."
ALLOWED = (*SAMPLES, "members", "class_names", *NUMBERS, *BESIDE)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Arrays by name, not looked into yet; samples in the order of their rows, `order` being what sorts them so.

    Rows are what the array `rows` says, or else the places of the ids in their order, or else 0, 1, 2, ...
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    rows: Tensor
    ids: tuple[str, ...]
    class_names: tuple[str, ...] | None
    order: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, part: str) -> bool:
        """Tell whether the files bring a part of a scan."""
        beginning = HISTORY if part == "history" else f"{part}."
        return part in self.arrays or any(name.startswith(beginning) for name in self.arrays)

    def scan(self, parts: frozenset[str]) -> Scan:
        """Make a scan of some parts; the other arrays are not read.

        Raises: SelectionError: for values that cannot be, as `Scan.from_arrays`. DataError: for damaged records.
        """
        wanted = [name for name in self.arrays if name in parts]
        given: dict[str, Any] = {name: self.arrays[name] for name in wanted if name in SCANNED}
        given |= {name: float(self.arrays[name]) for name in wanted if name in NUMBERS}
        for part in ("validation", "labelled"):
            if part in parts and self.has(part):
                names = [name for name in BESIDE if BESIDE[name] == part and name in self.arrays]
                others: dict[str, Any] = {name.partition(".")[2]: self.arrays[name] for name in names}
                given[part] = Scan.from_arrays(**others)
        places = torch.arange(len(self)) if self.order is None else self.order.argsort()
        if "members" in wanted:
            given["members"] = [Scan.from_arrays(logits=table, rows=places) for table in self.arrays["members"]]
        if "history" in parts and self.has("history"):
            given["history"] = self.history()
        found = Scan.from_arrays(rows=places, **given)
        members = tuple(Scan(self.rows, member.parts) for member in found.parts.get("members", ()))
        return Scan(self.rows, {**found.parts, **({"members": members} if members else {})}, found.bias)

    def history(self) -> History:
        """Return the records of the samples: in the order of the arrays, unless they tell their rows.

        Raises: DataError: where they are not those of these samples.
        """
        tables = {
            name.removeprefix(HISTORY): torch.from_numpy(np.array(table))
            for name, table in self.arrays.items()
            if name.startswith(HISTORY)
        }
        if "rows" not in tables:
            order = torch.arange(len(self)) if self.order is None else self.order
            tables = {name: table[order] for name, table in tables.items()} | {"rows": self.rows}
        try:
            return History.from_tables(tables).of(self.rows)
        except SartorError as error:
            raise DataError(f"{self.path}: {error}") from error


def read_embeddings(path: Path) -> Embeddings:
    """Read an npz file, or a folder of npy files, which stay on the disk until they are asked for (memory-mapped).

    A folder may hold history.safetensors too, as a run leaves it. Samples are brought in the order of their ids, so
    that their order in the files has no effect; out of order, they are copied into memory when they are read.
    Raises: DataError: for what is missing, unknown or damaged, and for lengths that differ.
    """
    arrays = read_folder(path) if path.is_dir() else read_npz(path)
    for name in arrays:
        if name not in ALLOWED and not name.startswith(HISTORY):
            allowed = f"{', '.join(ALLOWED)}, {HISTORY}NAME"
            raise DataError(f"{path} holds {name!r}; allowed are {allowed}.{nearest(name, ALLOWED)}")
    check_arrays(path, arrays)
    n = length_of(path, arrays)
    rows, order, given = torch.arange(n), None, None
    try:
        if "rows" in arrays:
            rows, order = ranked(torch.from_numpy(np.array(arrays["rows"], dtype=np.int64)))
            given = [str(row).zfill(len(str(int(rows[-1])))) for row in arrays["rows"].tolist()]
        ids = check_ids([str(name) for name in arrays["ids"].tolist()] if "ids" in arrays else given, n)
        by_id = id_order(ids)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    order = order if "rows" in arrays else by_id
    kept = ids if order is None else [ids[place] for place in order.tolist()]
    names = tuple(str(name) for name in arrays["class_names"].tolist()) if "class_names" in arrays else None
    return Embeddings(path, arrays, rows, tuple(kept), names, order)


def ranked(rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return rows in order, and what sorts them; None where they are. Raises: DataError: for rows that cannot be."""
    found, order = rows.sort(stable=True)
    bad = found[(found < 0) | torch.cat([torch.tensor([False]), found[1:] == found[:-1]])]
    if len(bad):
        raise DataError(f"row {int(bad[0])} cannot be used; rows are distinct and not negative.")
    return found, None if torch.equal(found, rows) else order


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file into memory. Raises: DataError: if it is missing or damaged."""
    if not path.exists():
        raise DataError(f"{path} is not there; name an npz file, or a folder with logits.npy, features.npy, ...")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # many kinds, for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read ({reason}); save plain arrays with numpy.savez.") from error


def read_folder(path: Path) -> dict[str, np.ndarray]:
    """Map the npy files of a folder into memory. Raises: DataError: for a file that is damaged or of another kind."""
    arrays: dict[str, np.ndarray] = {}
    for file in sorted(file for file in path.iterdir() if not file.name.startswith(".")):
        try:
            if file.name == "history.safetensors":
                arrays |= {f"{HISTORY}{name}": table.numpy() for name, table in load_file(file).items()}
            elif file.suffix == ".npy":
                arrays[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SafetensorError) as error:
            raise DataError(f"{file} cannot be read ({error}); save a plain array with numpy.save.") from error
    if not arrays:
        raise DataError(f"{path} holds no npy file; it must hold logits.npy, features.npy, targets.npy or others.")
    return arrays


def check_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise DataError for an array of another kind or shape than its name says."""
    for name, array in arrays.items():
        kind = name.partition(".")[2] if name in BESIDE else name
        wanted, dimensions = "iuf", 1
        if kind in TABLES:
            dimensions = 2
        elif kind == "members":
            dimensions = 3
        elif kind in NUMBERS:
            dimensions = 0
        elif kind in ("targets", "rows"):
            wanted = "iu"
        elif kind in ("ids", "class_names"):
            wanted = "iuU"
        elif name.startswith(HISTORY):
            continue
        if array.dtype.kind not in wanted or array.ndim != dimensions:
            words = {"iuf": "numbers", "iu": "whole numbers", "iuU": "text or whole numbers"}[wanted]
            raise DataError(
                f"{name} in {path} is {array.dtype} of {array.ndim} dimensions; it must be {words} of {dimensions}."
            )


def length_of(path: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """Return the number of samples. Raises: DataError: where there are none, or the arrays do not agree."""
    sizes = {name: len(arrays[name]) for name in SAMPLES if name in arrays}
    if f"{HISTORY}rows" not in arrays:
        sizes |= {name: len(table) for name, table in arrays.items() if name.startswith(HISTORY)}
    if "members" in arrays:
        sizes["members"] = arrays["members"].shape[1]
    if not sizes or not min(sizes.values()):
        raise DataError(f"{path} holds no samples; it must hold {', '.join(SAMPLES[:2])}, targets or others.")
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise DataError(f"the arrays in {path} differ in length ({found}); give each an entry for each sample.")
    return next(iter(sizes.values()))
