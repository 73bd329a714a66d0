"""Wrong labels: what coresets hold of them, and whether sparse networks learn them by heart (SWaST, Fig. 5a-c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import ConfigError
from sartor.recipes.arms import make_arm
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, TrainingStudy, by_seed, mean_of, points

RANDOM, DENSE = "redrawn", "dense"
SAME = "loss, minus redrawn at the same sparsity"
PRUNED = "minus all weights"
"""What a pruned network's coresets and losses are held against: the same selector's without pruning (Fig. 5a)."""


@STUDIES.register("noise")
@dataclass(frozen=True, kw_only=True)
class NoiseStudy(TrainingStudy):
    """Share of wrong labels in every coreset, test minus validation loss, losses of wrong and right labels."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fraction": 0.2,
        "selectors": ("moderate",),
        "sparsities": (0.9,),
    }

    out: Path = Path("runs/noise")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    noise: tuple[float, ...] = (0.1,)
    """Shares of training labels made wrong; the figure shows the first."""
    fraction: float = 0.1
    """Share of the training data in a coreset."""
    selectors: tuple[str, ...] = ("el2n(keep=switch)", "moderate", "gradmatch")
    """What chooses."""
    sparsities: tuple[float, ...] = (0.3, 0.9)
    """Shares of the backbone's weights removed."""
    watched: int = 2
    """Epochs between two looks at the losses."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if not self.noise or 0 in self.noise:
            raise ConfigError("noise holds no share above 0, or holds 0; without wrong labels there is nothing to see.")
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield all data and random samples, without and with pruning, then every selector, without and with it.

        No states are preserved: they would hold pruned networks, and those with all weights not.
        """
        looks = {"probe": 2000, "evaluate_every": self.watched, "fraction": self.fraction, "preserve": NONE}
        base = self.base(**looks)
        for selector in (None, "random", *self.selectors):
            for sparsity in (None, *self.sparsities):
                arm = {(True, True): DENSE, (True, False): "prune-only", (False, True): "coreset-only"}.get(
                    (selector is None, sparsity is None), "swast-cut"
                )
                name = RANDOM if selector == "random" else selector
                changed = base.with_options(sparsity=sparsity) if sparsity is not None else base
                changed = changed if selector is None else changed.with_options(selector=selector)
                yield {"arm": arm, "selector": name, "sparsity": sparsity}, make_arm(arm, changed, n=10_000)

    def told(self, result: Result) -> dict[str, Any]:
        """Return the share of wrong labels at each selection, and the losses at each look."""
        names = ("epoch", "test_loss", "validation_loss", "loss_noisy", "loss_clean")
        lines = [line for line in result.metrics if line["kind"] == "epoch" and "test_loss" in line]
        chosen = [line for line in result.metrics if line["kind"] == "selection"]
        return {
            "coresets": [[line["epoch"], line["noise_ratio"]] for line in chosen],
            "losses": [[line[name] for name in names] for line in lines],
        }

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell the last coresets' wrong labels, the last gaps and losses, and differences to random and to dense.

        The verdict holds chosen samples against random ones at the same sparsity, whose trainings are as long, and
        pruned networks against those with all weights on the same samples, random ones and all data too.
        """
        rows: list[dict[str, Value]] = []
        chosen: dict[str, Interval | None] = {}
        learnt: dict[str, Interval | None] = {}
        picky: dict[str, Interval | None] = {}
        steady: dict[str, Interval | None] = {}
        unlearnt: dict[str, Interval | None] = {}
        for noise in self.noise:
            drawn = points(results, noise=noise, selector=RANDOM, sparsity=None)
            redrawn = {
                sparsity: by_seed(results, memorised, noise=noise, selector=RANDOM, sparsity=sparsity)
                for sparsity in (None, *self.sparsities)
            }
            whole = by_seed(results, memorised, noise=noise, arm=DENSE)
            for factors, _ in self.recipes():
                where: dict[str, Any] = {"noise": noise, **factors}
                kept = by_seed(results, last_share, **where) if factors["selector"] else {}
                gap, loss = by_seed(results, last_gap, **where), by_seed(results, memorised, **where)
                less = None if factors["arm"] == DENSE else paired_difference(loss, whole)
                selected = factors["selector"] not in (None, RANDOM)
                beside = paired_difference(loss, redrawn[factors["sparsity"]]) if selected else None
                mine = points(results, **where)
                unpruned = {"noise": noise, "selector": factors["selector"], "sparsity": None}
                pruned = factors["sparsity"] is not None
                fewer = paired_difference(kept, by_seed(results, last_share, **unpruned)) if pruned and kept else None
                nearer = paired_difference(gap, by_seed(results, last_gap, **unpruned)) if pruned else None
                higher = paired_difference(loss, by_seed(results, memorised, **unpruned)) if pruned else None
                itself = (factors["selector"], factors["sparsity"]) == (RANDOM, None)
                other = None if itself else paired_difference(mine, drawn)
                rows.append(
                    {
                        **where,
                        "accuracy": mean_of(mine),
                        f"minus {RANDOM}": Effect(other),
                        "wrong labels kept, %": mean_of(kept),
                        f"kept, {PRUNED}": Effect(fewer),
                        "test - validation loss": mean_of(gap),
                        f"gap, {PRUNED}": Effect(nearer),
                        "loss of wrong - right labels": mean_of(loss),
                        f"loss, {PRUNED}": Effect(higher),
                        "loss, minus dense": Effect(less),
                        SAME: Effect(beside),
                    }
                )
                name = " ".join(str(value) for value in factors.values() if value is not None) + f", noise {noise:g}"
                if kept and factors["selector"] != RANDOM:
                    chosen[name] = mean_interval([value - 100 * noise for value in kept.values()])
                if selected:
                    learnt[name] = beside
                if selected and pruned:
                    picky[name] = fewer
                if pruned:
                    steady[name], unlearnt[name] = nearer, higher
        verdict = summed("Percent of wrong labels in the last coreset, minus that of all data (random's)", chosen)
        what = "Loss of wrong minus right labels (high: not learnt by heart), chosen minus redrawn at the same sparsity"
        verdict += summed(what, learnt)
        verdict += summed("Percent of wrong labels in the last coreset of a pruned network, minus all weights", picky)
        verdict += summed("Test minus validation loss of a pruned network, minus all weights", steady)
        verdict += summed("Loss of wrong minus right labels of a pruned network, minus all weights", unlearnt)
        table = Table(f"Wrong labels, {counted(self.seeds, 'seed')}", rows)
        return Findings([table], verdict, [Chart("figure", list(self.panels(results)))])

    def panels(self, results: Sequence[Row]) -> Iterator[Panel]:
        """Draw the three panels of Fig. 5 at the first noise level, for every selector and for all data, in rows."""
        for selector in (RANDOM, *self.selectors, None):
            here = [row for row in results if (row["noise"], row["selector"]) == (self.noise[0], selector)]
            title = f"{selector or 'all data'}, noise {self.noise[0]:g}"
            by_name = {
                "all weights" if sparsity is None else f"{100 * sparsity:g} % of them pruned": [
                    row for row in here if row["sparsity"] == sparsity
                ]
                for sparsity in (None, *self.sparsities)
            }
            if selector is not None:
                kept = [curve(name, [row["coresets"] for row in rows], 1, 100) for name, rows in by_name.items()]
                yield Panel(f"wrong labels: {title}", "epoch", "% of the coreset", kept, level=100 * self.noise[0])
            for what, first, second in (("test - validation loss", 1, 2), ("loss of wrong - right labels", 3, 4)):
                lines = {
                    name: [differences(row["losses"], first, second) for row in rows] for name, rows in by_name.items()
                }
                yield Panel(title, "epoch", what, [curve(name, found, 1) for name, found in lines.items()])


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
