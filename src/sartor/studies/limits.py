"""Where does PruneFuse break? Selectors too small, or hardly trained, by what of them is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.label_rounds import LabelStudy, costs, marks, selectors, verdict_on
from sartor.studies.trainings import Row, mean_of, points

USES: dict[str, dict[str, bool]] = {
    "choice": {"fusion": False, "kd": False},
    "choice, teaching": {"fusion": False, "kd": True},
    "choice, fusion": {"fusion": True, "kd": False},
    "all": {"fusion": True, "kd": True},
}
"""What of the selector is used."""
NOTHING = {"sparsity": None, "selector epochs": None, "use": "nothing"}
"""Random labels, a fresh target, no teacher: nothing of it."""


@STUDIES.register("limits")
@dataclass(frozen=True, kw_only=True)
class LimitsStudy(LabelStudy):
    """PruneFuse with ever smaller selectors and with ever less trained ones, against random labels without any."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 8,
        "sparsities": (0.5, 0.75),
        "weak": (1,),
    }

    out: Path = Path("runs/limits")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    """Shares of channels that fully trained selectors lack."""
    weak: tuple[int, ...] = (1, 2, 5)
    """Epochs of selectors that are trained otherwise than targets; they lack the channels of sparsity."""

    def kinds(self) -> list[tuple[float, int]]:
        """List sparsity and epochs of all selectors, each once."""
        small = [(sparsity, self.epochs) for sparsity in self.sparsities]
        return list(dict.fromkeys([*small, *((self.sparsity, epochs) for epochs in self.weak)]))

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every use of every selector, and the control; all targets are trained alike."""
        yield NOTHING, self.unaided(acquisition="random", target_epochs=self.epochs)
        for sparsity, epochs in self.kinds():
            for use, options in USES.items():
                factors = {"sparsity": sparsity, "selector epochs": epochs, "use": use}
                yield factors, self.prunefuse(sparsity=sparsity, epochs=epochs, target_epochs=self.epochs, **options)

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell what each use of each selector gains, by how right the selector is."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        for noise in self.noise:
            rows.append(row_of(results, {"noise": noise, **NOTHING}))
            series = []
            for number, use in enumerate(USES):
                kinds = ({"sparsity": sparsity, "selector epochs": epochs} for sparsity, epochs in self.kinds())
                here = [row_of(results, {"noise": noise, **kind, "use": use}) for kind in kinds]
                series.append(marks(use, here, "minus nothing", at=[right(row) for row in here], shift=0.1 * number))
                rows += here
            x, y = "accuracy of the selector (%)", "minus random labels, fresh target (points)"
            panels.append(Panel(f"noise {noise:g}", x, y, series, level=0.0))
        told, what = ("use", "sparsity", "selector epochs", "noise"), "A use of the selector minus"
        verdict = [
            verdict_on(rows, "minus nothing", f"{what} random labels and a fresh target", told),
            verdict_on(rows, "minus choice", f"{what} its choice alone", told),
        ]
        table = Table(f"What selectors are good for, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def row_of(results: Sequence[Row], where: Mapping[str, Any]) -> dict[str, Value]:
    """Return the row of one use of one selector; how right that is, is told of the one that learnt all labels."""
    mine, learnt = points(results, **where), selectors(results, **{**where, "use": "all"})
    chosen, nothing = points(results, **{**where, "use": "choice"}), points(results, noise=where["noise"], **NOTHING)
    used = where["use"] != NOTHING["use"]
    further = used and where["use"] != "choice"
    return {
        **where,
        "selector": mean_of(learnt),
        "selector - target by choice": Effect(paired_difference(learnt, chosen)),
        "accuracy": mean_of(mine),
        **costs(results, **where),
        "minus nothing": Effect(paired_difference(mine, nothing) if used else None),
        "minus choice": Effect(paired_difference(mine, chosen) if further else None),
    }


def right(row: Mapping[str, Value]) -> float:
    """Return how right the selector of a row is, in percent."""
    learnt = row["selector"]
    assert isinstance(learnt, Interval)
    return learnt.mean
