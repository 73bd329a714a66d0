"""The sampler that takes a coreset out of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.errors import SelectionError
from sartor.ranking import size_of
from sartor.registry import SAMPLERS
from sartor.seen import as_rows, few
from sartor.select.coreset_file import CoresetFile, pool_digest, read_coreset
from sartor.types import Subset


@SAMPLERS.register("file")
@dataclass(frozen=True)
class FromFile:
    """The samples of a file that `sartor select` wrote, with their weights, from the first epoch to the last.

    Rows mean what they meant where they were chosen: data, hold-out and noise have to be the same, and this is checked.
    """

    path: str = "coreset.csv"

    def due(self, epoch: int) -> bool:
        """Tell whether it is the first epoch, after looking at the file: one that is damaged is refused early."""
        if epoch == 0:
            read_coreset(Path(self.path))
        return epoch == 0

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
    ) -> Subset:
        """Return the k rows of the file and their weights. Nothing is drawn.

        Raises: SelectionError: for a file of another number of samples, or one that was chosen from other samples.
        """
        found = read_coreset(Path(self.path))
        self.check_origin(found, rows, targets)
        if len(found.subset) != k:
            raise SelectionError(
                f"{self.path} holds {len(found.subset)} samples, but k is {k} of {len(rows)}; "
                f"give --fraction {share_for(len(found.subset), len(rows))}."
            )
        return found.subset

    def check_origin(self, found: CoresetFile, rows: Int64[Tensor, "n"], targets: Int64[Tensor, "n"] | None) -> None:
        """Raise SelectionError unless the file was chosen from these rows, with these labels."""
        cure = "train on the data that it was chosen from, with the same --holdout, --noise and --seed, or choose anew"
        chosen = found.subset.rows
        places = torch.searchsorted(rows, chosen).clamp(max=len(rows) - 1)
        strange = chosen[rows[places] != chosen]
        if len(strange):
            raise SelectionError(f"{self.path} holds {few(as_rows(strange))}, which the training data lack; {cure}.")
        if targets is not None and found.labels is not None:
            other = chosen[targets[places] != found.labels]
            if len(other):
                raise SelectionError(f"{self.path} tells other labels of {few(as_rows(other))}; {cure}.")
        if found.pool is not None and found.pool != pool_digest(rows):
            raise SelectionError(f"{self.path} was chosen from other samples than these {len(rows)}; {cure}.")


def share_for(k: int, n: int) -> str:
    """Write a share of n samples that is k of them, as short as it can be."""
    written = (f"{k / n:.{digits}g}" for digits in range(1, 18))
    return next(text for text in written if size_of(float(text), n) == k)
