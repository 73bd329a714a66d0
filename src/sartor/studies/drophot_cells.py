"""The runs of DropHot's grid: what is trained before the pruning, by which options, and what they share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.comparison import fit_fresh
from sartor.recipes.defects import DEFECTS, read_defects
from sartor.recipes.drophot import DropHot
from sartor.recipes.family import arm_folder
from sartor.studies.known import IDENTITY, identity_of

if TYPE_CHECKING:
    from sartor.studies.drophot_grid import DropHotStudy

ARMS: dict[str, dict[str, str]] = {
    "highest": {"selector": "forgetting(keep=highest)"},
    "lowest": {"selector": "forgetting(keep=lowest)"},
    "highest-pruned": {"selector": "forgetting(keep=highest)"},
    "lowest-pruned": {"selector": "forgetting(keep=lowest)"},
    "highest-balanced": {"selector": "forgetting(keep=highest, balanced=true)"},
    "lowest-balanced": {"selector": "forgetting(keep=lowest, balanced=true)"},
    "crest": {"selector": "crest"},
    "random": {"selector": "random"},
    "random-matched": {"selector": "random", "match": "forgetting"},
    "baseline": {"selector": "none"},
    "baseline-matched": {"selector": "none", "match": "forgetting"},
}
"""Coresets by forgetting, of the network or of a pruned one, and their controls; those that are matched cost as much
as the coresets by the network's own forgetting."""
SPOILT = {name: {"masks"} for name in ("crest", "random", "random-matched")} | {"baseline": {"batchnorm", "masks"}}
SPOILT["baseline-matched"] = SPOILT["baseline"]
"""The defects that can reach an arm, where they are not all."""


def reaching(arm: str) -> frozenset[str]:
    """Return the defects that can reach an arm."""
    return frozenset(SPOILT.get(arm, DEFECTS))


@dataclass(frozen=True)
class Cell:
    """One run: an arm at a fraction and a sparsity."""

    study: DropHotStudy
    arm: str
    fraction: float
    sparsity: float
    defects: str
    noise: float
    seed: int

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        share = "" if self.arm == "baseline" else f" {self.fraction:g} of the data,"
        spoilt = "" if self.spoilt == "none" else f" defects {self.spoilt},"
        return f"{self.arm},{share} sparsity {self.sparsity:g},{spoilt} noise {self.noise:g}, seed {self.seed}"

    @property
    def spoilt(self) -> str:
        """The defects that reach this run; where nothing is pruned, there are no masks to drop."""
        found = read_defects(self.defects) & reaching(self.arm)
        found -= set() if self.sparsity else {"masks"}
        return ",".join(sorted(found)) or "none"

    @functools.cached_property
    def identity(self) -> str:
        """Its name on any machine."""
        return identity_of(self.study.data, self.study.place, self.study.model, self.recipe, self.arm)

    @property
    def setting(self) -> tuple[object, ...]:
        """What is the same for all seeds."""
        return self.arm, self.fraction, self.sparsity, self.defects, self.noise

    @property
    def where(self) -> dict[str, Any]:
        """What varies, by name."""
        found = {"arm": self.arm, "fraction": self.fraction, "sparsity": self.sparsity}
        return found | {"defects": self.defects, "spoilt_by": self.spoilt, "noise": self.noise, "seed": self.seed}

    @property
    def folder(self) -> Path:
        """Where it is kept; settings whose defects do not reach it have the same run."""
        place = self.study.out / f"noise-{self.noise:g}" / f"seed-{self.seed}" / f"defects-{arm_folder(self.spoilt)}"
        share = [] if self.arm == "baseline" else [f"fraction-{self.fraction:g}"]
        return place.joinpath(self.arm, *share, f"sparsity-{self.sparsity:g}")

    @property
    def scoring(self) -> tuple[object, ...] | None:
        """What decides the training that scores; None where there is none."""
        scored = ARMS[self.arm]["selector"].startswith("forgetting")
        return (self.scorer, read_defects(self.spoilt) - {"masks"}, self.noise, self.seed) if scored else None

    @property
    def scorer(self) -> float:
        """The share of the channels that the network which scores is without."""
        return self.study.score_sparsity if self.arm.endswith("-pruned") else 0.0

    @property
    def trained(self) -> tuple[object, ...]:
        """What decides the training before the pruning."""
        return (self.arm, self.fraction, read_defects(self.spoilt) - {"masks"}, self.noise, self.seed)

    @functools.cached_property
    def recipe(self) -> DropHot:
        """What is run."""
        study, spoilt = self.study, read_defects(self.spoilt)
        options: dict[str, Any] = dict(ARMS[self.arm])
        if self.arm == "crest":
            options["selector"] = f"crest(batch_size={study.batch_size})"
        if self.arm != "baseline":
            options["fraction"] = self.fraction
        if self.scoring is not None or "match" in options:
            options |= {"record": "none" if "scores" in spoilt else study.record, "score_sparsity": self.scorer}
        if self.sparsity:
            tuning = "masked" if "masks" in spoilt else study.tuning
            options |= {"pruning": study.pruning, "tuning": tuning, "iterations": study.iterations}
        return DropHot(
            **options,
            epochs=study.epochs,
            batch_size=study.batch_size,
            lr=study.lr,
            sparsity=self.sparsity,
            reinit=study.reinit,  # type: ignore[arg-type]
            optimizer=study.optimizer,  # type: ignore[arg-type]
            augment=study.augment,  # type: ignore[arg-type]
            legacy_defects=self.spoilt,
            noise=self.noise,
            seed=self.seed,
            probe=0,
        )

    def run(self) -> dict[str, Any]:
        """Make the run (or read it back) and return accuracies, costs, curves, scores."""
        study, labels = self.study, {"data": self.study.data, "model": self.study.model, "arm": self.arm}
        given: dict[str, Any] = {"device": study.device, "labels": labels, "shared": study.shared}
        results = fit_fresh(self.recipe, study.data, study.place, study.model, self.folder, **given).results
        told = ("test_accuracy", "trained_accuracy", "pruned_accuracy", "flops", "seconds", "curves", "scores")
        return self.where | {IDENTITY: self.identity} | {name: results[name] for name in told}


@functools.lru_cache(maxsize=2)
def runs_of(study: DropHotStudy) -> tuple[Cell, ...]:
    """List a grid's runs, once: a cell makes its recipe once, and a grid is gone through many times."""
    found = [
        Cell(study, arm, 1.0 if arm == "baseline" else fraction, sparsity, defects, noise, seed)
        for seed in range(study.seeds)
        for noise in study.noise
        for defects in study.defects
        for arm in study.arms
        for fraction in study.fractions
        for sparsity in study.sparsities
    ]
    return tuple(dict.fromkeys(found))


def firsts(cells: Iterable[Cell], key: Callable[[Cell], object]) -> list[Cell]:
    """Return the first of some runs for each value of a key, but None."""
    found: dict[object, Cell] = {}
    for cell in cells:
        found.setdefault(key(cell), cell)
    found.pop(None, None)
    return list(found.values())
