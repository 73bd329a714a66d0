"""Forgetting: how often a sample that was right turned wrong again while the network trained."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float32
from torch import Tensor

from sartor.errors import check_choice
from sartor.history import History
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked
from sartor.select.visits import visited


def forgetting_events(history: History) -> Float32[Tensor, "n"]:
    """Return how often each sample turned from right to wrong; one that was never right gets one more than any other.

    Higher is harder (Toneva et al. 2019, Sec. 3). Differs: their code gives samples that were never right the number of
    visits, which ranks alike; here the counts stay evenly spaced.
    """
    counts = history.forgotten.float()
    return counts.masked_fill(history.times_right == 0, float(counts.max()) + 1)


@SELECTORS.register("forgetting")
@dataclass(frozen=True)
class Forgetting(Ranked):
    """The samples that were forgotten most or least often (Toneva et al. 2019), without weights; reads the history.

    Samples that were never right rank above every count. Counts are small, so that many are equal: those at the border
    are chosen at random. `balanced` ranks within each class.
    """

    parts = frozenset({"history"})

    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest"))

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the number of forgetting events; higher is harder, never right is highest.

        Raises: SelectionError: for samples that were never looked at.
        """
        return forgetting_events(visited(scan, 1))

    @property
    def coarse(self) -> bool:
        """Yes: counts are small."""
        return True

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return 0 FLOPs: counts are compared, and nothing is computed."""
        return 0.0
