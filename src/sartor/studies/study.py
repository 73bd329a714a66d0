"""What a study is: options, the work that answers its question, and the files that say what came of it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.comparison import Work
from sartor.errors import check_range
from sartor.files import to_json
from sartor.studies.findings import Findings

Outcome = Mapping[str, Any]
"""What a piece of work came to."""
Outcomes = Mapping[str, Sequence[Outcome]]
"""What each stage of a study came to, in the order of its work; nothing, {}, for what failed."""
Files = Mapping[str, str | bytes]
"""What a study leaves in its folder, by file name."""


class OnData:
    """What studies of a data set have in common."""

    root: Path | None

    @property
    def place(self) -> str | None:
        """The folder of the data as text."""
        return None if self.root is None else str(self.root)


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A question, the work that answers it and how that is told; fields are options.

    `QUICK` are the options that `--quick` stands for: the same study in small, under two minutes on two cores.
    """

    QUICK: ClassVar[Mapping[str, Any]]

    out: Path = Path("runs/study")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    jobs: int = 1
    """Pieces of work at the same time, one process each."""
    dry_run: bool = False
    """Print how much work there is and about how long it takes, and stop."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        check_range("jobs", self.jobs, 1, float("inf"), high_open=True)

    def options(self) -> dict[str, Any]:
        """Return the options by name, as JSON has them."""
        return {name: as_text(value) for name, value in dataclasses.asdict(self).items()}

    @property
    def shared(self) -> Path:
        """The folder of trainings that several runs have."""
        return self.out / "shared"

    @abstractmethod
    def stages(self) -> Mapping[str, Sequence[Work]]:
        """Return the work by what it is called; a stage begins when those before it are done."""

    def recalled(self) -> Mapping[Work, Outcome]:
        """Return what is known of some of the work, which is not done then."""
        return {}

    @abstractmethod
    def forecast(self) -> str:
        """Say how much work there is and about how long it takes."""

    def can_miss(self, outcomes: Outcomes) -> bool:
        """Tell whether something can be said without the work that failed."""
        return False

    @abstractmethod
    def files(self, outcomes: Outcomes) -> Files:
        """Return what the study leaves in its folder, table.md among it."""

    def by_work(self, outcomes: Outcomes) -> dict[Work, Outcome]:
        """Return what each piece of work came to, of the stages that are done."""
        stages = ((works, outcomes[name]) for name, works in self.stages().items() if name in outcomes)
        return {work: row for works, rows in stages for work, row in zip(works, rows, strict=True)}


@dataclass(frozen=True, kw_only=True)
class GridStudy(Study):
    """A study whose work is one grid of cells, told by tables, figures and a verdict."""

    @abstractmethod
    def cells(self) -> Sequence[Work]:
        """List the work, each piece once."""

    @abstractmethod
    def tables(self, results: Sequence[Mapping[str, Any]]) -> Findings:
        """Say what the work came to; `results` are those of `cells`."""

    def stages(self) -> Mapping[str, Sequence[Work]]:
        """Return the one stage."""
        return {"cells": self.cells()}

    def results(self, outcomes: Outcomes) -> list[Mapping[str, Any]]:
        """Return what the cells came to, one stage after the other."""
        return [result for stage in outcomes.values() for result in stage if result]

    def files(self, outcomes: Outcomes) -> Files:
        """Return results.json, results.csv, table.md and the figures as svg, png and csv."""
        results = self.results(outcomes)
        found = self.tables(results)
        found = dataclasses.replace(found, verdict=[*found.verdict, *told_of_failures(self.by_work(outcomes))])
        kept = {"format": 1, "options": self.options(), "cells": results}
        return {"results.json": to_json(kept)} | dict(found.files())


def told_of_failures(found: Mapping[Work, Outcome]) -> list[str]:
    """Say in one sentence what failed; nothing if all went well."""
    lost = dict.fromkeys(work.title for work, row in found.items() if not row)
    return [f"Failed, and in no number here: {'; '.join(lost)}."] if lost else []


def as_text(value: Any) -> Any:
    """Return an option as JSON has it, paths as text."""
    if isinstance(value, tuple):
        return [as_text(one) for one in value]
    return str(value) if isinstance(value, Path) else value
