"""Does the small network teach the large one anything? Distillation by its weight and its temperature."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from sartor.recipes.fused_target import KD_TEACHERS
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.label_rounds import LabelStudy, costs, marks, selectors, verdict_on
from sartor.studies.trainings import Row, mean_of, points

NOBODY = {"teacher": "none", "lambda": None, "temperature": None}


@STUDIES.register("kd")
@dataclass(frozen=True, kw_only=True)
class DistillationStudy(LabelStudy):
    """PruneFuse's distillation over the weight of the labels and the temperature, by its selector and by an average."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 8,
        "weights": (0.0, 0.3, 0.7),
        "temperatures": (1.0, 4.0),
    }

    out: Path = Path("runs/kd")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    weights: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7)
    """Weights of the labels, lambda; the teacher's is 1 - lambda. No distillation is lambda 1, and always there."""
    temperature: tyro.conf.Suppress[float] = 4.0
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Temperatures at which the teacher is listened to."""
    ema_decay: float = 0.99
    """Share of the average of the target that stays at each step, of the teacher ema."""
    fusion: bool = True
    """Whether targets begin from the selector's weights."""

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield no distillation, then each teacher at every weight and temperature."""
        yield NOBODY, self.prunefuse(kd=False, fusion=self.fusion)
        for teacher in KD_TEACHERS:
            more: dict[str, Any] = {"ema_decay": self.ema_decay} if teacher == "ema" else {}
            for weight, temperature in itertools.product(self.weights_of(teacher), self.temperatures):
                options = {"kd_teacher": teacher, "kd_weight": weight, "temperature": temperature, **more}
                recipe = self.prunefuse(fusion=self.fusion, **options)
                yield {"teacher": teacher, "lambda": weight, "temperature": temperature}, recipe

    def weights_of(self, teacher: str) -> list[float]:
        """List the weights of the labels: not 0 beside its own average, for such a target would see no label at all."""
        return [weight for weight in self.weights if teacher != "ema" or weight > 0]

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies and differences to no distillation."""
        rows: list[dict[str, Value]] = []
        panels: list[Panel] = []
        for noise in self.noise:
            rows.append(row_of(results, {"noise": noise, **NOBODY}))
            for teacher in KD_TEACHERS:
                weights, series = self.weights_of(teacher), []
                for number, temperature in enumerate(self.temperatures):
                    where = {"noise": noise, "teacher": teacher, "temperature": temperature}
                    here = [row_of(results, {**where, "lambda": weight}) for weight in weights]
                    series.append(marks(f"temperature {temperature:g}", here, "minus none", shift=0.1 * (number - 1)))
                    rows += here
                title, names = f"teacher: {teacher}, noise {noise:g}", [f"{weight:g}" for weight in weights]
                panels.append(Panel(title, "lambda", "minus none (points)", series, names=names, level=0.0))
        told = ("teacher", "lambda", "temperature", "noise")
        verdict = [verdict_on(rows, "minus none", "Distillation minus none", told)]
        table = Table(f"Distillation, {counted(self.seeds, 'seed')}, percentage points", rows)
        return Findings([table], verdict, [Chart("figure", panels)])


def row_of(results: Sequence[Row], where: Mapping[str, Any]) -> dict[str, Value]:
    """Return the row of one setting."""
    mine, alone = points(results, **where), points(results, noise=where["noise"], **NOBODY)
    taught = where["teacher"] != NOBODY["teacher"]
    return {
        **{name: where[name] for name in ("noise", *NOBODY)},
        "selector": mean_of(selectors(results, **where)),
        "accuracy": mean_of(mine),
        **costs(results, **where),
        "minus none": Effect(paired_difference(mine, alone) if taught else None),
    }
