"""Do synchronised selectors stay nearer to their targets, and does PruneFuse's error bound explain what is gained?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from sartor.errors import ConfigError
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.registry import STUDIES
from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.aligned import CHOICE, TARGET, Aligned
from sartor.studies.findings import Effect, Findings, Table, Value, tally
from sartor.studies.trainings import Row, TrainingStudy, mean_of

RANDOM = "random"
TERMS = {"gap": "left side", "delta": "delta", "rho": "rho", "lipschitz": "L", "bound": "right side"}
"""What the metrics call the bound's terms, and the tables."""


@STUDIES.register("alignment")
@dataclass(frozen=True, kw_only=True)
class AlignmentStudy(TrainingStudy):
    """Targets of PruneFuse beside synchronised and fresh selectors, and the terms of its error bound."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=8)",
        "seeds": 2,
        "epochs": 10,
        "acquisitions": ("least-confidence", "random"),
        "budgets": "0.05,0.1,0.2,0.3",
        "targets": "0.1,0.3",
    }

    out: Path = Path("runs/alignment")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong."""
    every: tyro.conf.Suppress[int] = 5
    pruner: tyro.conf.Suppress[str] = "rigl(every=10)"
    acquisitions: tuple[str, ...] = ("least-confidence", "k-center(start=labelled)", RANDOM)
    """What chooses; random has to be among it."""
    t_sync: tuple[int, ...] = (0, 1)
    """Rounds from one synchronisation to the next, each tried; 0 for none."""
    sparsity: float = 0.5
    """Share of channels that the selector lacks."""
    temperature: float = 4.0
    """Temperature at which targets listen to their selectors."""
    budgets: str = "0.02,0.1,0.2,0.3,0.4,0.5"
    """Labels that there are, round by round: shares of the pool, or whole numbers."""
    targets: str = "0.1,0.3,0.5"
    """Budgets at which a target is trained and all is measured."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        if RANDOM not in self.acquisitions:
            raise ConfigError(f"acquisitions are {', '.join(self.acquisitions)}; add random, for all stand beside it.")
        super().check()

    def recipes(self) -> Iterator[tuple[dict[str, Any], Recipe]]:
        """Yield every acquisition with every synchronisation."""
        common = {
            name: getattr(self, name)
            for name in ("epochs", "batch_size", "lr", "sparsity", "temperature", "budgets", "targets")
        }
        for acquisition, t_sync in itertools.product(self.acquisitions, self.t_sync):
            recipe = Aligned(**common, acquisition=acquisition, t_sync=t_sync, evaluate_every=10**6, probe=0)
            yield {"acquisition": acquisition, "t_sync": t_sync}, recipe

    def told(self, result: Result) -> dict[str, Any]:
        """Return what was measured, by the number of labels."""
        chosen = {line["labelled"]: line["delta"] for line in result.metrics if line["kind"] == CHOICE}
        lines = [line for line in result.metrics if line["kind"] == TARGET]
        return {"rounds": [{**line, "chosen": chosen.get(line["labelled"])} for line in lines]}

    def tables(self, results: Sequence[Row]) -> Findings:
        """Tell accuracies, the bound's terms, how both stand to those of random draws, and what follows."""
        places = [Place(results, *where) for where in self.places(results)]
        runs = counted(self.seeds, "seed")
        tables = [
            Table(f"Accuracies (%) and what lies between them (points), {runs}", [p.accuracies() for p in places]),
            Table(f"The bound's terms, losses in nats, means over {runs}", [p.terms() for p in places]),
            Table(
                f"Minus the same with a random acquisition, points and nats, {runs}",
                [place.against_random() for place in places if place.acquisition != RANDOM],
            ),
        ]
        return Findings(tables, verdict(places), [Chart("figure", list(self.panels(places)))])

    def places(self, results: Sequence[Row]) -> list[tuple[float, str, int, int]]:
        """Return noise, acquisition, synchronisation and number of labels wherever something was measured."""
        sizes = sorted({line["labelled"] for row in results for line in row["rounds"]})
        return list(itertools.product(self.noise, self.acquisitions, self.t_sync, sizes))

    def panels(self, places: Sequence[Place]) -> Iterator[Panel]:
        """Draw the bound's sides, and target minus selectors, for each noise level and synchronisation."""
        for noise, t_sync in itertools.product(self.noise, self.t_sync):
            sides, apart = [], []
            for acquisition in self.acquisitions:
                here = [p for p in places if (p.noise, p.t_sync, p.acquisition) == (noise, t_sync, acquisition)]
                sizes = [float(place.labelled) for place in here]
                for name in ("gap", "bound"):
                    means = [place.mean(name) for place in here]
                    sides.append(Series(f"{TERMS[name]}, {acquisition}", sizes, means))
                for other in ("selector", "fresh") if t_sync else ("selector",):
                    values = [(float(p.labelled), p.apart(other)) for p in here]
                    known = [(size, value) for size, value in values if value is not None]
                    apart.append(series_of(f"{other}, {acquisition}", known))
            title = f"T_sync = {t_sync}, noise {noise:g}"
            yield Panel(f"the bound's sides, {title}", "labels", "nats", sides, log=True)
            yield Panel(f"target minus selector, {title}", "labels", "percentage points", apart, level=0.0)


@dataclass(frozen=True)
class Place:
    """What was measured with one acquisition, synchronisation and number of labels, over seeds."""

    results: Sequence[Row]
    noise: float
    acquisition: str
    t_sync: int
    labelled: int

    def by_seed(self, value: Callable[[Row], float | None]) -> dict[int, float]:
        """Return one number of each seed's round; what is not there is left out."""
        found = {
            row["seed"]: value(line)
            for row in self.results
            if (row["noise"], row["acquisition"], row["t_sync"]) == (self.noise, self.acquisition, self.t_sync)
            for line in row["rounds"]
            if line["labelled"] == self.labelled
        }
        return {seed: number for seed, number in found.items() if number is not None}

    def of(self, name: str) -> dict[int, float]:
        """Return one of the measures by seed; accuracies in percent."""
        percent = 100 if name in ("target", "selector", "fresh") else 1
        return self.by_seed(lambda line: None if line[name] is None else percent * line[name])

    def mean(self, name: str) -> float:
        """Return the mean of one of the measures."""
        values = self.of(name).values()
        return sum(values) / len(values)

    def apart(self, selector: str) -> Interval | None:
        """Return D of the paper, |accuracy of the target - that of a selector|, in points."""
        return mean_of(self.by_seed(lambda line: 100 * abs(line["target"] - line[selector])))

    def nearer(self) -> Interval | None:
        """Return by how much farther from the target a fresh selector is than a synchronised one."""

        def farther(line: Row) -> float:
            return 100 * (abs(line["target"] - line["fresh"]) - abs(line["target"] - line["selector"]))

        return mean_of(self.by_seed(farther)) if self.t_sync else None

    def minus_random(self, name: str) -> Interval | None:
        """Return by how much a measure exceeds that of the random acquisition, paired by seed."""
        other = Place(self.results, self.noise, RANDOM, self.t_sync, self.labelled)
        return paired_difference(self.of(name), other.of(name))

    def where(self) -> dict[str, Value]:
        """Name the place."""
        place: dict[str, Value] = {"noise": self.noise, "acquisition": self.acquisition, "T_sync": self.t_sync}
        return place | {"labels": self.labelled}

    def accuracies(self) -> dict[str, Value]:
        """Return a row of Table 8; without synchronisation the selector is a fresh one."""
        row = self.where() | {name: mean_of(self.of(name)) for name in ("target", "selector", "fresh")}
        row |= {"D_selector": self.apart("selector"), "D_fresh": self.apart("fresh")}
        return row | {"D_fresh - D_selector": Effect(self.nearer())}

    def terms(self) -> dict[str, Value]:
        """Return a row of the bound's terms; `excess when chosen` is that before any network learnt the new labels."""
        row = self.where() | {title: self.mean(name) for name, title in TERMS.items()}
        chosen = mean_of(self.of("chosen"))
        row["right / left"] = self.mean("bound") / max(self.mean("gap"), 1e-12)
        return row | {"excess when chosen": None if chosen is None else chosen.mean}

    def against_random(self) -> dict[str, Value]:
        """Return a row of differences to the random acquisition."""
        row = self.where() | {"target": Effect(self.minus_random("target"))}
        for name, title in {"gap": TERMS["gap"], "bound": TERMS["bound"], "delta": TERMS["delta"]}.items():
            row[title] = Effect(self.minus_random(name), 3)
        return row | {"excess when chosen": Effect(self.minus_random("chosen"), 3)}


def verdict(places: Sequence[Place]) -> list[str]:
    """Say how alike selectors and targets are, whether the bound holds, and whether it goes with what is gained."""
    synced = [place.nearer() for place in places if place.t_sync]
    sentences = [tally("A fresh selector is farther from the target than a synchronised one", synced)] if synced else []
    pairs = [(place.of("gap"), place.of("bound")) for place in places]
    ratios = sorted(right[seed] / max(gap[seed], 1e-12) for gap, right in pairs for seed in gap)
    held = sum(ratio >= 1 for ratio in ratios)
    sentences.append(
        f"The right side of the bound is the larger one in {held} of {counted(len(ratios), 'round')}, at the median "
        f"{ratios[len(ratios) // 2]:.3g} times the left one."
    )
    for acquisition in dict.fromkeys(place.acquisition for place in places if place.acquisition != RANDOM):
        here = [place for place in places if place.acquisition == acquisition]
        for name, title in (("target", "Accuracy of the target"), ("chosen", "Excess when chosen")):
            sentences.append(tally(f"{title}, {acquisition} minus random", [p.minus_random(name) for p in here]))
        sentences += [explained(acquisition, here, name) for name in ("bound", "gap")]
    return sentences


def explained(acquisition: str, places: Sequence[Place], name: str) -> str:
    """Say whether, where an acquisition changes accuracy, one side of the bound changes the other way, as it should."""
    pairs = [(place.minus_random("target"), place.minus_random(name)) for place in places]
    outcomes = [(gain.outcome, side.outcome) for gain, side in pairs if gain is not None and side is not None]
    shown = [(gain, side) for gain, side in outcomes if gain in ("better", "worse")]
    against = sum(gain == side for gain, side in shown)
    along = sum(side in ("better", "worse") and gain != side for gain, side in shown)
    return (
        f"Where {acquisition} and random differ in accuracy ({counted(len(shown), 'place')} of {len(outcomes)}), the "
        f"more accurate one has the smaller {TERMS[name]} in {along}, the larger in {against}, and in "
        f"{len(shown) - along - against} no difference of it could be shown."
    )
