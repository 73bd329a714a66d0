"""What synergy found: the interaction of choosing samples and pruning weights, and that of random choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.recipes.swast import NONE
from sartor.report.statistics import Interval, paired_difference
from sartor.studies.findings import Effect, Value, tally
from sartor.studies.trainings import Row, crossed, mean_of, points, share_of

SAMPLES = ("chosen", "random", "redrawn")
WEIGHTS = ("pruned", "random masks")
ALL = "all"


def arms() -> Iterator[tuple[str, str, str]]:
    """Yield every combination of samples, weights and preservation: SWaST's own is the last."""
    yield from ((samples, weights, NONE) for samples in (ALL, *SAMPLES) for weights in (ALL, *WEIGHTS))
    yield "chosen", "pruned", "complete"


@dataclass(frozen=True)
class Square:
    """The runs of one fraction and sparsity, with all samples or weights beside."""

    results: Sequence[Row]
    noise: float
    match: str
    fraction: float
    sparsity: float

    def points(self, samples: str, weights: str, preserve: str = NONE) -> dict[int, float]:
        """Return accuracies by seed."""
        return points(self.results, **self.place(samples, weights, preserve))

    def place(self, samples: str, weights: str, preserve: str = NONE) -> dict[str, Any]:
        """Say which runs are meant."""
        free = self.match == "epochs"
        where = {"noise": self.noise, "match": self.match, "samples": samples, "weights": weights, "preserve": preserve}
        fraction = None if free and samples == ALL else self.fraction
        return where | {"fraction": fraction, "sparsity": None if free and weights == ALL else self.sparsity}

    def costs(self, *corners: tuple[str, ...]) -> str:
        """Write the FLOPs of some runs as shares of those of chosen samples with pruned weights."""
        aim = self.place("chosen", "pruned")
        shares = [share_of(self.results, aim, **self.place(*corner)) for corner in corners]
        return ", ".join("" if share is None else f"{share:.2f}" for share in shares)

    def by_seed(self, samples: str, weights: str, preserve: str = NONE) -> dict[int, float]:
        """Return the interaction by seed: what the pair does beyond the sum of what each does alone."""
        joint, whole = self.points(samples, weights, preserve), self.points(ALL, ALL)
        return crossed([joint, self.points(ALL, weights), self.points(samples, ALL), whole])

    def interaction(self, samples: str, weights: str, preserve: str = NONE) -> Interval | None:
        """Return the interaction over seeds."""
        return mean_of(self.by_seed(samples, weights, preserve))

    def rows(self) -> Iterator[dict[str, Value]]:
        """Yield a row for each pair of samples and weights."""
        for samples, weights, preserve in arms():
            if ALL in (samples, weights):
                continue
            joint, selected = self.points(samples, weights, preserve), self.points(samples, ALL)
            yield {
                "samples": samples,
                "weights": weights,
                "preserve": preserve,
                "dense": mean_of(self.points(ALL, ALL)),
                "prune-only": mean_of(self.points(ALL, weights)),
                "select-only": mean_of(selected),
                "joint": mean_of(joint),
                "FLOPs (share of target)": self.costs(
                    (ALL, ALL), (ALL, weights), (samples, ALL), (samples, weights, preserve)
                ),
                "joint - select-only": Effect(paired_difference(joint, selected)),
                "interaction": Effect(self.interaction(samples, weights, preserve)),
            }

    def beyond(self) -> dict[str, Interval | None]:
        """Return by how much the interaction of chosen and pruned exceeds those of the nulls, paired by seed."""
        mine = self.by_seed("chosen", "pruned")
        nulls = {"random": ("random", "pruned"), "redrawn": ("redrawn", "pruned"), "masks": ("chosen", "random masks")}
        names = {"random": "random samples, drawn once", "redrawn": "random samples, redrawn", "masks": "random masks"}
        return {names[name]: paired_difference(mine, self.by_seed(*null)) for name, null in nulls.items()}


def verdict(squares: Sequence[Square]) -> list[str]:
    """Say in how many squares an interaction could be shown, how large it can be, and what of it chance has too."""
    sentences = []
    for match in ("epochs", "cost"):
        here = [square for square in squares if square.match == match]
        for preserve, name in ((NONE, "chosen samples, pruned weights"), ("complete", "the same with preservation")):
            found = [square.interaction("chosen", "pruned", preserve) for square in here]
            said = tally(f"Interaction of {name} at equal {match}", found)
            ends = [end for value in found if value is not None and value.n > 1 for end in (value.low, value.high)]
            within = f" All intervals lie within {min(ends):+.2f} to {max(ends):+.2f} points." if ends else ""
            sentences.append(said + within)
        for null in ("random samples, redrawn", "random masks"):
            sentences.append(tally(f"Beyond {null} at equal {match}", [square.beyond()[null] for square in here]))
    return sentences
