"""Runs of a study that were made elsewhere: told by all that decides them, not by the folder they were in."""

from __future__ import annotations

import dataclasses
import functools
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sartor.comparison import Work, load
from sartor.errors import ConfigError, SartorError
from sartor.files import read_object, sha256
from sartor.recipes.forecaster import model_for
from sartor.recipes.outcome import model_summary
from sartor.recipes.recipe import Recipe
from sartor.report.wording import counted
from sartor.studies.study import Outcome, Outcomes, Study

IDENTITY = "identity"
NAMING = 1
"""Raise it when an option's default or its meaning changes: runs of before are not known then."""


class Identified(Work, Protocol):
    """Work that is repeated with other seeds; its outcome carries a name that is the same on every machine."""

    @property
    def setting(self) -> object:
        """What is the same for all seeds."""
        ...

    @property
    def identity(self) -> str:
        """Name all that decides the outcome."""
        ...

    @property
    def where(self) -> dict[str, Any]:
        """Return what the outcome says of where in the study it belongs."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReusingStudy(Study):
    """A study that takes outcomes from elsewhere: of a part of its grid, from other machines, as published."""

    known: tuple[Path, ...] = ()
    """Files results.json of the same study with other seeds or a part of the grid; their runs are not made again."""

    @abstractmethod
    def cells(self) -> Iterable[Identified]:
        """List the runs of the grid."""

    @abstractmethod
    def replaceable(self) -> Iterable[Identified]:
        """List those for which an outcome may stand: they are made from no other, and nothing reads their folders."""

    def can_miss(self, outcomes: Outcomes) -> bool:
        """Runs of single seeds may fail, such as trainings that diverge, if each setting has another one.

        With a run those fail that are made from it.
        """
        found = self.by_work(outcomes)
        done = [cell for cell in self.cells() if cell in found]
        return {cell.setting for cell in done if not found[cell]} <= {cell.setting for cell in done if found[cell]}

    def recalled(self) -> Mapping[Work, Outcome]:
        """Return what the files say of the study's work. Raises: ConfigError: for a file that says nothing of it."""
        return recalled_by(self)

    def refuse_unlike(self, outcomes: Outcomes) -> None:
        """Raise SartorError where a known run lacks what one that was made here has, or has more."""
        recalled = self.recalled()
        if not recalled:
            return
        made = {cell.identity for cell in self.cells() if cell not in recalled}
        rows = [row for stage in outcomes.values() for row in stage if IDENTITY in row]
        rows.sort(key=lambda row: row[IDENTITY] not in made)
        for row in rows:
            if unlike := ", ".join(sorted(row.keys() ^ rows[0].keys())):
                raise SartorError(
                    f"known runs and others are not alike in: {unlike}. Another version of Sartor has made them; "
                    "give the same command without --known, or with another file: what was made here is kept."
                )


@functools.lru_cache(maxsize=2)
def recalled_by(study: ReusingStudy) -> Mapping[Work, Outcome]:
    """Read a study's files once, and find its work in them; of two that know the same run the last one counts."""
    files = {path: read_known(path) for path in study.known}
    if not files:
        return {}
    there = {identity: row for rows in files.values() for identity, row in rows.items()}
    names = {work.identity for work in study.cells()}
    for path, rows in files.items():
        if not names & rows.keys():
            raise ConfigError(
                f"--known {path} has {counted(len(rows), 'run')}, and none of this study: data, network and the "
                "options of trainings must be the same, and Sartor's version one that names them alike. Leave it out."
            )
    return {work: {**there[work.identity], **work.where} for work in study.replaceable() if work.identity in there}


def read_known(path: Path) -> dict[str, Outcome]:
    """Read the runs of a results.json by identity. Raises: ConfigError: where it is none, or has no identities."""
    if not path.is_file():
        raise ConfigError(f"--known {path} is no file; give the results.json that a study has left in its --out.")
    content = read_object(path)
    rows = content.get("cells") if content.get("format") == 1 else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and IDENTITY in row for row in rows):
        raise ConfigError(
            f"--known {path} is no results.json of a study, or its runs do not say what decided them; the study's "
            "command, given again with its --out, writes it anew from its folders."
        )
    return {row[IDENTITY]: row for row in rows}


def identity_of(data: str, root: str | None, model: str, recipe: Recipe, called: object = ()) -> str:
    """Name a run by all that decides it: the samples of its data, its network, its options; and by `called`.

    Options at their defaults are left out, so that those which later versions bring change no name.
    """
    usual = recipe.defaults()
    options = {name: value for name, value in dataclasses.asdict(recipe).items() if value != usual.get(name)}
    deciding = [NAMING, *fingerprints(data, root), *layers(data, root, model), recipe.name, options, called]
    return sha256(json.dumps(deciding, sort_keys=True, default=str))[:16]


@functools.lru_cache(maxsize=2)
def fingerprints(data: str, root: str | None) -> tuple[str, ...]:
    """Return what tells a data set from others: digests of its parts, and how it is augmented where asked to be."""
    splits = load(data, root)
    return splits.train.fingerprint(), splits.test.fingerprint(), repr(splits.augment)


@functools.lru_cache(maxsize=8)
def layers(data: str, root: str | None, model: str) -> tuple[str, ...]:
    """Return what tells a network from others, whatever it is called: its layers and the shapes of its weights."""
    return tuple(model_summary(model_for(load(data, root), model)).values())
