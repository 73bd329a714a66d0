"""InfoBatch: in each epoch a share of the easy samples is left out, and the others stand for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sartor.errors import SelectionError, check_range
from sartor.history import History
from sartor.registry import SAMPLERS
from sartor.select.budget import draw
from sartor.types import Subset


def easy_ones(losses: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Tell which losses lie below the mean of those that are known; nan, not known yet, is not easy."""
    known = losses[~losses.isnan()].double()
    if len(known) == 0:
        return torch.zeros(len(losses), dtype=torch.bool)
    return losses.double() < known.mean()  # in float64, where the mean of equal losses is not rounded up


def rounded_at_random(number: float, *, generator: torch.Generator) -> int:
    """Return one of the two whole numbers next to a number, so that the mean over many draws is the number."""
    whole = int(number)
    return whole + int(float(torch.rand((), generator=generator, dtype=torch.float64)) < number - whole)


@SAMPLERS.register("infobatch")
@dataclass(frozen=True)
class InfoBatch:
    """All samples but a random share of the easy ones, whose survivors count for more (Qin et al. 2024).

    Easy are those whose last loss lies below the mean. Of them the share `ratio` is left out for an epoch, the others
    have the weight 1 / (1 - ratio): the expected sum of all weighted gradients is that of all samples. After the share
    `delta` of the epochs all samples train, with weight 1. Samples that have not been trained yet are kept.
    """

    ratio: float = 0.5
    delta: float = 0.875

    def __post_init__(self) -> None:
        check_range("ratio", self.ratio, 0, 1, low_open=True, high_open=True)
        check_range("delta", self.delta, 0, 1, low_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """The last losses, and where in the training the epoch is."""
        return frozenset({"history", "epoch", "epochs"})

    @property
    def free(self) -> bool:
        """How many samples are left depends on the losses."""
        return True

    def due(self, epoch: int) -> bool:
        """Tell that every epoch has a subset of its own."""
        return True

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
        history: History,
        epoch: int,
        epochs: int,
    ) -> Subset:
        """Return the samples of epoch `epoch` (from 0) of `epochs`, n at most, with weights 1 and 1 / (1 - ratio).

        Pruned are the epochs that end within the share `delta` of all, as in the authors' program.
        Raises: SelectionError: for a k that is not the number of rows.
        """
        if k != len(rows):
            raise SelectionError(f"k is {k} of {len(rows)}; infobatch settles itself how many it takes: give all.")
        if epoch + 1 > self.delta * epochs + 1e-9:
            return Subset.of(rows)
        easy = easy_ones(history.of(rows).loss)
        kept = rounded_at_random(int(easy.sum()) * (1 - self.ratio), generator=generator)
        chosen = torch.cat([rows[~easy], draw(rows[easy], kept, generator=generator)])
        weights = torch.ones(len(chosen), dtype=torch.float64)
        weights[len(chosen) - kept :] = 1 / (1 - self.ratio)
        return Subset.of(chosen, weights)
