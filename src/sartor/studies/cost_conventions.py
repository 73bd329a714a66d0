"""Does it matter how cost is counted? Methods ranked by the papers' cost, FLOPs, epochs of data, and seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from scipy.stats import kendalltau

from sartor.recipes.arms import make_arm
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES, parse
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
WHOLE = ("dense", "prune-only")


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
        return (1.0 if parse(arm)[0] in WHOLE else self.fraction) * kept / whole

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell cost and rank of every method in every currency, who is dominated, and how alike the rankings are."""
        rows: list[dict[str, Value]] = []
        alike: list[dict[str, Value]] = []
        panels, verdict = [], []
        for noise in self.noise:
            accuracy = {arm: points(results, arm=arm, noise=noise) for arm in self.arms}
            costs = {c: {arm: self.cost(results, arm, c, noise) for arm in self.arms} for c in CURRENCIES}
            beaten = {c: dominated(accuracy, costs[c]) for c in CURRENCIES}
            for arm in self.arms:
                row: dict[str, Value] = {"noise": noise, "arm": arm, "accuracy": mean_of(accuracy[arm])}
                for currency, name in CURRENCIES.items():
                    rank = sorted(self.arms, key=lambda other: costs[currency][other]).index(arm) + 1
                    row |= {name: costs[currency][arm], f"rank by {name}": rank}
                    row[f"beaten in {name} by"] = listed(beaten[currency][arm])
                rows.append(row)
            for one, two in itertools.combinations(CURRENCIES, 2):
                tau = kendalltau(*([costs[c][arm] for arm in self.arms] for c in (one, two))).statistic
                alike.append(
                    {"noise": noise, "one": CURRENCIES[one], "other": CURRENCIES[two], "Kendall's tau": float(tau)}
                )
            fronts = {c: [arm for arm in self.arms if not beaten[c][arm]] for c in CURRENCIES}
            verdict += [f"Noise {noise:g}, by {CURRENCIES[c]}: not beaten are {listed(fronts[c])}." for c in CURRENCIES]
            orders = {tuple(sorted(self.arms, key=lambda arm: costs[c][arm])) for c in CURRENCIES}
            verdict.append(f"The order of the methods by cost takes {counted(len(orders), 'form')} in four currencies.")
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


def dominated(accuracy: Mapping[str, Mapping[int, float]], costs: Mapping[str, float]) -> dict[str, list[str]]:
    """Return, for each method, those that cost no more and are better by a paired interval."""
    found: dict[str, list[str]] = {arm: [] for arm in accuracy}
    for arm, other in itertools.permutations(accuracy, 2):
        effect = paired_difference(accuracy[other], accuracy[arm])
        if costs[other] <= costs[arm] and effect is not None and effect.outcome == "better":
            found[arm].append(other)
    return found
