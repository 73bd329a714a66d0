"""Wrong labels: what coresets hold of them, and whether sparse networks learn them by heart (SWaST, Fig. 5a-c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sartor.errors import ConfigError
from sartor.recipes.arms import make_arm
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE
from sartor.registry import STUDIES
from sartor.report.charts import Panel
from sartor.studies.findings import Findings
from sartor.studies.noise_table import DENSE, RANDOM, Setting, curve, differences, told
from sartor.studies.trainings import Row, TrainingStudy


@STUDIES.register("noise")
@dataclass(frozen=True, kw_only=True)
class NoiseStudy(TrainingStudy):
    """Share of wrong labels in every coreset, test minus validation loss, losses of wrong and right labels."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "epochs": 10,
        "every": 3,
        "fraction": 0.2,
        "selectors": ("moderate",),
        "sparsities": (0.9,),
    }

    out: Path = Path("runs/noise")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    noise: tuple[float, ...] = (0.1,)
    """Shares of training labels made wrong; the figure shows the first."""
    fraction: float = 0.1
    """Share of the training data in a coreset."""
    selectors: tuple[str, ...] = ("el2n(keep=switch)", "moderate", "gradmatch")
    """What chooses."""
    sparsities: tuple[float, ...] = (0.3, 0.9)
    """Shares of the backbone's weights removed."""
    watched: int = 2
    """Epochs between two looks at the losses."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if not self.noise or 0 in self.noise:
            raise ConfigError("noise holds no share above 0, or holds 0; without wrong labels there is nothing to see.")
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield all data and random samples, without and with pruning, then every selector, without and with it.

        No states are preserved: they would hold pruned networks, and those with all weights not.
        """
        looks = {"probe": 2000, "evaluate_every": self.watched, "fraction": self.fraction, "preserve": NONE}
        base = self.base(**looks)
        for selector in (None, "random", *self.selectors):
            for sparsity in (None, *self.sparsities):
                arm = {(True, True): DENSE, (True, False): "prune-only", (False, True): "coreset-only"}.get(
                    (selector is None, sparsity is None), "swast-cut"
                )
                name = RANDOM if selector == "random" else selector
                changed = base.with_options(sparsity=sparsity) if sparsity is not None else base
                changed = changed if selector is None else changed.with_options(selector=selector)
                yield {"arm": arm, "selector": name, "sparsity": sparsity}, make_arm(arm, changed, n=10_000)

    def told(self, result: Result) -> dict[str, Any]:
        """Return the share of wrong labels at each selection, and the losses at each look."""
        names = ("epoch", "test_loss", "validation_loss", "loss_noisy", "loss_clean")
        lines = [line for line in result.metrics if line["kind"] == "epoch" and "test_loss" in line]
        chosen = [line for line in result.metrics if line["kind"] == "selection"]
        return {
            "coresets": [[line["epoch"], line["noise_ratio"]] for line in chosen],
            "losses": [[line[name] for name in names] for line in lines],
        }

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell the last coresets' wrong labels, the last gaps and losses, and what they are held against."""
        arms = [(noise, factors) for noise in self.noise for factors, _ in self.recipes()]
        settings = [Setting(results, noise, **factors) for noise, factors in arms]
        return told(settings, self.seeds, list(self.panels(results)))

    def panels(self, results: Sequence[Row]) -> Iterator[Panel]:
        """Draw the three panels of Fig. 5 at the first noise level, for every selector and for all data, in rows."""
        for selector in (RANDOM, *self.selectors, None):
            here = [row for row in results if (row["noise"], row["selector"]) == (self.noise[0], selector)]
            title = f"{selector or 'all data'}, noise {self.noise[0]:g}"
            by_name = {
                "all weights" if sparsity is None else f"{100 * sparsity:g} % of them pruned": [
                    row for row in here if row["sparsity"] == sparsity
                ]
                for sparsity in (None, *self.sparsities)
            }
            if selector is not None:
                kept = [curve(name, [row["coresets"] for row in rows], 1, 100) for name, rows in by_name.items()]
                yield Panel(f"wrong labels: {title}", "epoch", "% of the coreset", kept, level=100 * self.noise[0])
            for what, first, second in (("test - validation loss", 1, 2), ("loss of wrong - right labels", 3, 4)):
                lines = {
                    name: [differences(row["losses"], first, second) for row in rows] for name, rows in by_name.items()
                }
                yield Panel(title, "epoch", what, [curve(name, found, 1) for name, found in lines.items()])
