"""The coreset of the moment, with the logits stored for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sartor.data.pool import Pool
from sartor.errors import SelectionError
from sartor.types import Subset


def all_of(pool: Pool) -> Subset:
    """Return every row of a pool with weight 1."""
    return Subset.of(pool.rows)


def check_subset(k: int, fraction: float, n: int) -> None:
    """Raise SelectionError where a share of n samples is no sample at all."""
    if k < 1:
        raise SelectionError(f"fraction {fraction:g} of {n} samples is none; use a larger --fraction.")


@dataclass
class Coreset:
    """The subset that epochs train on, the epoch before which it was drawn (-1: not yet), its stored logits.

    `logits` (k, c) and `keep` (k,) are in the subset's order.
    """

    subset: Subset
    drawn: int = -1
    logits: Tensor | None = None
    keep: Tensor | None = None

    def replace(self, subset: Subset, epoch: int, logits: Tensor | None = None, keep: Tensor | None = None) -> None:
        """Take a new subset, drawn before `epoch`."""
        self.subset, self.drawn, self.logits, self.keep = subset, epoch, logits, keep

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers."""
        subset = {"rows": self.subset.rows, "weights": self.subset.weights, "scale": self.subset.scale}
        return {"subset": subset, "drawn": self.drawn, "logits": self.logits, "keep": self.keep}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.replace(Subset(**state["subset"]), state["drawn"], state["logits"], state["keep"])
