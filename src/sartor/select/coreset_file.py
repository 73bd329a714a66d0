"""A coreset as a csv file, a line for each sample, and beside it a JSON file that says where it comes from."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.digest import digest
from sartor.errors import SelectionError
from sartor.files import read_object
from sartor.types import Subset

COLUMNS = ("id", "row", "weight", "score", "label")
"""In this order; `score` and `label` only where there are such."""
KIND = "sartor coreset"


@dataclass(frozen=True, eq=False)
class CoresetFile:
    """What a file says: the subset, the labels that its samples had, the digest of the pool; None where it does not."""

    subset: Subset
    labels: Int64[Tensor, "k"] | None
    pool: str | None


def pool_digest(rows: Int64[Tensor, "n"]) -> str:
    """Return one name for the rows that could be chosen; another hold-out gives another one."""
    return digest({"rows": rows})


def as_csv(
    subset: Subset,
    ids: Sequence[str],
    scores: Float[Tensor, "k"] | None = None,
    labels: Int64[Tensor, "k"] | None = None,
) -> bytes:
    """Return the file; ids, scores and labels are those of the subset's rows. Numbers have nine digits, as float32."""
    columns: dict[str, Sequence[object]] = {"id": ids, "row": subset.rows.tolist(), "weight": numbers(subset.weights)}
    if scores is not None:
        columns["score"] = numbers(scores)
    if labels is not None:
        columns["label"] = labels.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode("utf-8", "surrogateescape")


def numbers(values: Float[Tensor, "k"]) -> list[str]:
    """Write floats so that float32 comes back as it was."""
    return [f"{value:.9g}" for value in values.tolist()]


def is_coreset(path: Path) -> bool:
    """Tell whether a file begins as these do."""
    with open(path, "rb") as file:
        return file.read(64).startswith(",".join(COLUMNS[:3]).encode())


def read_coreset(path: Path) -> CoresetFile:
    """Read a csv file with a column `row` and, if there are such, `weight` and `label`; others are for people.

    Raises: SelectionError: naming the line of what is missing, twice or no number. SartorError: for a damaged JSON.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8", "surrogateescape").splitlines()))
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SelectionError(
            f"{path} cannot be read ({reason}); make it with sartor select ... --out {path}."
        ) from error
    header, lines = (lines[0], lines[1:]) if lines else ([], [])
    if "row" not in header or not lines:
        found = f"columns {', '.join(header)} and {len(lines)} lines" if header else "nothing"
        raise SelectionError(f"{path} holds {found}; a column row and a line for each sample are needed.")
    rows = torch.tensor([int(row) for row in column(path, header, lines, "row", least=0, whole=True)])
    ordered, order = rows.sort(stable=True)
    twice = order[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise SelectionError(f"line {int(twice[0]) + 2} of {path} has row {int(rows[twice[0]])} again; give each once.")
    weights = column(path, header, lines, "weight") if "weight" in header else [1.0] * len(lines)
    labels = None
    if "label" in header:
        given = column(path, header, lines, "label", least=0, whole=True)
        labels = torch.tensor([int(label) for label in given])[order]
    beside = path.with_suffix(".json")
    described = read_object(beside) if beside.exists() else {}
    pool = described.get("pool") if described.get("kind") == KIND else None
    return CoresetFile(Subset.of(rows, torch.tensor(weights)), labels, pool)


def column(
    path: Path,
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    name: str,
    *,
    least: float = 0,
    whole: bool = False,
) -> list[float]:
    """Return a column of numbers: positive ones, or whole ones from `least` on."""
    place, found = header.index(name), []
    for number, line in enumerate(lines, start=2):
        try:
            value = float(int(line[place])) if whole else float(line[place])
        except (ValueError, IndexError):
            value = math.nan
        if not (math.isfinite(value) and (value >= least if whole else value > least)):
            allowed = f"a whole number from {least:g}" if whole else "a positive number"
            shown = repr(line[place]) if place < len(line) else "nothing"
            raise SelectionError(f"line {number} of {path} has {name} {shown}; it must be {allowed}.")
        found.append(value)
    return found
