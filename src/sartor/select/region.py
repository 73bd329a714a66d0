"""The quadratic that stands for the loss of a training around some weights, and who has learnt what."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from sartor.ranking import top_indices
from sartor.seen import Scan

SLOPES, CURVATURES = 0.9, 0.999
"""How much of the averages of slopes and of squared curvatures remains from one mini-batch to the next."""
TINY = 1e-12
"""Loss below which an error is no longer measured by it."""


def quadratic(
    loss: float, slope: Float32[Tensor, "p"], curvature: Float32[Tensor, "p"], step: Float32[Tensor, "p"]
) -> float:
    """Return loss + <slope, step> + <step, curvature * step> / 2, summed in float64."""
    step = step.double()
    return loss + float(slope.double() @ step + (curvature.double() * step) @ step / 2)


class Region:
    """What CREST remembers: the quadratic around the weights of its last choice, and what has been learnt.

    `slope` and `squares` are exponential averages over mini-batches, not corrected yet, `batches` how many there were.
    `highest` is each sample's highest loss since samples were last left out; nan where it was not looked at.
    """

    def __init__(self, rows: Int64[Tensor, "n"]) -> None:
        self.rows = rows
        self.learnt = torch.zeros(len(rows), dtype=torch.bool)
        self.highest = torch.full((len(rows),), torch.nan)
        self.since: int | None = None
        self.watched: Int64[Tensor, "m"] = rows[:0]
        """Rows of the random subsets, ascending: by their mean loss the quadratic is judged."""
        self.loss = math.nan
        self.weights, self.slope, self.squares = (torch.zeros(0) for _ in range(3))
        self.batches = 0
        self.told: dict[str, Any] = {}
        """What the last look found: the quadratic's error, whether the coreset was kept, how many are left out."""

    def note(self, seen: Scan) -> float:
        """Take down the losses of some samples; return their mean."""
        losses = F.cross_entropy(seen.logits.float(), seen.targets, reduction="none")
        at = torch.searchsorted(self.rows, seen.rows)
        self.highest[at] = torch.fmax(self.highest[at], losses)
        return float(losses.double().mean())

    def leave_out(self, below: float, *, least: int) -> None:
        """Leave out for good what was looked at and never had a loss of `below` or more; `least` samples stay.

        Where that is too many, those with the lowest losses go. Then all is to be looked at anew.
        """
        going = (self.highest < below) & ~self.learnt
        most = max(0, int((~self.learnt).sum()) - least)
        self.learnt[top_indices(-self.highest.masked_fill(~going, torch.inf), min(most, int(going.sum())))] = True
        self.highest.fill_(torch.nan)

    def begin(self, weights: Float32[Tensor, "p"], watched: Int64[Tensor, "m"], loss: float) -> None:
        """Take the weights around which the loss is told from now on."""
        if not self.batches:
            self.slope, self.squares = torch.zeros_like(weights), torch.zeros_like(weights)
        self.weights, self.watched, self.loss = weights, watched, loss

    def average(self, slope: Float32[Tensor, "p"], curvature: Float32[Tensor, "p"]) -> None:
        """Take in one mini-batch."""
        self.slope = SLOPES * self.slope + (1 - SLOPES) * slope
        self.squares = CURVATURES * self.squares + (1 - CURVATURES) * curvature.square()
        self.batches += 1

    def error(self, weights: Float32[Tensor, "p"], loss: float) -> float:
        """Return |predicted - found| / found, for the mean loss of the watched samples at other weights."""
        slope = self.slope / (1 - SLOPES**self.batches)
        curvature = (self.squares / (1 - CURVATURES**self.batches)).sqrt()
        missed = abs(quadratic(self.loss, slope, curvature, weights - self.weights) - loss)
        return missed / max(loss, TINY)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return vars(self).copy()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        vars(self).update(state)
