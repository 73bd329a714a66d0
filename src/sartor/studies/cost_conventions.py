"""Does it matter how cost is counted? Methods ranked by the papers' cost, FLOPs, epochs of data, and seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from scipy.stats import kendalltau, rankdata

from sartor.errors import ConfigError
from sartor.recipes.arms import make_arm
from sartor.recipes.dense import Dense
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE, SWaST
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted, listed
from sartor.studies.findings import Findings, Table, Value
from sartor.studies.trainings import Row, TrainingStudy, average, mean_of, points

CURRENCIES = {
    "paper": "the papers' cost",
    "flops": "FLOPs",
    "epoch_equivalents": "epochs of data",
    "seconds": "seconds",
}
"""SWaST counts a run as (share of samples) x (share of weights) of a dense one, warm-up and selection left out."""


@STUDIES.register("cost-conventions")
@dataclass(frozen=True, kw_only=True)
class CostStudy(TrainingStudy):
    """Which methods are on the front of accuracy against cost, and how they rank by cost, in each currency."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fraction": 0.2,
        "noise": (0.2,),
    }

    out: Path = Path("runs/cost-conventions")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "gradmatch"
    """What chooses."""
    fraction: float = 0.1
    """Share of the training data in a coreset."""
    sparsity: float = 0.7
    """Share of the backbone's weights removed."""
    arms: tuple[str, ...] = (
        "dense",
        "redrawn",
        "coreset-only",
        "coreset-only(selector=moderate)",
        "prune-only",
        "swast-trim",
        "swast-cut",
        "swast-cut(sparsity=0.9)",
    )
    """Methods (sartor compare), with options of their own in brackets."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if self.known:
            raise ConfigError("known: methods are ranked by their seconds, which must be of one machine; leave it out.")
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every method."""
        base = self.base(selector=self.selector, fraction=self.fraction, sparsity=self.sparsity)
        for arm in self.arms:
            yield {"arm": arm}, make_arm(arm, base, n=10_000)

    def cost(self, results: Sequence[Row], arm: str, currency: str, noise: float) -> float:
        """Return the mean cost of a method in a currency; the papers' is relative to dense."""
        if currency != "paper":
            return average(results, currency, arm=arm, noise=noise)
        kept, whole = (average(results, name, arm=arm, noise=noise) for name in ("kept_weights", "parameters"))
        recipe = next(recipe for factors, recipe in self.recipes() if factors["arm"] == arm)
        share = share_of_samples(recipe)
        if share is None:
            share = average(results, "epoch_equivalents", arm=arm, noise=noise) / self.epochs
        return share * kept / whole

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell cost and rank of every method in every currency, who is dominated, and how alike the rankings are."""
        rows: list[dict[str, Value]] = []
        alike: list[dict[str, Value]] = []
        panels, verdict = [], []
        for noise in self.noise:
            accuracy = {arm: points(results, arm=arm, noise=noise) for arm in self.arms}
            costs = {c: {arm: self.cost(results, arm, c, noise) for arm in self.arms} for c in CURRENCIES}
            ranks = {c: ranked([costs[c][arm] for arm in self.arms]) for c in CURRENCIES}
            beaten = {c: dominated(accuracy, costs[c]) for c in CURRENCIES}
            for place, arm in enumerate(self.arms):
                row: dict[str, Value] = {"noise": noise, "arm": arm, "accuracy": mean_of(accuracy[arm])}
                for currency, name in CURRENCIES.items():
                    row |= {name: costs[currency][arm], f"rank by {name}": ranks[currency][place]}
                    row[f"beaten in {name} by"] = listed(beaten[currency][arm])
                rows.append(row)
            for one, two in itertools.combinations(CURRENCIES, 2):
                tau = kendalltau(*([costs[c][arm] for arm in self.arms] for c in (one, two))).statistic
                alike.append(
                    {"noise": noise, "one": CURRENCIES[one], "other": CURRENCIES[two], "Kendall's tau": float(tau)}
                )
            fronts = {c: [arm for arm in self.arms if not beaten[c][arm]] for c in CURRENCIES}
            verdict += [f"Noise {noise:g}, by {CURRENCIES[c]}: not beaten are {listed(fronts[c])}." for c in CURRENCIES]
            orders = counted(len(set(ranks.values())), "form")
            verdict.append(f"The order of the methods by cost takes {orders} in four currencies.")
            for currency, name in CURRENCIES.items():
                series = [
                    series_of(arm, [(costs[currency][arm], interval)], line=False)
                    for arm in self.arms
                    if (interval := mean_of(accuracy[arm])) is not None
                ]
                panels.append(Panel(f"by {name}, noise {noise:g}", name, "test accuracy (%)", series))
        verdict.append(
            "A method is beaten by one that costs no more and whose accuracy is higher by a paired 95 % interval that "
            "leaves out 0; seconds are those of one machine."
        )
        runs = counted(self.seeds, "seed")
        tables = [Table(f"Costs and ranks, {runs}", rows), Table("How alike two rankings by cost are", alike)]
        return Findings(tables, verdict, [Chart("figure", panels)])


def share_of_samples(recipe: Recipe) -> float | None:
    """Return the share of samples by which the papers count a recipe; None where only what it trained on tells that."""
    if isinstance(recipe, Dense):
        return 1.0 if recipe.sampler is None and recipe.steps is None else recipe.fraction
    assert isinstance(recipe, SWaST)
    return 1.0 if recipe.selector == NONE else recipe.fraction


def ranked(costs: Sequence[float]) -> tuple[int, ...]:
    """Return the ranks of some costs from 1, the lowest, on; equal ones, up to rounding, have the same rank."""
    return tuple(int(rank) for rank in rankdata([float(f"{cost:.9g}") for cost in costs], method="min"))


def dominated(accuracy: Mapping[str, Mapping[int, float]], costs: Mapping[str, float]) -> dict[str, list[str]]:
    """Return, for each method, those that cost no more and are better by a paired interval."""
    found: dict[str, list[str]] = {arm: [] for arm in accuracy}
    for arm, other in itertools.permutations(accuracy, 2):
        effect = paired_difference(accuracy[other], accuracy[arm])
        if costs[other] <= costs[arm] and effect is not None and effect.outcome == "better":
            found[arm].append(other)
    return found
