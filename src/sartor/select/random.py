"""The control of every selection: samples drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, draw, share_out
from sartor.types import Subset


@SELECTORS.register("random")
@dataclass(frozen=True)
class Random:
    """Uniformly random samples, without replacement and without weights; looks at nothing.

    `balanced` draws within each class, which gets its share of k by largest remainder.
    """

    balanced: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Nothing, or the targets where classes keep their shares; no forward pass."""
        return frozenset({"targets"} if self.balanced else ())

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows of the scan. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        if not self.balanced:
            return Subset.of(draw(scan.rows, k, generator=generator))
        return Subset.of(scan.rows[share_out(scan.targets, k, partial(draw, generator=generator))])
