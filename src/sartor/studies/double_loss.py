"""Is what SWaST drops lost twice? Samples and weights dropped together, swapped between runs, tracked, and remedied."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from sartor.comparison import Work
from sartor.errors import ConfigError, check_choice, check_range
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE
from sartor.registry import STUDIES
from sartor.studies.double_loss_arms import HOLDS, RANDOM, TRACKED, arm
from sartor.studies.double_loss_square import Square
from sartor.studies.double_loss_table import told
from sartor.studies.double_loss_track import Track
from sartor.studies.findings import Findings
from sartor.studies.replaying import Coresets, followed, keep_network, moving, replayed, spec_of
from sartor.studies.study import Outcomes
from sartor.studies.trainings import Cell, Row, TrainingStudy

OWN, SWAPPED = "own", "swapped"
SWAPS = ((SWAPPED, OWN), (OWN, SWAPPED), (SWAPPED, SWAPPED))
"""Coresets and masks, each this run's or those of the next seed's."""


@STUDIES.register("double-loss")
@dataclass(frozen=True, kw_only=True)
class DoubleLossStudy(TrainingStudy):
    """Does dropping weights and samples together cost more than both alone, which ones are they, and what helps."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "selectors": ("el2n",),
        "fractions": (0.2,),
        "pruner": "rigl(every=5)",
    }

    out: Path = Path("runs/double-loss")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    noise: tuple[float, ...] = (0.0,)
    """Without wrong labels: they differ between seeds, whose coresets are swapped."""
    selectors: tuple[str, ...] = ("el2n", "el2n(balanced=true)")
    """What chooses, without and with a quota for each class; redrawn random samples stand beside."""
    fractions: tuple[float, ...] = (0.05, 0.2)
    """Shares of the training data in a coreset."""
    sparsities: tuple[float, ...] = (0.9,)
    """Shares of the backbone's weights removed; of the classifier's, always 90 %."""
    holds: tuple[str, ...] = ()
    """Remedies to try beside none; if none are named, all. `--holds none` asks for swaps and collapses alone."""
    smoothing: float = 0.1
    """Label smoothing of that remedy."""
    margin: float = 0.5
    """Percentage points within which a difference counts as none."""
    probe: int = 100
    """Samples of the coreset, and as many left out, whose gradients are looked at."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if any(self.noise):
            raise ConfigError("noise: coresets are swapped between seeds, whose wrong labels differ; leave it out.")
        if RANDOM in self.selectors:
            raise ConfigError("selectors names random, which stands beside the others anyhow; leave it out.")
        for hold in self.holds:
            check_choice("holds", hold, HOLDS[False])
        check_range("seeds", self.seeds, 2, float("inf"), high_open=True)
        check_range("margin", self.margin, 0, float("inf"), low_open=True, high_open=True)
        check_range("probe", self.probe, 1, float("inf"), high_open=True)
        moving(self.pruner, 0.5)
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield all weights and pruned ones with every hold, and the swaps of pruned ones without any."""
        for selector in (*self.selectors, RANDOM):
            for fraction in self.fractions:
                for sparsity in (None, *self.sparsities):
                    where = {"selector": selector, "fraction": fraction, "sparsity": sparsity}
                    for hold in self.held(sparsity is None):
                        recipe = arm(self, selector, fraction, sparsity, hold)
                        yield where | {"hold": hold, "coresets": OWN, "masks": OWN}, recipe
                    for coresets, masks in SWAPS if sparsity is not None else ():
                        recipe = arm(self, selector, fraction, sparsity, NONE)
                        yield where | {"hold": NONE, "coresets": coresets, "masks": masks}, recipe

    def held(self, whole: bool) -> list[str]:
        """Name the kinds of hold for all weights or for pruned ones, none first."""
        return [hold for hold in HOLDS[whole] if hold == NONE or not self.holds or hold in self.holds]

    def sources(self, cell: Cell) -> Sequence[Cell]:
        """Return the runs whose coresets and whose masks a swap takes."""
        swaps = [dict(cell.factors)[what] == SWAPPED for what in ("coresets", "masks")]
        return [self.source(cell, swapped=swapped) for swapped in swaps] if any(swaps) else ()

    def tracked(self, cell: Cell) -> bool:
        """Tell whether masks and networks of a run are kept."""
        factors = dict(cell.factors)
        return factors["sparsity"] is not None and factors["hold"] in TRACKED and not self.sources(cell)

    def replaceable(self) -> Iterable[Cell]:
        """List the runs that nothing else reads; tracks read those whose masks are kept."""
        return [cell for cell in super().replaceable() if not self.tracked(cell)]

    def made(self, cell: Cell) -> Result:
        """Make a run, keeping what it leaves, or with the coresets and masks that others have left."""
        recipe, pruner, sources = cell.recipe, getattr(cell.recipe, "pruner", ""), self.sources(cell)
        if sources:
            chosen, pruned = sources
            data = {"data": self.data, "root": self.place}
            selector = spec_of(Coresets, folder=str(chosen.folder), epochs=self.epochs, **data)
            other = spec_of(replayed, of=pruner, folder=str(pruned.folder), seed=pruned.recipe.seed)
            return cell.fit(recipe.with_options(selector=selector, pruner=other), cell.model)
        if self.tracked(cell):
            kept = recipe.with_options(pruner=spec_of(followed, of=pruner, folder=str(cell.folder)))
            return cell.fit(kept, cell.model, listener=functools.partial(keep_network, cell.folder))
        return super().made(cell)

    def source(self, cell: Cell, *, swapped: bool) -> Cell:
        """Return the run itself as it was without swaps, or that of the next seed."""
        factors = dict(cell.factors) | {"coresets": OWN, "masks": OWN}
        seed = (cell.recipe.seed + swapped) % self.seeds
        return replace(cell, factors=tuple(factors.items()), recipe=cell.recipe.with_options(seed=seed))

    def told(self, result: Result) -> dict[str, Any]:
        """Return the number of classes in the coreset that has fewest of them."""
        counts = [line["class_counts"] for line in result.metrics if line["kind"] == "selection"]
        return {"classes": min(sum(count > 0 for count in line) for line in counts)}

    def stages(self) -> Mapping[str, Sequence[Work]]:
        """Return the runs, the swaps, and then the tracks of the runs whose masks were kept."""
        return {**super().stages(), "tracks": [Track(self, cell) for cell in self.cells() if self.tracked(cell)]}

    def results(self, outcomes: Outcomes) -> list[Mapping[str, Any]]:
        """Return what the runs came to, those that were tracked with what was found there."""
        tracks = dict(zip((cell for cell in self.cells() if self.tracked(cell)), outcomes["tracks"], strict=True))
        found = self.by_work(outcomes)
        return [{**found[cell], **tracks.get(cell, {})} for cell in self.cells() if found[cell]]

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell where a collapse is, what swaps and remedies make of it, and what the tracks say."""
        squares = [
            Square(results, selector, fraction, sparsity)
            for selector in (*self.selectors, RANDOM)
            for fraction in self.fractions
            for sparsity in self.sparsities
        ]
        return told(squares, self.seeds, self.margin)
