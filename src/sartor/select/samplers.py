"""Samplers: what the coming epochs train on, chosen without a look at the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError
from sartor.registry import SAMPLERS
from sartor.select.budget import check_budget, draw, share_out
from sartor.types import Subset


@SAMPLERS.register("redraw")
@dataclass(frozen=True)
class Redraw:
    """A random subset, drawn anew every `every` epochs; with `every=0` drawn once and kept.

    `balanced` draws within each class, which gets its share of k by largest remainder.
    """

    every: int = 1
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"every is {self.every}; it must be 0 (drawn once) or a number of epochs from 1.")

    def due(self, epoch: int) -> bool:
        """Tell whether a subset is drawn before this epoch; 0 is the first epoch that the sampler governs."""
        return epoch % self.every == 0 if self.every else epoch == 0

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
    ) -> Subset:
        """Return k of the rows, uniformly and without replacement.

        Raises: SelectionError: for a k out of reach, or where a balanced draw is given no targets.
        """
        check_budget(rows, k)
        if not self.balanced:
            return Subset.of(draw(rows, k, generator=generator))
        if targets is None:
            raise SelectionError("a balanced draw needs the labels; give targets=, one for each row.")
        return Subset.of(rows[share_out(targets, k, partial(draw, generator=generator))])
