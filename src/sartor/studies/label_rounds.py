"""Studies of labels asked for in rounds: one grid of PruneFuse and its controls, which share what they can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.recipes.active import Active
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.outcome import Result
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.rounds import Rounds
from sartor.report.charts import Series, series_of
from sartor.report.statistics import Interval
from sartor.studies.findings import Effect, Value, shown, summed
from sartor.studies.trainings import RecipeStudy, Row, average, by_seed

RARELY = 10**6
"""Epochs between two evaluations where only the last one counts."""


@dataclass(frozen=True, kw_only=True)
class LabelStudy(RecipeStudy):
    """What PruneFuse's ablations have in common.

    A training that several runs have is made once and charged to each: runs that differ after their selectors have the
    same selectors. Runs of one seed have the same first labels and the same fresh networks; those of PruneFuse draw
    their mini-batches alike as well, the dense reference draws its own.
    """

    epochs: int = 30
    """Epochs of every training."""
    lr: float = 0.1
    """Initial learning rate."""
    budgets: str = "0.02,0.1,0.3"
    """Labels that there are, round by round; the target is trained on the last: shares of the data or numbers."""
    acquisition: str = "least-confidence"
    """What chooses the samples to be labelled."""
    sparsity: float = 0.5
    """Share of channels that the selector lacks, p."""
    temperature: float = 4.0
    """Temperature at which targets listen to their selectors."""

    @property
    def shared_options(self) -> dict[str, Any]:
        """The options that all recipes have."""
        names = ("epochs", "lr", "batch_size", "budgets", "acquisition")
        return {name: getattr(self, name) for name in names} | {"probe": 0, "evaluate_every": RARELY}

    def prunefuse(self, **options: Any) -> PruneFuse:
        """Make PruneFuse with the study's options; without those of selectors or teachers, where these have no use."""
        made = PruneFuse(**{**self.shared_options, **options})
        used = {"sparsity": made.has_selector, "temperature": made.kd}
        own = {name: getattr(self, name) for name, has_use in used.items() if has_use}
        return made.with_options(**{**own, **options})

    def unaided(self, **options: Any) -> PruneFuse:
        """Make PruneFuse whose selector only chooses: its targets are fresh, and nobody teaches them."""
        return self.prunefuse(fusion=False, kd=False, **options)

    def dense(self, **options: Any) -> Active:
        """Make active learning by the dense network."""
        return Active(**{**self.shared_options, **options})

    def matched(self, recipe: Rounds, aim: Rounds) -> Rounds:
        """Return a recipe that costs as many FLOPs as `aim`: PruneFuse by longer targets, others by all trainings."""
        forecaster: Forecaster = self.forecaster()
        found = forecaster.matched(recipe, forecaster(aim).flops)
        assert isinstance(found, Rounds)
        return found

    def told(self, result: Result) -> dict[str, Any]:
        """Return the accuracy of the last selector, None where there was none, and the paper's cost of all."""
        rounds = result.results["rounds"]
        accuracies = [told["selector_accuracy"] for told in rounds if "selector_accuracy" in told]
        last = accuracies[-1] if accuracies else None
        return {"selector_accuracy": last, "paper_cost": result.results["cost_paper"]["total"]}

    def forecast(self) -> str:
        """Say how many runs there are and about how long they take at most; a few batches are timed."""
        return f"{super().forecast()}; less what they share, and what small networks are faster"


def selectors(results: Sequence[Row], **where: Any) -> dict[int, float]:
    """Return the accuracies of the last selectors in percent by seed, of runs that had one."""
    having = [row for row in results if row["selector_accuracy"] is not None]
    return by_seed(having, lambda row: 100 * row["selector_accuracy"], **where)


def costs(results: Sequence[Row], **where: Any) -> dict[str, Value]:
    """Return what some runs cost, in the mean: all FLOPs, the paper's convention, and seconds of training and choosing.

    What several runs share is charged to each.
    """
    names = {"flops": "FLOPs", "paper_cost": "paper's cost", "seconds": "seconds"}
    return {title: average(results, name, **where) for name, title in names.items()}


def verdict_on(rows: Iterable[Mapping[str, Value]], column: str, what: str, names: Sequence[str]) -> str:
    """Say what a column of differences shows; rows are told apart by their values of `names`."""
    found = {}
    for row in rows:
        value = row[column]
        if isinstance(value, Effect) and value.interval is not None:
            found[", ".join(f"{name} {shown(row[name])}" for name in names)] = value.interval
    return summed(what, found)


def marks(
    label: str, rows: Sequence[Mapping[str, Value]], column: str, *, at: Sequence[float] = (), shift: float = 0.0
) -> Series:
    """Draw a column of intervals or differences as marks at 0, 1, ..., or where `at` says; none where there is none."""
    known = []
    for place, row in enumerate(rows):
        value = row[column]
        interval = value.interval if isinstance(value, Effect) else value
        if isinstance(interval, Interval):
            known.append((float(at[place] if at else place), interval))
    return series_of(label, known, shift=shift, line=False)
