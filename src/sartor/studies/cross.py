"""Pieces of one paper in the place of another's: a pruned proxy selects, stored states teach, sparse nets are fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import check_range
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.studies.cross_arms import LOOKS, PROXY, RETAINED, SOURCES, SPARSE, ZEROS, arms_of
from sartor.studies.cross_table import charged, compared, told
from sartor.studies.findings import Findings
from sartor.studies.networks import refilled, thinned
from sartor.studies.replaying import Coresets, left, spec_of
from sartor.studies.study import Outcomes
from sartor.studies.trainings import Cell, Row, TrainingStudy


@STUDIES.register("cross")
@dataclass(frozen=True, kw_only=True)
class CrossStudy(TrainingStudy):
    """A pruned proxy as SWaST's selector, preservation as PruneFuse's distillation, fusion after SWaST-cut."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fraction": 0.2,
        "tuning": 2,
        "weights": (0.1,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/cross")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    selector: str = "moderate"
    """What chooses coresets."""
    fraction: float = 0.1
    """Share of the training data in a coreset."""
    sparsity: float = 0.7
    """Share of the backbone's weights that SWaST removes; of the classifier's, 90 %."""
    proxy_sparsity: float = 0.5
    """Share of channels that the proxy and PruneFuse's selector lack."""
    budgets: str = "0.1,0.2"
    """Labels that PruneFuse has, round by round: shares of the pool, or whole numbers."""
    acquisition: str = "least-confidence"
    """What chooses PruneFuse's labels."""
    target_lr: float = 0.01
    """Initial learning rate of PruneFuse's fused targets, which without batch norm diverge at large ones."""
    scratch_lr: float = 0.02
    """That of its targets from scratch, which learn little at a low one."""
    temperature: float = 2.0
    """Temperature of PruneFuse's distillation; preservation has 1."""
    weights: tuple[float, ...] = (0.1, 1.0)
    """Weights of the preservation loss in PruneFuse's place of distillation."""
    tuning: int = 4
    """Epochs on all data after SWaST-cut is fused."""
    tuning_lr: float = 0.01
    """Initial learning rate of these."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        check_range("proxy_sparsity", self.proxy_sparsity, 0, 1, low_open=True, high_open=True)
        for weight in self.weights:
            check_range("weights", weight, 0, float("inf"), low_open=True, high_open=True)
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield the arms, question by question."""
        return arms_of(self)

    def model_of(self, factors: Row) -> str:
        """Name the network: a proxy lacks channels."""
        proxy = (factors["question"], factors["arm"]) == (LOOKS, PROXY)
        return spec_of(thinned, of=self.model, sparsity=self.proxy_sparsity) if proxy else self.model

    def sources(self, cell: Cell) -> Sequence[Cell]:
        """Return the run that a run takes coresets or weights from, if it takes such."""
        where = SOURCES.get(tuple(value for _, value in cell.factors))
        if where is None:
            return ()
        return [replace(cell, factors=tuple(zip(("question", "arm", "match"), where, strict=True)))]

    def made(self, cell: Cell) -> Result:
        """Make a run, with the coresets or weights that another one has left."""
        sources, arm = self.sources(cell), dict(cell.factors)["arm"]
        if not sources:
            return super().made(cell)
        folder = str(sources[0].folder)
        if arm in (ZEROS, RETAINED, SPARSE):
            complement = "retained" if arm == RETAINED else "zeros"
            masks = {"pruner": spec_of(left, folder=folder)} if arm == SPARSE else {}
            filled = spec_of(refilled, of=self.model, folder=folder, complement=complement)
            return cell.fit(cell.recipe.with_options(**masks), filled)
        there = {"folder": folder, "epochs": cell.recipe.epochs, "data": self.data, "root": self.place}
        return cell.fit(cell.recipe.with_options(selector=spec_of(Coresets, **there)), cell.model)

    def results(self, outcomes: Outcomes) -> list[Mapping[str, Any]]:
        """Return what the runs came to; what a run takes from another one is charged to it too."""
        return charged(super().results(outcomes))

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies and costs of every arm, sources included, and the differences that answer the questions."""
        settings = [(noise, factors) for noise in self.noise for factors, _ in self.recipes()]
        return told(results, settings, compared(self.weights), self.seeds)
