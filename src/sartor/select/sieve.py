"""Sieve: what has been learnt makes room for what has not been used yet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.errors import check_range
from sartor.history import History
from sartor.ranking import size_of, top_indices
from sartor.registry import SAMPLERS
from sartor.select.budget import check_budget
from sartor.types import Subset


def queue_order(visits: Int64[Tensor, "m"], *, generator: torch.Generator) -> Int64[Tensor, "m"]:
    """Return the places of waiting samples, the next one first: fewest visits first, equal ones in random order."""
    shuffled = torch.randperm(len(visits), generator=generator)
    return shuffled[visits[shuffled].argsort(stable=True)]


@SAMPLERS.register("sieve")
@dataclass(frozen=True)
class Sieve:
    """k samples, of which every `every` epochs the share `share` that is learnt best gives way to others.

    Learnt best are those with the lowest loss when last trained; in come those that were trained least often, so that
    all are used before any returns. It goes by the mini-batches alone: there is no scan. Without weights. The first
    subset is the head of the same queue.
    """

    every: int = 5
    share: float = 0.3

    def __post_init__(self) -> None:
        check_range("every", self.every, 1, float("inf"), high_open=True)
        check_range("share", self.share, 0, 1, low_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """Losses and visits so far, and the subset that is to be changed."""
        return frozenset({"history", "subset"})

    def due(self, epoch: int) -> bool:
        """Tell whether samples are exchanged before this epoch; 0 is the first epoch that the sampler governs."""
        return epoch % self.every == 0

    def exchanged(self, n: int, k: int) -> int:
        """Return how many of k samples give way: floor(share k + 1/2), one at least, no more than there are others."""
        return min(max(1, size_of(self.share, k)), n - k)

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
        history: History,
        subset: Subset | None,
    ) -> Subset:
        """Return k rows: of the `subset` all but those with the lowest losses, then the head of the queue.

        Of equal losses the lower rows stay. Samples that have not been trained yet stay too.
        Raises: SelectionError: for a k out of reach.
        """
        check_budget(rows, k)
        known = history.of(rows)
        inside = torch.zeros(len(rows), dtype=torch.bool) if subset is None else torch.isin(rows, subset.rows)
        present, waiting = inside.nonzero().squeeze(1), (~inside).nonzero().squeeze(1)
        stay = min(len(present), k - min(self.exchanged(len(rows), k), len(waiting)))
        losses = known.loss[present].nan_to_num(nan=torch.inf, posinf=torch.inf)
        staying = present[top_indices(losses, stay)]
        queue = waiting[queue_order(known.visits[waiting].long(), generator=generator)]
        return Subset.of(rows[torch.cat([staying, queue[: k - stay]])])
