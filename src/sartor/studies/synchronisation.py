"""What does synchronisation bring? How often, in which rounds and for how long, against none at the same cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import ConfigError, check_range
from sartor.recipes.labels import read_budgets
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.label_rounds import LabelStudy, costs, marks, selectors, verdict_on
from sartor.studies.trainings import Row, mean_of, points

PLANS = {
    "every": {"t_sync": 1, "sync_phase": 0},
    "even": {"t_sync": 2, "sync_phase": 0},
    "odd": {"t_sync": 2, "sync_phase": 1},
}
"""Rounds that are synchronised: all but the first; 2, 4, ... as Algorithm 1 says; 1, 3, ... as Table 3 has it."""
SYNCED, CONTROL = "synchronised", "none at its cost"
NEVER = {"rounds": "none", "length": None, "arm": "none"}
MINUS = ("minus none", f"minus {CONTROL}")
"""The differences that are told, to targets that are trained for as many epochs and to those that cost as much."""


@STUDIES.register("sync")
@dataclass(frozen=True, kw_only=True)
class SynchronisationStudy(LabelStudy):
    """Synchronisation by its phase and its length, beside none, and none with targets that cost as much."""

    QUICK: ClassVar[Mapping[str, Any]] = {"model": "cnn(width=4)", "seeds": 2, "epochs": 8, "lengths": (0.5,)}

    out: Path = Path("runs/sync")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    budgets: str = "0.02,0.1,0.2,0.3"
    """Labels that there are, round by round; four rounds or more, for phases to differ."""
    lengths: tuple[float, ...] = (0.6, 1.0)
    """Epochs of either training of a synchronisation, as shares of epochs; the paper's are 110 of 181."""

    def check(self) -> None:
        """Raise ConfigError for too few rounds, or lengths that are none."""
        if len(read_budgets(self.budgets)) < 4:
            raise ConfigError(f"budgets are {self.budgets!r}; give four or more, for phases to differ.")
        for length in self.lengths:
            check_range("lengths", length, 0, float("inf"), low_open=True, high_open=True)
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield none, then each plan at each length, and none with a target that makes its cost as high."""
        plain = self.prunefuse()
        yield NEVER, plain
        for plan in self.plans():
            epochs = max(1, round(plan["length"] * self.epochs))
            recipe = self.prunefuse(**PLANS[plan["rounds"]], sync_epochs=epochs)
            yield {**plan, "arm": SYNCED}, recipe
            yield {**plan, "arm": CONTROL}, self.matched(plain, recipe)

    def plans(self) -> list[dict[str, Any]]:
        """List which rounds are synchronised, for how long."""
        return [{"rounds": rounds, "length": length} for length in self.lengths for rounds in PLANS]

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies of selectors and targets, costs, and differences to none."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        for noise in self.noise:
            rows.append(row_of(results, {"noise": noise, **NEVER}))
            wheres = [{"noise": noise, **plan} for plan in self.plans()]
            synced = [row_of(results, {**where, "arm": SYNCED}) for where in wheres]
            rows += [*synced, *(row_of(results, {**where, "arm": CONTROL}) for where in wheres)]
            series = [marks(name, synced, name, shift=0.1 * number) for number, name in enumerate(MINUS)]
            names = [f"{where['rounds']}, {where['length']:g}" for where in wheres]
            panels.append(Panel(f"noise {noise:g}", "rounds, length", "points", series, names=names, level=0.0))
        told = ("rounds", "length", "noise")
        verdict = [verdict_on(rows, name, f"Synchronisation {name}", told) for name in MINUS]
        table = Table(f"Synchronisation, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def row_of(results: Sequence[Row], where: Mapping[str, Any]) -> dict[str, Value]:
    """Return the row of one arm; differences are of the synchronised ones."""
    mine = points(results, **where)
    rivals = ({"noise": where["noise"], **NEVER}, {**where, "arm": CONTROL})
    gains = (paired_difference(mine, points(results, **rival)) for rival in rivals)
    synced = where["arm"] == SYNCED
    return {
        **where,
        "selector": mean_of(selectors(results, **where)),
        "accuracy": mean_of(mine),
        **costs(results, **where),
        **{name: Effect(gain if synced else None) for name, gain in zip(MINUS, gains, strict=True)},
    }
