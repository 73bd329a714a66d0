"""The work of the study of polynomials: pruned fits to many sets of points, and difficulties in four readings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sartor.studies.polynomials import Sample, alike, difficulty, draw, error, fit, smallest, without

DEGREE, PRUNED = 10, 3
DEGREES = range(1, 21)
FULL, CORESET = "10, half noisy", "its 5 clean"
READINGS = {
    "subset": "D: 50 noisy and 20 clean, D^: those 20",
    "independent": "D: 50 noisy, D^: 20 clean elsewhere, both at random",
    "spaced": "D: 50 noisy, D^: 20 clean, both at equal distances",
    "swapped": "D: 20 noisy, D^: 50 clean, both at random",
}
"""What D and its subset D^ may be: SWaST, Fig. 1c does not say."""


@dataclass(frozen=True)
class Fits:
    """Degree-10 fits to all kinds of point sets, before and after three coefficients are set to zero."""

    function: str
    spaced: bool
    basis: str
    draws: int

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"pruned fits: {self.function}, {placement(self.spaced)}, {self.basis}"

    def sets(self, seed: int) -> dict[str, Sample]:
        """Draw every point set; the coreset and the noisy ones are parts of the ten points."""

        def points(n: int, noisy: int) -> Sample:
            return draw(self.function, n, noisy, seed=seed, purpose=f"fit {n} {noisy}", spaced=self.spaced)

        full = points(10, 5)
        sets = {FULL: full, CORESET: full.only(~full.noisy), "its 5 noisy": full.only(full.noisy)}
        return sets | {"10 clean": points(10, 0), "10 noisy": points(10, 10)} | {
            f"50, {share}": points(50, noisy) for share, noisy in (("clean", 0), ("half noisy", 25), ("noisy", 50))
        }  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Return for every set, draw by draw: error before and after, the same with like magnitudes, largest |c|."""
        found: dict[str, dict[str, list[float]]] = {}
        for seed in range(self.draws):
            shares: list[float] = []
            for name, sample in self.sets(seed).items():
                c = fit(sample.x, sample.y, DEGREE, self.basis)
                largest = float(np.abs(c).max())
                places = smallest(c, PRUNED)
                shares = shares or [abs(c[place]) / largest for place in places]
                values = {"before": error(c, self.function, self.basis), "largest": largest}
                for rule, gone in (("after", places), ("alike", alike(c, shares))):
                    values[rule] = error(without(c, gone), self.function, self.basis)
                for key, value in values.items():
                    found.setdefault(name, {}).setdefault(key, []).append(value)
        return {"function": self.function, "points": placement(self.spaced), "basis": self.basis, "sets": found}


@dataclass(frozen=True)
class Difficulty:
    """I(D, D^) for polynomials of degree 1 to 20, in one reading."""

    function: str
    reading: str
    draws: int

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"difficulty: {self.function}, {self.reading}"

    def pair(self, seed: int) -> tuple[Sample, Sample]:
        """Draw D and D^."""
        spaced, swapped = self.reading == "spaced", self.reading == "swapped"
        large = draw(self.function, 50, 0 if swapped else 50, seed=seed, purpose="large", spaced=spaced)
        small = draw(self.function, 20, 20 if swapped else 0, seed=seed, purpose="small", spaced=spaced)
        if self.reading == "subset":
            return large.joined(small), small
        return (small, large) if swapped else (large, small)

    def run(self) -> dict[str, Any]:
        """Return I by degree, draw by draw; None is infinite."""
        pairs = [self.pair(seed) for seed in range(self.draws)]
        values = {str(k): [finite(difficulty(*pair, k)) for pair in pairs] for k in DEGREES}
        return {"function": self.function, "reading": self.reading, "difficulty": values}


def finite(value: float) -> float | None:
    """Return the value, or None of infinity."""
    return value if math.isfinite(value) else None


def placement(spaced: bool) -> str:
    """Name where the points are."""
    return "spaced" if spaced else "random"
