"""Is it the preservation of states? Random samples with it, chosen samples with it, and SWaST, over its weight."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import ConfigError, check_choice
from sartor.losses import PRESERVED
from sartor.recipes.arms import make_arm
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, TrainingStudy, mean_of, points, share_of

SMOOTH = "label smoothing"
COMPLETE = "complete"
SWAST, ALL_DATA = "SWaST", "all, pruned"
WAYS = {
    "random": "coreset-only(selector=random)",
    "chosen": "coreset-only",
    SWAST: "swast-cut",
    ALL_DATA: "prune-only",
}
"""Redrawn random samples and chosen ones with all weights; chosen samples and all samples with pruned weights."""


@STUDIES.register("preservation")
@dataclass(frozen=True, kw_only=True)
class PreservationStudy(TrainingStudy):
    """State preservation by its weight, none and label smoothing beside, at equal epochs and at SWaST's cost."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fractions": (0.2,),
        "weights": (0.1,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/preservation")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "moderate"
    """What chooses."""
    fractions: tuple[float, ...] = (0.05, 0.2)
    """Shares of the training data in a coreset."""
    weights: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Weights of the preservation loss, lambda."""
    states: tuple[str, ...] = (COMPLETE,)
    """Whose states are held: complete, selective, confident, half."""
    smoothing: float = 0.1
    """Label smoothing of the control."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if not self.states or len(set(self.states)) < len(self.states):
            raise ConfigError(f"states are {self.states}; name one at least, each once.")
        for which in self.states:
            check_choice("states", which, PRESERVED)
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every way with every kind of hold; at equal cost all have that of SWaST without preservation."""
        for fraction, way, hold in itertools.product(self.fractions, WAYS, self.holds()):
            plain = self.arm(way, hold, fraction)
            target = self.forecaster()(self.arm(SWAST, "none", fraction)).flops
            for match in ("epochs", "cost"):
                recipe = plain if match == "epochs" else self.at_cost(plain, target)
                yield {"samples": way, "hold": hold, "fraction": fraction, "match": match}, recipe

    def holds(self) -> list[str]:
        """Name the kinds of hold: none, label smoothing, preservation by its weight and by whose states are held."""
        return ["none", SMOOTH, *(hold_of(weight, which) for which in self.states for weight in self.weights)]

    def arm(self, way: str, hold: str, fraction: float) -> Recipe:
        """Make one way with one kind of hold."""
        smoothing = self.smoothing if hold == SMOOTH else 0.0
        base = self.base(selector=self.selector, fraction=fraction, label_smoothing=smoothing)
        if not hold.startswith("lambda"):
            return make_arm(WAYS[way], base, n=10_000).with_options(preserve="none")
        recipe = make_arm("prune-only+preserve" if way == ALL_DATA else WAYS[way], base, n=10_000)
        weight, which = read_hold(hold)
        return recipe.with_options(preserve=which, preserve_weight=weight)

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies and differences to no hold, to label smoothing, and to SWaST with the same hold."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        effects: dict[str, dict[str, Interval | None]] = {"none": {}, SMOOTH: {}, SWAST: {}, COMPLETE: {}}
        for noise, match, fraction in itertools.product(self.noise, ("epochs", "cost"), self.fractions):
            series: list[Series] = []
            for way in WAYS:
                where: dict[str, Any] = {"noise": noise, "match": match, "fraction": fraction}
                by_hold = {hold: points(results, **where, samples=way, hold=hold) for hold in self.holds()}
                found = []
                for place, (hold, mine) in enumerate(by_hold.items()):
                    others = {name: by_hold[name] for name in ("none", SMOOTH)}
                    others[SWAST] = points(results, **where, samples=SWAST, hold=hold)
                    if len(self.states) > 1 and COMPLETE in self.states:
                        others[COMPLETE] = by_hold[complete_of(hold)]
                    row: dict[str, Value] = {**where, "samples": way, "hold": hold, "accuracy": mean_of(mine)}
                    aim = {**where, "samples": SWAST, "hold": "none"}
                    row["FLOPs (share of target)"] = share_of(results, aim, **where, samples=way, hold=hold)
                    for name, other in others.items():
                        effect = None if other is mine or name == way else paired_difference(mine, other)
                        row[f"minus {name}"] = Effect(effect)
                        told = hold.startswith("lambda") and (match, way) != ("cost", SWAST)  # as at equal epochs
                        told &= (name, way) != (SWAST, ALL_DATA)
                        if effect is not None and told:
                            effects[name][f"{way}, {hold}, {fraction:g} of the data, {match}, noise {noise:g}"] = effect
                    rows.append(row)
                    if (interval := mean_of(mine)) is not None:
                        found.append((float(place), interval))
                series.append(series_of(way, found, shift=0.1 * (len(series) - 1), line=False))
            title = f"{fraction:g} of the data, equal {match}, noise {noise:g}"
            panels.append(Panel(title, "", "test accuracy (%)", series, names=self.holds()))
        verdict = [
            summed("Preservation minus none", effects["none"]),
            summed("Preservation minus label smoothing", effects[SMOOTH]),
            summed("Preservation without pruning minus SWaST with the same weight", effects[SWAST]),
        ]
        if any(effects[COMPLETE].values()):
            what = "Preservation of some states minus that of all with the same weight"
            verdict.append(summed(what, effects[COMPLETE]))
        table = Table(f"What holds the network, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def hold_of(weight: float, which: str) -> str:
    """Name a preservation."""
    return f"lambda {weight:g}" + ("" if which == COMPLETE else f" {which}")


def complete_of(hold: str) -> str:
    """Name the preservation of all states with the same weight; another kind of hold is its own."""
    return hold_of(read_hold(hold)[0], COMPLETE) if hold.startswith("lambda") else hold


def read_hold(hold: str) -> tuple[float, str]:
    """Return the weight of a preservation and whose states it holds.

    >>> read_hold(hold_of(0.1, "half")), read_hold(hold_of(1, "complete"))
    ((0.1, 'half'), (1.0, 'complete'))
    """
    _, weight, *which = hold.split()
    return float(weight), which[0] if which else COMPLETE
