"""Runs of a study that were made elsewhere: told by all that decides them, not by the folder they were in."""

from __future__ import annotations

import dataclasses
import functools
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sartor.comparison import Work, load
from sartor.errors import ConfigError
from sartor.files import read_object, sha256
from sartor.recipes.recipe import Recipe
from sartor.report.wording import counted
from sartor.studies.study import Outcome, Study

IDENTITY = "identity"


class Identified(Work, Protocol):
    """Work whose outcome carries a name that is the same on every machine."""

    @property
    def identity(self) -> str:
        """Name all that decides the outcome."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReusingStudy(Study):
    """A study that takes outcomes from elsewhere: of a part of its grid, from other machines, as published."""

    known: tuple[Path, ...] = ()
    """Files results.json of the same study with other seeds or a part of the grid; their runs are not made again."""

    @abstractmethod
    def replaceable(self) -> Iterable[Identified]:
        """List the work for which an outcome may stand: nothing else reads what it leaves in its folder."""

    def recalled(self) -> Mapping[Work, Outcome]:
        """Return what the files say of the study's work. Raises: ConfigError: for a file that says nothing of it."""
        return recalled_by(self)


@functools.lru_cache(maxsize=2)
def recalled_by(study: ReusingStudy) -> Mapping[Work, Outcome]:
    """Read a study's files once, and find its work in them."""
    files = {path: read_known(path) for path in study.known}
    there = {identity: row for rows in files.values() for identity, row in rows.items()}
    works = list(study.replaceable()) if there else []
    names = {work.identity for work in works}
    for path, rows in files.items():
        if not names & rows.keys():
            raise ConfigError(
                f"--known {path} has {counted(len(rows), 'run')}, and none that could stand for one of this study: "
                "data, network and the options of trainings must be the same. Leave it out, or give those of then."
            )
    return {work: there[work.identity] for work in works if work.identity in there}


def read_known(path: Path) -> dict[str, Outcome]:
    """Read the runs of a results.json by identity. Raises: ConfigError: where it is none, or has no identities."""
    if not path.is_file():
        raise ConfigError(f"--known {path} is no file; give the results.json that a study has left in its --out.")
    rows = read_object(path).get("cells")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and IDENTITY in row for row in rows):
        raise ConfigError(
            f"--known {path} is no results.json of a study, or its runs do not say what decided them; the study's "
            "command, given again with its --out, writes it anew from its folders."
        )
    return {row[IDENTITY]: row for row in rows}


def identity_of(data: str, root: str | None, model: str, recipe: Recipe, called: object) -> str:
    """Name a run by all that decides it, the samples of its data, its network, its options, and by how it is called."""
    deciding = [*fingerprints(data, root), model, recipe.name, dataclasses.asdict(recipe), called]
    return sha256(json.dumps(deciding, sort_keys=True, default=str))[:16]


@functools.lru_cache(maxsize=2)
def fingerprints(data: str, root: str | None) -> tuple[str, ...]:
    """Return what tells a data set from others: digests of its parts, and how it is augmented where asked to be."""
    splits = load(data, root)
    return splits.train.fingerprint(), splits.test.fingerprint(), repr(splits.augment)
