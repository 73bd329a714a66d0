"""When should EL2N turn from hard to easy samples? Switches early, late and never, and the middle of the ranking."""

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
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, TrainingStudy, average, mean_of, points

RULES = {
    "easy always": "keep=lowest",
    "switch at 25 %": "keep=switch, switch_at=0.25",
    "switch at 50 %": "keep=switch",
    "switch at 75 %": "keep=switch, switch_at=0.75",
    "hard always": "keep=highest",
    "middle": "keep=middle",
}
USUAL, RANDOM = "switch at 50 %", "random"
ARMS = ("coreset-only", "swast-cut")


@STUDIES.register("el2n-switch")
@dataclass(frozen=True, kw_only=True)
class SwitchStudy(TrainingStudy):
    """EL2N that keeps the hardest samples, the easiest, those in the middle, or turns from hard to easy on its way."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fractions": (0.2,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/el2n-switch")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    fractions: tuple[float, ...] = (0.1, 0.3)
    """Shares of the training data in a coreset."""
    balanced: tuple[bool, ...] = (False, True)
    """Whether each class keeps its share: tried are the ranking of all samples and that within each class."""

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every rule, and random samples redrawn at every selection, without and with pruning."""
        for fraction, arm in itertools.product(self.fractions, ARMS):
            for balanced in self.balanced:
                for rule, options in RULES.items():
                    selector = f"el2n({options}, balanced={balanced})"
                    factors = {"arm": arm, "rule": rule, "balanced": balanced, "fraction": fraction}
                    yield factors, self.arm(arm, selector, fraction)
            factors = {"arm": arm, "rule": RANDOM, "balanced": None, "fraction": fraction}
            yield factors, self.arm(arm, "random", fraction)

    def arm(self, name: str, selector: str, fraction: float) -> Recipe:
        """Make one arm with one selector."""
        return make_arm(name, self.base(selector=selector, fraction=fraction), n=10_000)

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies, wrong labels in the last coreset, differences to SWaST's switch and to random samples."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        effects: dict[str, Interval | None] = {}
        rivals: dict[str, Interval | None] = {}
        for noise, fraction in itertools.product(self.noise, self.fractions):
            series: list[Series] = []
            for arm, balanced in itertools.product(ARMS, self.balanced):
                where: dict[str, Any] = {"noise": noise, "fraction": fraction, "arm": arm}
                drawn = points(results, **where, rule=RANDOM)
                usual = points(results, **where, rule=USUAL, balanced=balanced)
                found = []
                ranks = "within classes" if balanced else "of all samples"
                place_of = f"{arm}, ranks {ranks}, {fraction:g} of the data, noise {noise:g}"
                for place, rule in enumerate((*RULES, RANDOM)):
                    cell = where | {"rule": rule, "balanced": None if rule == RANDOM else balanced}
                    mine = points(results, **cell)
                    others = {USUAL: usual, RANDOM: drawn}
                    against = {name: None if name == rule else paired_difference(mine, o) for name, o in others.items()}
                    noisy = None if noise == 0 else average(results, "noise_ratio", **cell)
                    minus = {f"minus {name}": Effect(effect) for name, effect in against.items()}
                    if rule not in (USUAL, RANDOM):
                        rivals[f"{rule}, {place_of}"] = against[USUAL]
                    if rule != RANDOM or balanced == self.balanced[0]:
                        rows.append({**cell, "accuracy": mean_of(mine), "wrong labels kept": noisy, **minus})
                    if (interval := mean_of(mine)) is not None:
                        found.append((float(place), interval))
                effects[place_of] = paired_difference(usual, drawn)
                series.append(series_of(f"{arm}, {ranks}", found, shift=0.1 * (len(series) - 1.5), line=False))
            title = f"{fraction:g} of the data, noise {noise:g}"
            panels.append(Panel(title, "", "test accuracy (%)", series, names=(*RULES, RANDOM)))
        table = Table(f"What EL2N keeps, {counted(self.seeds, 'seed')}, percentage points", rows)
        verdict = [
            summed("The switch at half-way minus redrawn random samples", effects),
            summed("Another rule minus the switch at half-way", rivals),
        ]
        return Findings([table], verdict, [Chart("figure", panels)])
