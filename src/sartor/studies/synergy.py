"""Do choosing samples and pruning weights help each other? The 2 x 2 interaction, with random choices as nulls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.recipes.arms import UNSELECTED, dense, without_pruner
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, series_of
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value
from sartor.studies.synergy_table import ALL, SAMPLES, WEIGHTS, Square, arms, verdict
from sartor.studies.trainings import Row, TrainingStudy


@STUDIES.register("synergy")
@dataclass(frozen=True, kw_only=True)
class SynergyStudy(TrainingStudy):
    """Joint minus prune-only minus select-only plus dense, at equal epochs and at equal cost, beside random choices."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "fractions": (0.2,),
        "sparsities": (0.7,),
        "noise": (0.2,),
    }

    out: Path = Path("runs/synergy")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    seeds: int = 10
    """Number of seeds, 0, 1, ..."""
    selector: str = "moderate"
    """What chooses."""
    fractions: tuple[float, ...] = (0.1, 0.3)
    """Shares of the training data in a coreset."""
    sparsities: tuple[float, ...] = (0.5, 0.9)
    """Shares of the backbone's weights removed; of the classifier's, always 90 %."""

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield each distinct recipe once: what leaves samples or weights whole does not depend on their share."""
        seen = set()
        for match, fraction, sparsity in itertools.product(("epochs", "cost"), self.fractions, self.sparsities):
            for samples, weights, preserve in arms():
                free = match == "epochs"
                factors: dict[str, Any] = {
                    "samples": samples,
                    "weights": weights,
                    "preserve": preserve,
                    "fraction": None if free and samples == ALL else fraction,
                    "sparsity": None if free and weights == ALL else sparsity,
                    "match": match,
                }
                if tuple(factors.values()) in seen:
                    continue
                seen.add(tuple(factors.values()))
                recipe = self.arm(samples, weights, preserve, fraction, sparsity)
                if match == "cost":
                    aim = self.arm("chosen", "pruned", NONE, fraction, sparsity)
                    recipe = self.at_cost(recipe, self.forecaster()(aim).flops)
                yield factors, recipe

    def arm(self, samples: str, weights: str, preserve: str, fraction: float, sparsity: float) -> Recipe:
        """Make one combination of samples and weights."""
        selector = self.selector if samples in (ALL, "chosen") else "random"
        every = 0 if samples == "random" else self.every
        pruner = "random" if weights == "random masks" else self.pruner
        joint = self.base(
            selector=selector, every=every, pruner=pruner, preserve=preserve, fraction=fraction, sparsity=sparsity
        )
        if samples == ALL:
            return dense(joint) if weights == ALL else joint.with_options(**UNSELECTED)
        return without_pruner(joint, NONE) if weights == ALL else joint

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies and interactions, how they stand to the nulls, and what follows."""
        rows, nulls, effects = [], [], []
        for noise, match, fraction, sparsity in self.settings():
            cell = Square(results, noise, match, fraction, sparsity)
            where: dict[str, Value] = {"noise": noise, "match": match, "fraction": fraction, "sparsity": sparsity}
            rows += [where | row for row in cell.rows()]
            nulls.append(where | {name: Effect(value) for name, value in cell.beyond().items()})
            effects.append(cell)
        runs = f"{counted(self.seeds, 'seed')}, percentage points"
        tables = [Table(f"Joint - prune-only - select-only + dense, {runs}", rows)]
        tables.append(Table(f"The interaction of chosen and pruned, beyond that of a null, {runs}", nulls))
        return Findings(tables, verdict(effects), [Chart("figure", list(self.panels(effects)))])

    def settings(self) -> Iterable[tuple[float, str, float, float]]:
        """Return noise, match, fraction and sparsity of every square."""
        return itertools.product(self.noise, ("epochs", "cost"), self.fractions, self.sparsities)

    def panels(self, squares: Sequence[Square]) -> Iterator[Panel]:
        """Draw the interactions of one noise level at equal epochs or equal cost."""
        for noise, match in itertools.product(self.noise, ("epochs", "cost")):
            here = [square for square in squares if (square.noise, square.match) == (noise, match)]
            kinds = list(itertools.product(SAMPLES, WEIGHTS))
            series = []
            for number, kind in enumerate(kinds):
                values = [(float(place), square.interaction(*kind)) for place, square in enumerate(here)]
                known = [(place, value) for place, value in values if value is not None]
                series.append(series_of(", ".join(kind), known, shift=0.1 * (number - 2.5), line=False))
            names = [f"{square.fraction:g} of data, {square.sparsity:g} pruned" for square in here]
            title = f"equal {match}, noise {noise:g}"
            yield Panel(title, "", "interaction (percentage points)", series, names=names, level=0.0)
