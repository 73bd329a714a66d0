"""Samplers: what the coming epochs train on, chosen without a look at the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError
from sartor.registry import SAMPLERS
from sartor.types import Subset


@SAMPLERS.register("redraw")
@dataclass(frozen=True)
class Redraw:
    """A random subset, drawn anew every `every` epochs; with `every=0` drawn once and kept."""

    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"every is {self.every}; it must be 0 (drawn once) or a number of epochs from 1.")

    def due(self, epoch: int) -> bool:
        """Tell whether a subset is drawn before this epoch; 0 is the first epoch that the sampler governs."""
        return epoch % self.every == 0 if self.every else epoch == 0

    def sample(self, rows: Int64[Tensor, "n"], k: int, *, generator: torch.Generator) -> Subset:
        """Return k of the rows, uniformly and without replacement. Raises: SelectionError: for a k out of reach."""
        if not 1 <= k <= len(rows):
            raise SelectionError(f"k is {k}; it must lie in [1, {len(rows)}], the number of samples to choose from.")
        return Subset.of(rows[torch.randperm(len(rows), generator=generator)[:k]])
