"""The samples and classes that a labelling began with: kept beside its log, since a pool may change meanwhile."""

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
    """Write down, once, with which samples and classes a labelling begins, and how the samples are normalised."""
    if path.exists():
        return
    how = pool.preprocess
    content: dict[str, Any] = {"ids": pool.ids_of(pool.rows)}
    content["preprocess"] = None if how is None else {"mean": how.mean, "std": how.std}
    content |= {"classes": pool.classes, "class_names": _names_of(pool)}
    write_json(path, content)


def as_it_began(path: Path, pool: Pool) -> Pool:
    """Return a pool of the samples that the labelling began with alone, in the same rows and normalised as then.

    Samples that have come since are told of and left out. A pool is returned as it is where nothing was written yet.
    Raises: DataError: for a pool that lacks one of the samples, or has other classes. SartorError: for a damaged file.
    """
    if not path.exists():
        return pool
    ids, preprocess, known = _read(path)
    if known is not None:
        _check_classes(path, pool, *known)
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


def _names_of(pool: Pool) -> list[str] | None:
    """Return the names of a pool's classes as JSON has them; None where they have none."""
    return None if pool.class_names is None else [str(name) for name in pool.class_names]


def _check_classes(path: Path, pool: Pool, classes: int, names: list[str] | None) -> None:
    """Raise DataError where the number of a class could mean another class than when the labelling began.

    A pool without names passes, for labels are then told by number, and so do more classes that have no names.
    """
    here, count, where = _names_of(pool), pool.classes or 0, f"the labelling in {path.parent} began"
    if count < classes or (names and here and count != classes):
        raise DataError(f"{where} with {classes} classes, the pool has {count}; give it those, or open another folder.")
    if here is None or here == names:
        return
    if names is None:
        raise DataError(
            f"{where} without names of classes, and the pool has names, whose order nothing tells; make it with "
            f"classes={classes} instead of class_names and tell numbers, or open another folder."
        )
    number = next(number for number, name in enumerate(names) if name != here[number])
    raise DataError(
        f"{where} with {names[number]!r} as class {number}, which is {here[number]!r} in the pool: labels told before "
        f"would mean others. Give it the class_names of {path.name}, in their order, or open another folder."
    )


def _read(path: Path) -> tuple[list[str], Preprocess | None, tuple[int, list[str] | None] | None]:
    """Return ids, how they are normalised, and number and names of the classes, which older files do not have.

    Raises: SartorError: where the file is damaged.
    """
    found = read_object(path)
    try:
        ids, how = found["ids"], found["preprocess"]
        known = (int(found["classes"]), found["class_names"]) if "classes" in found else None
        names = known[1] if known is not None and known[1] is not None else []
        if not all(isinstance(name, str) for name in [*ids, *names]):
            raise TypeError("ids or class_names are not all words")
        if names and len(names) != found["classes"]:
            raise TypeError(f"class_names are {len(names)}, classes {found['classes']}")
        return ids, None if how is None else Preprocess(tuple(how["mean"]), tuple(how["std"])), known
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise SartorError(f"{path} cannot be read ({error}); restore it from a copy.") from error
