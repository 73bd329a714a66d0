"""Is there anything in pruning the classifier alone? SWaST-trim against other ways to hold that layer back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.recipes.arms import make_arm
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies import classifiers
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, TrainingStudy, average, mean_of, points

PLAIN = "nothing"
PRUNED = {"trim": "swast-trim", "random masks": "swast-trim(pruner=random)"}
NETWORKS = {
    "weight decay x 10": "decayed(of={model!r}, decay=4.5e-3)",
    "weight decay x 100": "decayed(of={model!r}, decay=4.95e-2)",
    "dropout": "dropped(of={model!r})",
    "low rank": "low_rank(of={model!r})",
}
"""Networks of `sartor.studies.classifiers`; 5e-4, the decay of all other weights, comes on top."""
WAYS = (PLAIN, *PRUNED, *NETWORKS)


@STUDIES.register("trim")
@dataclass(frozen=True, kw_only=True)
class TrimStudy(TrainingStudy):
    """The classifier at a sparsity of 90 % (SWaST-trim) against random masks, decay, dropout and low rank there."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fractions": (0.2,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/trim")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "moderate"
    """What chooses."""
    fractions: tuple[float, ...] = (0.05, 0.2)
    """Shares of the training data in a coreset."""

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every way to hold the classifier back, at every fraction."""
        for fraction, way in itertools.product(self.fractions, WAYS):
            base = self.base(selector=self.selector, fraction=fraction)
            yield {"classifier": way, "fraction": fraction}, make_arm(PRUNED.get(way, "coreset-only"), base, n=10_000)

    def model_of(self, factors: Row) -> str:
        """Name the network with another classifier, where that is the way."""
        form = NETWORKS.get(factors["classifier"])
        return self.model if form is None else f"{classifiers.__name__}:{form.format(model=self.model)}"

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies, and differences to nothing done and to trim."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        gains: dict[str, Interval | None] = {}
        beaten: dict[str, Interval | None] = {}
        for noise, fraction in itertools.product(self.noise, self.fractions):
            where: dict[str, Any] = {"noise": noise, "fraction": fraction}
            by_way = {way: points(results, **where, classifier=way) for way in WAYS}
            found = []
            for place, (way, mine) in enumerate(by_way.items()):
                gain = None if way == PLAIN else paired_difference(mine, by_way[PLAIN])
                rest = None if way == "trim" else paired_difference(by_way["trim"], mine)
                share = average(results, "kept_weights", **where, classifier=way)
                rows.append(
                    {
                        **where,
                        "classifier": way,
                        "weights": share,
                        "accuracy": mean_of(mine),
                        "minus nothing": Effect(gain),
                        "trim minus this": Effect(rest),
                    }
                )
                name = f"{fraction:g} of the data, noise {noise:g}"
                if way == "trim":
                    gains[name] = gain
                elif way != PLAIN:
                    beaten[f"{way}, {name}"] = rest
                if gain is not None:
                    found.append((float(place - 1), gain))
            series: list[Series] = [series_of("", found, line=False)]
            title = f"{fraction:g} of the data, noise {noise:g}"
            panels.append(Panel(title, "", "minus nothing (points)", series, names=WAYS[1:], level=0.0))
        verdict = [
            summed("SWaST-trim minus an untouched classifier", gains),
            summed("SWaST-trim minus another way to hold the classifier back", beaten),
        ]
        table = Table(f"Ways to hold the classifier back, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])
