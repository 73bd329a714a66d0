"""Recording of the history of a training: of each mini-batch as it is trained, or after each epoch."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from sartor.data.pool import Pool
from sartor.dist import World
from sartor.history import History

RECORDS = ("none", "batch", "epoch")
BLOCK = 16384
"""Samples whose logits are kept at once when a whole pool is visited."""


@dataclass
class Recorder:
    """A history that grows while a network trains, alike in all processes of a `world`.

    `kind` "batch": the logits that the training itself computes, which are held until the loss is known to be finite.
    "epoch": those of a pass over all samples, which the trainer makes.
    """

    history: History
    kind: str
    world: World
    held: Tensor | None = None

    def begin(self) -> None:
        """Begin a step: what was held of one that failed is let go."""
        self.held = None

    def hold(self, logits: Float[Tensor, "b c"]) -> None:
        """Hold the logits of this process' part of a mini-batch; of several passes, those of the first."""
        if self.kind == "batch" and self.held is None:
            self.held = logits.detach()

    def visit(self, rows: Int64[Tensor, "b"], pool: Pool) -> None:
        """Add the mini-batch whose logits are held, in all of its parts. Raises: SelectionError: as History.visit."""
        if self.kind == "batch":
            whole = self.world.gather_rows(rows.cpu())
            logits = self.world.gather_rows(None if self.held is None else self.held)
            self.history.visit(whole, logits, pool.targets_of(whole))
        self.held = None
