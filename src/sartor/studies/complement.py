"""Is fusion a better beginning? Every complement, a fresh draw, warm starts, at the restart rate and at a low one."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import ConfigError, check_range
from sartor.recipes.fusing import COMPLEMENTS
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.label_rounds import LabelStudy, costs, verdict_on
from sartor.studies.trainings import Row, average, by_seed, mean_of, points
from sartor.studies.warm_start import WarmStart

SCRATCH = "scratch"
WARM = {"pretrained": {"shrink": 1.0, "perturb": 0.0}, "shrink-and-perturb": {"shrink": 0.5, "perturb": 0.1}}
"""Warm starts from the dense network that learnt the labels of the round before."""
BEGINNINGS = (SCRATCH, *COMPLEMENTS, *WARM)


@STUDIES.register("complement")
@dataclass(frozen=True, kw_only=True)
class ComplementStudy(LabelStudy):
    """What the target begins from: scratch, the selector's weights and a complement, or a warm start; at two rates."""

    QUICK: ClassVar[Mapping[str, Any]] = {"model": "cnn(width=4)", "seeds": 2, "epochs": 8}

    out: Path = Path("runs/complement")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    rates: tuple[float, ...] = (0.1, 0.01)
    """Initial learning rates of the target; all selectors have lr."""
    kd: bool = True
    """Whether all targets are taught by the selector."""

    def check(self) -> None:
        """Raise ConfigError for rates that are none."""
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise ConfigError(f"rates are {self.rates}; name one at least, each once.")
        for rate in self.rates:
            check_range("rates", rate, 0, float("inf"), low_open=True, high_open=True)
        if not self.kd and self.temperature != LabelStudy.temperature:
            raise ConfigError("temperature has no effect without kd, for nobody is taught; leave one of them out.")
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every beginning at every rate."""
        for rate, beginning in itertools.product(self.rates, BEGINNINGS):
            yield {"rate": rate, "beginning": beginning}, self.arm(beginning, rate)

    def arm(self, beginning: str, rate: float) -> Recipe:
        """Make one beginning at one rate, evaluated after every epoch."""
        options: dict[str, Any] = {"kd": self.kd, "target_lr": rate, "evaluate_every": 1}
        if beginning in WARM:
            teaching = {"temperature": self.temperature} if self.kd else {}
            common = {**self.shared_options, "sparsity": self.sparsity, **teaching}
            return WarmStart(**{**common, **options, **WARM[beginning]})
        if beginning == SCRATCH:
            return self.prunefuse(fusion=False, **options)
        return self.prunefuse(complement=beginning, **options)

    def told(self, result: Result) -> dict[str, Any]:
        """Return the accuracies of the target, epoch by epoch, as well."""
        curve = [line["test_accuracy"] for line in result.metrics if line["kind"] == "epoch"]
        return super().told(result) | {"curve": curve}

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell how fast and how far each beginning comes, beside scratch at the same rate and at its best one."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        for noise in self.noise:
            best = max(self.rates, key=lambda rate: average(results, "test_accuracy", **scratch(noise, rate)))
            for rate in self.rates:
                wheres = [scratch(noise, rate) | {"beginning": beginning} for beginning in BEGINNINGS]
                rivals = {"minus scratch": scratch(noise, rate), "minus best scratch": scratch(noise, best)}
                rows += [row_of(results, where, rivals) for where in wheres]
                curves = [curve_of(results, where) for where in wheres]
                title = f"initial rate {rate:g}, noise {noise:g}"
                panels.append(Panel(title, "epochs of the target", "test accuracy (%)", curves))
        others = [row for row in rows if row["beginning"] != SCRATCH]
        what, told = "Another beginning minus scratch at", ("beginning", "rate", "noise")
        verdict = [
            verdict_on(others, "minus scratch", f"{what} the same rate", told),
            verdict_on(others, "minus best scratch", f"{what} its best rate here", told),
        ]
        table = Table(f"What the target begins from, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def scratch(noise: float, rate: float) -> dict[str, Any]:
    """Name the runs whose targets begin from a fresh draw."""
    return {"noise": noise, "rate": rate, "beginning": SCRATCH}


def row_of(
    results: Sequence[Row], where: Mapping[str, Any], rivals: Mapping[str, Mapping[str, Any]]
) -> dict[str, Value]:
    """Return the row of one beginning; `rivals` are what it is held against, by the name of the difference."""
    mine = points(results, **where)
    gains = {
        name: None if where == rival else paired_difference(mine, points(results, **rival))
        for name, rival in rivals.items()
    }
    return {
        **where,
        "after 1 epoch": mean_of(by_seed(results, lambda row: 100 * row["curve"][0], **where)),
        "mean of all epochs": mean_of(by_seed(results, lambda row: 100 * statistics.mean(row["curve"]), **where)),
        "accuracy": mean_of(mine),
        **costs(results, **where),
        **{name: Effect(gain) for name, gain in gains.items()},
    }


def curve_of(results: Sequence[Row], where: Mapping[str, Any]) -> Series:
    """Draw the accuracies of one beginning after each epoch, averaged over seeds."""
    curves = [row["curve"] for row in results if all(row[name] == value for name, value in where.items())]
    heights = [100 * statistics.mean(values) for values in zip(*curves, strict=True)]
    return Series(str(where["beginning"]), [float(epoch + 1) for epoch in range(len(heights))], heights)
