"""What noise found: wrong labels in coresets, test minus validation loss, losses of wrong minus right labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, by_seed, mean_of

RANDOM, DENSE = "redrawn", "dense"
SAME = "loss, minus redrawn at the same sparsity"
PRUNED = "minus all weights"
"""What a pruned network's coresets and losses are held against: the same selector's without pruning (Fig. 5a)."""
DIFFERENCES = {
    SAME: "Loss of wrong minus right labels (high: not learnt by heart), chosen minus redrawn at the same sparsity",
    f"kept, {PRUNED}": "Percent of wrong labels in the last coreset of a pruned network, minus all weights",
    f"gap, {PRUNED}": "Test minus validation loss of a pruned network, minus all weights",
    f"loss, {PRUNED}": "Loss of wrong minus right labels of a pruned network, minus all weights",
}
"""Columns of the table that the verdict sums up -> what they are."""


@dataclass(frozen=True)
class Setting:
    """The runs of one selector and sparsity at one noise level."""

    results: Sequence[Row]
    noise: float
    arm: str
    selector: str | None
    sparsity: float | None

    @property
    def where(self) -> dict[str, Any]:
        """Name it in a table."""
        return {"noise": self.noise, "arm": self.arm, "selector": self.selector, "sparsity": self.sparsity}

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        parts = (self.arm, self.selector, self.sparsity)
        return " ".join(str(part) for part in parts if part is not None) + f", noise {self.noise:g}"

    @property
    def is_chosen(self) -> bool:
        """Whether a selector chose the samples, and not chance."""
        return self.selector not in (None, RANDOM)

    @property
    def kept(self) -> dict[int, float]:
        """The percentages of wrong labels in the last coresets, by seed; none where all data are trained on."""
        return self.values(last_share) if self.selector else {}

    def values(self, of: Measure) -> dict[int, float]:
        """Return one number of each run, by seed."""
        return by_seed(self.results, of, **self.where)

    def minus(self, of: Measure, **other: Any) -> Interval | None:
        """Return by how much a number exceeds that of other runs with as much noise, paired by seed."""
        return paired_difference(self.values(of), by_seed(self.results, of, noise=self.noise, **other))

    @cached_property
    def effects(self) -> dict[str, Interval | None]:
        """The differences that there are: to random samples, to dense training, to the same without pruning.

        Chosen samples are held against random ones at the same sparsity, whose trainings are as long.
        """
        found: dict[str, Interval | None] = {}
        if (self.selector, self.sparsity) != (RANDOM, None):
            found[f"minus {RANDOM}"] = self.minus(accuracy, selector=RANDOM, sparsity=None)
        if self.arm != DENSE:
            found["loss, minus dense"] = self.minus(memorised, arm=DENSE)
        if self.is_chosen:
            found[SAME] = self.minus(memorised, selector=RANDOM, sparsity=self.sparsity)
        if self.sparsity is not None:
            whole = {"selector": self.selector, "sparsity": None}
            if self.selector:
                found[f"kept, {PRUNED}"] = self.minus(last_share, **whole)
            found[f"gap, {PRUNED}"] = self.minus(last_gap, **whole)
            found[f"loss, {PRUNED}"] = self.minus(memorised, **whole)
        return found

    @property
    def row(self) -> dict[str, Value]:
        """Its row in the table."""

        def effect(column: str) -> dict[str, Value]:
            return {column: Effect(self.effects.get(column))}

        found: dict[str, Value] = {**self.where, "accuracy": mean_of(self.values(accuracy))}
        found |= effect(f"minus {RANDOM}")
        found |= {"wrong labels kept, %": mean_of(self.kept), **effect(f"kept, {PRUNED}")}
        found |= {"test - validation loss": mean_of(self.values(last_gap)), **effect(f"gap, {PRUNED}")}
        found |= {"loss of wrong - right labels": mean_of(self.values(memorised)), **effect(f"loss, {PRUNED}")}
        return found | effect("loss, minus dense") | effect(SAME)


def told(settings: Sequence[Setting], seeds: int, panels: Sequence[Panel]) -> Findings:
    """Say what coresets hold of wrong labels, and whether choosing or pruning keeps them from being learnt by heart."""
    chosen = {
        one.name: mean_interval([value - 100 * one.noise for value in one.kept.values()])
        for one in settings
        if one.is_chosen and one.kept
    }
    verdict = [summed("Percent of wrong labels in the last coreset, minus that of all data (random's)", chosen)]
    for column, what in DIFFERENCES.items():
        here = [one for one in settings if one.is_chosen or column != f"kept, {PRUNED}"]
        verdict.append(summed(what, {one.name: one.effects[column] for one in here if column in one.effects}))
    table = Table(f"Wrong labels, {counted(seeds, 'seed')}", [one.row for one in settings])
    return Findings([table], verdict, [Chart("figure", panels)])


Measure = Callable[[Row], float]


def accuracy(row: Row) -> float:
    """Return the test accuracy in percent."""
    return float(100 * row["test_accuracy"])


def differences(lines: Sequence[Sequence[float]], first: int, second: int) -> list[list[float]]:
    """Return epoch and the difference of two columns, line by line."""
    return [[line[0], line[first] - line[second]] for line in lines]


def curve(label: str, runs: Sequence[Sequence[Sequence[float]]], column: int, factor: float = 1.0) -> Series:
    """Average one column over runs by epoch (counted from 1)."""
    by_epoch: dict[int, list[float]] = {}
    for lines in runs:
        for line in lines:
            by_epoch.setdefault(int(line[0]) + 1, []).append(factor * line[column])
    return series_of(label, [(float(epoch), mean_interval(values)) for epoch, values in sorted(by_epoch.items())])


def last_share(row: Row) -> float:
    """Return the percentage of wrong labels in the last coreset."""
    return float(100 * row["coresets"][-1][1])


def last_gap(row: Row) -> float:
    """Return test minus validation loss at the end."""
    return float(differences(row["losses"], 1, 2)[-1][1])


def memorised(row: Row) -> float:
    """Return the mean loss of wrong labels minus that of right ones at the end."""
    return float(differences(row["losses"], 3, 4)[-1][1])
