"""Pieces of one paper in the place of another's: a pruned proxy selects, stored states teach, sparse nets are fused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import check_range
from sartor.recipes.arms import dense, make_arm
from sartor.recipes.outcome import Result
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import SWaST
from sartor.recipes.timetable import default_warmup
from sartor.registry import STUDIES
from sartor.studies.cross_table import (
    DENSE,
    FILLS,
    FRESH,
    FUSED,
    LONGER,
    LOOKS,
    OWN,
    PROXY,
    RANDOM,
    RETAINED,
    SCRATCH,
    SELECTS,
    SOURCES,
    SPARSE,
    TEACHES,
    ZEROS,
    charged,
    compared,
    told,
)
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
        """Yield the runs of the three questions, and those that were asked for coresets."""
        makers = {SELECTS: self.selecting, LOOKS: self.asked, TEACHES: self.teaching, FILLS: self.filling}
        for question, make in makers.items():
            for (arm, match), recipe in make():
                yield {"question": question, "arm": arm, "match": match}, recipe

    def joint(self, **options: Any) -> SWaST:
        """Make SWaST-cut."""
        return self.base(**{"selector": self.selector, "fraction": self.fraction, "sparsity": self.sparsity, **options})

    def only(self) -> Recipe:
        """Make what a proxy is trained by: coresets with all weights."""
        return make_arm("coreset-only", self.joint(), n=10_000)

    def selecting(self) -> Iterator[tuple[tuple[str, str], Recipe]]:
        """Yield SWaST-cut by its own choice and by that of others, with its epochs, and at its whole cost."""
        drawn = self.joint(selector="random")
        yield (OWN, "epochs"), self.joint()
        yield (RANDOM, "epochs"), drawn
        yield (RANDOM, "total"), self.at_cost(drawn, self.forecaster()(self.joint()).flops)
        for arm, match in ((PROXY, "epochs"), (DENSE, "epochs"), (PROXY, "total")):
            yield (arm, match), drawn.with_options(**(self.shared_length if match == "total" else {}))

    def asked(self) -> Iterator[tuple[tuple[str, str], Recipe]]:
        """Yield the trainings whose coresets SWaST-cut takes: of the proxy and of the dense network."""
        yield (PROXY, "epochs"), self.only()
        yield (PROXY, "total"), self.only().with_options(**self.shared_length)
        yield (DENSE, "epochs"), self.only()

    @property
    def shared_length(self) -> dict[str, int]:
        """The epochs in which a proxy and SWaST-cut by its coresets together cost about what SWaST-cut alone does.

        They are sought twice: with a warm-up that follows from them, and then with the one that was found.
        """
        target = self.forecaster()(self.joint()).flops
        small = self.forecaster(self.model_of({"question": LOOKS, "arm": PROXY}))

        def apart(length: dict[str, int]) -> float:
            both = small(self.only().with_options(**length)).flops
            return abs(both + self.forecaster()(self.joint(selector="random", **length)).flops - target)

        lengths = range(self.joint().fewest_epochs, self.epochs + 1)
        first = min(({"epochs": epochs} for epochs in lengths), key=apart)
        warmup = default_warmup(first["epochs"], self.fraction)
        return min(({"epochs": epochs, "warmup": warmup} for epochs in lengths if epochs > warmup), key=apart)

    def teaching(self) -> Iterator[tuple[tuple[str, str], Recipe]]:
        """Yield PruneFuse with and without fusion, by labels alone, by distillation and by preservation.

        With weight w, l + w KL at temperature 1 is preservation: (1 + w) times distillation's loss where the labels
        have 1 / (1 + w); the factor is made up for by the learning rate.
        """
        common: dict[str, Any] = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "probe": 0}
        common |= {"evaluate_every": 10**6, "schedule": "cosine", "budgets": self.budgets}
        common |= {"acquisition": self.acquisition, "sparsity": self.proxy_sparsity}
        ways: dict[str, tuple[float, dict[str, Any]]] = {"labels alone": (1.0, {"kd": False})}
        ways["distillation"] = (1.0, {"temperature": self.temperature})
        for w in self.weights:
            ways[f"preservation {w:g}"] = (1 + w, {"kd_weight": 1 / (1 + w), "temperature": 1.0})
        starts = {FUSED: (True, self.target_lr), SCRATCH: (False, self.scratch_lr)}
        for (start, (fusion, rate)), (way, (factor, options)) in itertools.product(starts.items(), ways.items()):
            made = PruneFuse(fusion=fusion, **common, **options, target_lr=rate * factor)
            yield (f"{start}, {way}", "epochs"), made

    def filling(self) -> Iterator[tuple[tuple[str, str], Recipe]]:
        """Yield trainings of filled networks on all data, and what the same cost brings without one or the other."""
        tuned = dense(self.joint(), epochs=self.tuning, lr=self.tuning_lr)
        own, more = (self.forecaster()(recipe).flops for recipe in (self.joint(), tuned))
        target = own + more
        sparse = make_arm("prune-only", self.joint(), n=10_000).with_options(epochs=self.tuning, lr=self.tuning_lr)
        yield (ZEROS, "total"), tuned
        yield (RETAINED, "total"), tuned
        yield (SPARSE, "total"), self.at_cost(sparse, more)
        yield (FRESH, "total"), self.at_cost(dense(self.joint()), target)
        yield (LONGER, "total"), self.at_cost(self.joint(), target)

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
