"""The samples that a labelling began with: kept beside its log, since a pool may grow while people tell labels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from sartor.data.pool import Pool
from sartor.data.preprocess import Preprocess
from sartor.errors import DataError, SartorError
from sartor.files import read_object, write_json


def keep_samples(path: Path, pool: Pool) -> None:
    """Write down, once, which samples a labelling begins with and how they are normalised."""
    if path.exists():
        return
    how = pool.preprocess
    content: dict[str, Any] = {"ids": pool.ids_of(pool.rows)}
    content["preprocess"] = None if how is None else {"mean": how.mean, "std": how.std}
    write_json(path, content)


def as_it_began(path: Path, pool: Pool) -> Pool:
    """Return a pool of the samples that the labelling began with alone, in the same rows and normalised as then.

    Samples that have come since are told of and left out. A pool is returned as it is where nothing was written yet.
    Raises: DataError: for a pool that lacks one of the samples. SartorError: for a damaged file.
    """
    if not path.exists():
        return pool
    ids, preprocess = _read(path)
    places = dict(zip(pool.ids_of(pool.rows), pool.rows.tolist(), strict=True))
    lacking = [name for name in ids if name not in places]
    if lacking:
        raise DataError(
            f"the labelling in {path.parent} began with {len(ids)} samples, of which the pool lacks {len(lacking)}, "
            f"such as {lacking[0]!r}; open it on all of them. Those that have come since do no harm."
        )
    if len(ids) == len(pool):
        return pool
    warnings.warn(
        f"{len(pool) - len(ids)} of the pool's {len(pool)} samples have come since the labelling in {path.parent} "
        "began; it goes on without them, for its budgets and draws are of the others. A new folder takes all of them, "
        "with the labels that are known by then.",
        stacklevel=4,
    )
    return pool.only(torch.tensor([places[name] for name in ids])).alone(preprocess)


def _read(path: Path) -> tuple[list[str], Preprocess | None]:
    """Read the file. Raises: SartorError: where it is damaged."""
    found = read_object(path)
    try:
        ids, how = found["ids"], found["preprocess"]
        if not all(isinstance(name, str) for name in ids):
            raise TypeError("ids are not all words")
        return ids, None if how is None else Preprocess(tuple(how["mean"]), tuple(how["std"]))
    except (KeyError, TypeError, DataError) as error:
        raise SartorError(f"{path} cannot be read ({error}); restore it from a copy.") from error
