"""DropHot over fractions and sparsities: coresets by forgetting, all data at two costs, and a random coreset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.comparison import Work, load
from sartor.errors import ConfigError, check_choice, check_range
from sartor.files import to_json
from sartor.recipes.forecaster import Forecaster
from sartor.registry import STUDIES
from sartor.studies.drophot_cells import ARMS, Cell, firsts, runs_of
from sartor.studies.drophot_checks import check_combinations
from sartor.studies.drophot_report import told_of
from sartor.studies.drophot_scores import Scores, read_scores
from sartor.studies.known import ReusingStudy
from sartor.studies.study import Files, OnData, Outcome, Outcomes, told_of_failures


@STUDIES.register("drophot")
@dataclass(frozen=True, kw_only=True)
class DropHotStudy(OnData, ReusingStudy):
    """What a coreset by forgetting does before one-shot pruning, against all data and a random coreset."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "data": "digits",
        "model": "fc(hidden=32)",
        "fractions": (0.2,),
        "sparsities": (0.0, 0.6),
        "epochs": 4,
        "seeds": 2,
    }

    data: str = "mnist"
    """Data set (sartor list datasets), or a folder of pictures, a .csv, .jsonl or .npz file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "lenet"
    """Network, with options: resnet18(stem=imagenet)."""
    out: Path = Path("runs/drophot")
    """Folder of all runs and tables; the same command goes on where it stopped."""
    arms: tuple[str, ...] = ("highest", "lowest", "random", "random-matched", "baseline", "baseline-matched")
    """What is trained before the pruning."""
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    """Shares of the training data in a coreset."""
    sparsities: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    """Shares of the weights that are pruned."""
    defects: tuple[str, ...] = ("none",)
    """Defects of the public code, each a table of its own: none, scores, batchnorm, masks, or several with commas."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong, each a table of its own."""
    seeds: int = 3
    """Number of seeds, 0, 1, ..."""
    epochs: int = 10
    """Epochs of each training."""
    batch_size: int = 64
    """Samples in a mini-batch."""
    lr: float = 1e-3
    """Learning rate; its default is for Adam."""
    record: str = "none"
    """How forgetting is counted: batch (also with none), or epoch."""
    score_sparsity: float = 0.5
    """Share of the channels that the network which scores is without, in arms whose name ends in -pruned."""
    pruning: str = "layer"
    """layer, global or channels."""
    tuning: str = "masked"
    """masked or regrow."""
    reinit: str = "none"
    """none, initial or fresh."""
    iterations: int = 1
    """Prunings, each followed by a part of the tuning."""
    optimizer: str = "adam"
    """sgd, adam, adamw."""
    augment: str = "none"
    """Augmentation of all trainings; auto is the data set's own."""
    device: str = "cpu"
    """auto, cpu, cuda."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        for option in ("seeds", "jobs"):
            check_range(option, getattr(self, option), 1, float("inf"), high_open=True)
        for name in ("arms", "fractions", "sparsities", "defects", "noise"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; name one at least.")
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        check_combinations(self)
        for cell in self.cells():
            _ = cell.recipe

    def cells(self) -> list[Cell]:
        """List the runs; the baseline has no fraction and is there once for all of them."""
        return list(runs_of(self))

    def replaceable(self) -> Sequence[Cell]:
        """List the runs but one for each training that scores: what it counted is read from there."""
        read = set(firsts(self.cells(), lambda cell: cell.scoring))
        return [cell for cell in self.cells() if cell not in read]

    def stages(self) -> Mapping[str, Sequence[Cell]]:
        """Return the runs in the order in which they can share trainings."""
        names = ("runs that are known", "runs that score", "runs that train", "runs that prune")
        return {name: wave for name, wave in zip(names, self.waves()) if wave}

    def files(self, outcomes: Outcomes) -> Files:
        """Return every run, the tables as numbers and as text, and the figures as svg, png and csv."""
        found = self.by_work(outcomes)
        done = [cell for cell in self.cells() if found[cell]]
        results = [found[cell] for cell in done]
        kept = {"format": 1, "options": self.options(), "cells": results}
        classes = load(self.data, self.place).train.classes or 0
        told = told_of(results, self.scores(done), classes, told_of_failures(found))
        return {"results.json": to_json(kept), **told}

    def scores(self, cells: Sequence[Cell]) -> list[Scores]:
        """Read what the trainings that score found, each once, from the runs that were made here."""
        train, here = load(self.data, self.place).train, [cell for cell in cells if cell not in self.recalled()]
        firsts_here = firsts(here, lambda cell: cell.scoring)
        return [read_scores(cell.recipe, cell.folder, self.shared, train) for cell in firsts_here]

    def by_work(self, outcomes: Outcomes) -> dict[Work, Outcome]:
        """Return what each run came to, of the stages that are done; cells of one folder have one run."""
        found = {cell.folder: row for cell, row in super().by_work(outcomes).items() if isinstance(cell, Cell)}
        return {
            cell: {**found[cell.folder], **cell.where} if found[cell.folder] else {}
            for cell in self.cells()
            if cell.folder in found
        }

    def waves(self) -> list[list[Cell]]:
        """List the runs, each once, in waves: within one, no two need the same training that is not made yet.

        First what is known from elsewhere, then those that make the trainings that score, those that make the trainings
        before the pruning, and all others.
        """
        known = [cell for cell in self.cells() if cell in self.recalled()]
        waves, there = [known], {cell.folder for cell in known}
        keys: list[Callable[[Cell], object]] = [lambda c: c.scoring, lambda c: c.trained, lambda c: c.folder]
        for key in keys:
            waves.append(firsts([cell for cell in self.cells() if cell.folder not in there], key))
            there |= {cell.folder for cell in waves[-1]}
        return waves

    def forecast(self) -> str:
        """Say how many runs there are, each once, and about how long they take; a few batches are timed."""
        known = self.recalled()
        cells = list({cell.folder: cell for cell in self.cells() if cell not in known}.values())
        if not cells:
            return "every run is known"
        forecaster = Forecaster(load(self.data, self.place), self.model)
        each = forecaster.seconds_per_sample(cells[0].recipe)
        alike = Counter(cell.recipe.with_options(seed=0, noise=0.0) for cell in cells)
        seconds = sum(count * forecaster(recipe).seconds(each) for recipe, count in alike.items())
        return f"{len(cells)} runs; {self.jobs} at a time at most {seconds / self.jobs:.0f} s, less what they share"
