"""The control of every selection: samples drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sartor.registry import SELECTORS
from sartor.scanning import Scan
from sartor.select.budget import check_budget
from sartor.types import Subset


@SELECTORS.register("random")
@dataclass(frozen=True)
class Random:
    """Uniformly random samples, without replacement and without weights; looks at nothing."""

    @property
    def needs(self) -> frozenset[str]:
        """Nothing: no forward pass."""
        return frozenset()

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows of the scan. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        return Subset.of(scan.rows[torch.randperm(len(scan), generator=generator)[:k]])
