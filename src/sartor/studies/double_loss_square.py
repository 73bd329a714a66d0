"""What double-loss asks of the runs of one setting: a collapse, what it is worth that two belong together, a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sartor.recipes.swast import NONE
from sartor.report.statistics import Interval, paired_difference
from sartor.studies.double_loss_arms import HELD, HOLDS, RANDOM
from sartor.studies.findings import Value
from sartor.studies.trainings import Row, by_seed, crossed, mean_of, points


@dataclass(frozen=True)
class Square:
    """The runs of one selector, fraction and sparsity, with all weights beside, and random samples."""

    results: Sequence[Row]
    selector: str
    fraction: float
    sparsity: float

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        return f"{self.selector}, {self.fraction:g} of the data, {self.sparsity:g} pruned"

    @property
    def short(self) -> str:
        """Name it in a figure."""
        return f"{self.selector}, {self.fraction:g}, {self.sparsity:g}"

    @property
    def size(self) -> tuple[float, float]:
        """The share of the samples and that of the weights removed."""
        return self.fraction, self.sparsity

    @property
    def where(self) -> dict[str, Value]:
        """Name it in a table."""
        return {"selector": self.selector, "fraction": self.fraction, "sparsity": self.sparsity}

    def place(self, *, pruned: bool = True, **changed: Any) -> dict[str, Any]:
        """Say which runs are meant: those without a hold or a swap, unless `changed` says otherwise."""
        plain = {"hold": NONE, "coresets": "own", "masks": "own"}
        return {**self.where, **plain, "sparsity": self.sparsity if pruned else None, **changed}

    def points(self, *, pruned: bool = True, **changed: Any) -> dict[int, float]:
        """Return accuracies in percent by seed."""
        return points(self.results, **self.place(pruned=pruned, **changed))

    def holds(self, *, pruned: bool) -> list[str]:
        """Name the kinds of hold that were tried."""
        return [hold for hold in HOLDS[not pruned] if self.points(pruned=pruned, hold=hold)]

    def flops(self, *, pruned: bool, hold: str) -> float | None:
        """Return the mean FLOPs of a hold's runs; None of no runs."""
        found = mean_of(by_seed(self.results, lambda run: float(run["flops"]), **self.place(pruned=pruned, hold=hold)))
        return None if found is None else found.mean

    def collapse(self, hold: str = NONE) -> dict[int, float]:
        """Return what pruning does to chosen samples minus what it does to random ones: below 0 it is a collapse.

        By seed. A hold is held to itself with all weights, where there is that.
        """
        holds = {True: hold, False: hold if hold in HELD else NONE}
        kinds = [(selector, pruned) for selector in (self.selector, RANDOM) for pruned in (True, False)]
        return crossed([self.points(pruned=p, selector=s, hold=holds[p]) for s, p in kinds])

    def choice(self) -> Interval | None:
        """Return what chosen samples are worth over random ones with all weights."""
        mine, random = (self.points(pruned=False, selector=selector) for selector in (self.selector, RANDOM))
        return paired_difference(mine, random)

    def pairing(self) -> dict[int, float]:
        """Return what it is worth that coresets and masks come from one run, own or not: below 0, they hurt together.

        By seed. That a coreset or mask comes from another run cancels out; what is left is that both come from the same
        one. Two of the four pairs do, so the difference of differences has it twice. It also has that only the run
        itself drops weights that are small where they are dropped: so it is to be held against that of random samples.
        """
        kinds = [("own", "own"), ("swapped", "own"), ("own", "swapped"), ("swapped", "swapped")]
        return crossed([self.points(coresets=coresets, masks=masks) for coresets, masks in kinds], over=2)

    def helped(self, hold: str) -> dict[int, float]:
        """Return by how much more a hold helps pruned weights than all of them, by seed."""
        return crossed([self.points(pruned=pruned, hold=kind) for kind in (hold, NONE) for pruned in (True, False)])

    def gain(self, hold: str, *, pruned: bool) -> Interval | None:
        """Return what a hold brings."""
        return paired_difference(self.points(pruned=pruned, hold=hold), self.points(pruned=pruned))

    def tracked(self, hold: str, name: str) -> dict[int, float]:
        """Return a number of the tracks by seed, of the runs that have it."""
        known = [row for row in self.results if row.get(name) is not None]
        return by_seed(known, lambda row: float(row[name]), **self.place(hold=hold))
