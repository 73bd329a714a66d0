"""AUM: by how much a sample's label has led all other classes, on average over the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from sartor.errors import check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked
from sartor.select.visits import visited


@SELECTORS.register("aum")
@dataclass(frozen=True)
class AUM(Ranked):
    """The samples with the lowest (hardest) or highest area under the margin (Pleiss et al. 2020), without weights.

    The margin is the label's logit minus the largest other one, its area the mean over all visits: reads the history.
    Equal ones go to the lower row. `balanced` ranks within each class. The lowest hold the wrong labels.
    """

    hardest: ClassVar[str] = "lowest"
    parts = frozenset({"history"})

    keep: str = "lowest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest"))

    def scores(self, scan: Scan) -> Float64[Tensor, "n"]:
        """Return the mean margin of the logits (Pleiss et al. 2020, Eq. 2); higher is easier.

        Raises: SelectionError: for samples that were never looked at.
        """
        return visited(scan, 1).margins

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the means."""
        return float(n)
