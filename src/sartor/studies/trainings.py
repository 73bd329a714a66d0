"""Studies made of trainings: one grid of recipes over noise levels and seeds, each in a run folder of its own."""

from __future__ import annotations

import functools
import itertools
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sartor.comparison import Work, fit_fresh, load
from sartor.errors import TrainingError, check_range
from sartor.recipes.dense import Dense
from sartor.recipes.family import arm_folder
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import SWaST
from sartor.recipes.timetable import default_warmup
from sartor.report.statistics import Interval, mean_interval
from sartor.report.wording import seconds
from sartor.studies.known import IDENTITY, ReusingStudy, identity_of
from sartor.studies.study import GridStudy, OnData, Outcomes

KEPT = ("test_accuracy", "flops", "seconds", "steps", "epoch_equivalents", "noise_ratio", "kept_weights", "parameters")
"""What a study keeps of a run's results."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RecipeStudy(OnData, GridStudy, ReusingStudy):
    """What studies of recipes have in common; the defaults are for digits, a small and quick setting."""

    data: str = "digits"
    """Data set (sartor list datasets), such as few(of=fashion-mnist, samples=10000), or a folder or file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "cnn"
    """Network, with options: cnn(width=16)."""
    seeds: int = 5
    """Number of seeds, 0, 1, ..."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong."""
    epochs: int = 40
    """Epochs T of every run at equal epochs."""
    batch_size: int = 32
    """Samples in a mini-batch."""
    lr: float = 0.05
    """Initial learning rate."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of; every recipe is made once."""
        super().check()
        check_range("seeds", self.seeds, 1, float("inf"), high_open=True)
        for noise in self.noise:
            check_range("noise", noise, 0, 1, high_open=True)
        self.cells()

    @abstractmethod
    def recipes(self) -> Iterable[tuple[dict[str, Any], Recipe]]:
        """Yield what varies by name, and the recipe."""

    def model_of(self, factors: Row) -> str:
        """Name the network of a recipe: the same for all, unless the study says otherwise."""
        return self.model

    def told(self, result: Result) -> dict[str, Any]:
        """Return what the study needs of a run beside `KEPT`."""
        return {}

    def sources(self, cell: Cell) -> Sequence[Cell]:
        """Return the runs that a run is made from: it is made when they are done."""
        return ()

    def made(self, cell: Cell) -> Result:
        """Make a run, or read it back."""
        return cell.fit(cell.recipe, cell.model)

    def stages(self) -> Mapping[str, Sequence[Work]]:
        """Return the runs, and then those that read what these have left."""
        late = [bool(self.sources(cell)) or cell.first != cell for cell in self.cells()]
        first, then = ([c for c, is_late in zip(self.cells(), late) if is_late == which] for which in (False, True))
        return {"cells": first} | ({"cells that follow": then} if then else {})

    def results(self, outcomes: Outcomes) -> list[Mapping[str, Any]]:
        """Return what the cells came to, in their order, without those that failed."""
        found = self.by_work(outcomes)
        return [found[cell] for cell in self.cells() if found[cell]]

    def replaceable(self) -> Iterable[Cell]:
        """List the runs that are made from no other one, and from which none is made."""
        read = {source.folder for cell in self.cells() for source in self.sources(cell)}
        return [cell for cell in self.cells() if not self.sources(cell) and cell.folder not in read]

    @property
    def makes_as_told(self) -> bool:
        """Whether a cell's recipe and network are all that decides its run: no run is made from others."""
        return type(self).made is RecipeStudy.made

    def cells(self) -> list[Cell]:
        """List every recipe, at every noise level and seed."""
        return list(cells_of(self))

    def forecaster(self, model: str | None = None) -> Forecaster:
        """Return what forecasts recipes on the study's data and network."""
        return forecaster_of(self.data, self.place, model or self.model)

    def forecast(self) -> str:
        """Say how many runs there are and about how long they take; a few batches are timed."""
        total, known = 0.0, self.recalled()
        cells = [cell for cell in self.cells() if cell.first == cell and cell not in known]
        if not cells:
            return "every training is known"
        each = self.forecaster().seconds_per_sample(cells[0].recipe)
        alike = Counter((cell.recipe.with_options(seed=0, noise=0.0), cell.model) for cell in cells)
        for (recipe, model), count in alike.items():
            total += count * self.forecaster(model)(recipe).seconds(each)
        shown = seconds(total / self.jobs)
        return (
            f"{len(cells)} trainings; {self.jobs} at a time about {shown}, evaluations and selections' arithmetic apart"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingStudy(RecipeStudy):
    """What studies of SWaST and its controls have in common."""

    noise: tuple[float, ...] = (0.0, 0.2)
    """Shares of training labels made wrong."""
    every: int = 5
    """Epochs between two selections, R."""
    pruner: str = "rigl(every=10)"
    """What prunes."""

    def base(self, **options: Any) -> SWaST:
        """Make SWaST with the study's common options, evaluated at its end only."""
        common = {name: getattr(self, name) for name in ("epochs", "every", "batch_size", "lr", "pruner")}
        return SWaST(**{**common, "probe": 0, "evaluate_every": 10**6, **options})

    def at_cost(self, recipe: Recipe, target: float) -> Recipe:
        """Return a recipe of the length that brings it nearest to `target` FLOPs.

        A longer one keeps its warm-up, a shorter one has that of its length, and the length is sought with it: a
        warm-up that grew on the way would be a jump of the cost. One that has this length already is returned as it is.
        """
        found = self.forecaster().matched(recipe, target)
        before, after = usual_warmup(recipe), usual_warmup(found)
        if before is None or after is None:
            return found
        assert isinstance(recipe, SWaST | Dense)
        again = self.forecaster().matched(recipe.with_options(warmup=min(before, after)), target)
        return recipe if again.with_options(warmup=recipe.warmup) == recipe and after == before else again


@dataclass(frozen=True)
class Cell:
    """One training of a study; `factors` say by name what varies."""

    study: RecipeStudy
    factors: tuple[tuple[str, Any], ...]
    recipe: Recipe
    same_as: Cell | None = None
    """An earlier cell whose run is this one's too: at equal cost, what sets the cost is what it is at equal epochs."""

    @property
    def first(self) -> Cell:
        """The cell whose run it has: itself, or that earlier one."""
        return self.same_as or self

    @property
    def name(self) -> str:
        """The values of what varies."""
        return " ".join(str(value) for _, value in self.factors if value is not None)

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"{self.name}, noise {self.recipe.noise:g}, seed {self.recipe.seed}"

    @property
    def model(self) -> str:
        """Its network."""
        return self.study.model_of(dict(self.factors))

    @functools.cached_property
    def identity(self) -> str:
        """Its name on any machine."""
        called = () if self.study.makes_as_told else self.factors  # else runs of one recipe are one run
        return identity_of(self.study.data, self.study.place, self.model, self.recipe, called)

    @property
    def setting(self) -> tuple[object, ...]:
        """What is the same for all seeds."""
        return self.factors, self.recipe.noise

    @property
    def where(self) -> dict[str, Any]:
        """What varies, by name."""
        return dict(self.factors) | {"noise": self.recipe.noise, "seed": self.recipe.seed}

    @property
    def folder(self) -> Path:
        """Its run folder."""
        name = arm_folder(self.first.name)
        return self.study.out / f"noise-{self.recipe.noise:g}" / name / f"seed-{self.recipe.seed}"

    def run(self) -> dict[str, Any]:
        """Train (or read it back) and return what varies and what came of it."""
        check_finished(self.study.sources(self))
        result = self.study.made(self)
        found = {name: result.results[name] for name in KEPT} | self.study.told(result)
        return self.where | {IDENTITY: self.identity} | found

    def fit(self, recipe: Recipe, model: str, **options: Any) -> Result:
        """Train a fresh network in the run's folder."""
        study, labels = self.study, {"arm": self.name, "data": self.study.data, "model": model}
        given: dict[str, Any] = {"labels": labels, "shared": study.shared, **options}
        return fit_fresh(recipe, study.data, study.place, model, self.folder, **given)


def check_finished(cells: Iterable[Cell]) -> None:
    """Raise TrainingError unless all of some runs are finished."""
    missing = [cell.title for cell in cells if not (cell.folder / "results.json").exists()]
    if missing:
        raise TrainingError(f"it takes what {' and '.join(missing)} should have left, and that failed.")


@functools.lru_cache(maxsize=2)
def cells_of(study: RecipeStudy) -> tuple[Cell, ...]:
    """List a study's trainings, once: those at equal cost are forecast at many lengths."""
    firsts: dict[tuple[Recipe, str], Cell] = {}
    found = []
    for factors, recipe in study.recipes():
        for noise, seed in itertools.product(study.noise, range(study.seeds)):
            cell = Cell(study, tuple(factors.items()), recipe.with_options(noise=noise, seed=seed))
            first = firsts.setdefault((cell.recipe, cell.model), cell) if study.makes_as_told else cell
            found.append(cell if first is cell else replace(cell, same_as=first))
    return tuple(found)


@functools.lru_cache(maxsize=8)
def forecaster_of(data: str, root: str | None, model: str) -> Forecaster:
    """Make a forecaster once for each network."""
    return Forecaster(load(data, root), model)


def usual_warmup(recipe: Recipe) -> int | None:
    """Return the warm-up that follows from a recipe's epochs; None where it is given, or where there is none."""
    if not isinstance(recipe, SWaST | Dense) or recipe.warmup is not None or recipe.fraction is None:
        return None
    draws = any(slot.draws for slot in recipe.timetable(n=100))
    return default_warmup(recipe.epochs, recipe.fraction) if draws else None


def points(results: Sequence[Row], **where: Any) -> dict[int, float]:
    """Return test accuracies in percent by seed, of the runs that have these values."""
    return by_seed(results, lambda row: 100 * row["test_accuracy"], **where)


def by_seed(results: Sequence[Row], value: Callable[[Row], float], **where: Any) -> dict[int, float]:
    """Return one number of each run by seed, of the runs that have these values."""
    return {row["seed"]: value(row) for row in results if all(row[name] == wanted for name, wanted in where.items())}


def mean_of(values: Mapping[int, float]) -> Interval | None:
    """Return the mean over seeds with its interval; None of no runs."""
    return mean_interval(list(values.values())) if values else None


def crossed(corners: Sequence[Mapping[int, float]], over: int = 1) -> dict[int, float]:
    """Return (first - second - third + fourth) / over by seed, of the seeds that all have: an interaction.

    It is rounded at 1e-9, so that rounding errors of equal numbers are not read as a difference.
    """
    one, two, three, four = corners
    seeds = sorted(set.intersection(*map(set, corners)))
    return {seed: round((one[seed] - two[seed] - three[seed] + four[seed]) / over, 9) for seed in seeds}


def share_of(results: Sequence[Row], aim: Mapping[str, Any], **where: Any) -> float | None:
    """Return the FLOPs of some runs as a share of those of `aim`, in the mean over seeds; None of no runs."""
    mine, target = (by_seed(results, lambda run: float(run["flops"]), **place) for place in (where, aim))
    seeds = mine.keys() & target.keys()
    return sum(mine[seed] / target[seed] for seed in seeds) / len(seeds) if seeds else None


def average(results: Sequence[Row], name: str, **where: Any) -> float:
    """Return the mean of one of the numbers of a run, over seeds."""
    found = by_seed(results, lambda row: row[name], **where)
    return sum(found.values()) / len(found)
