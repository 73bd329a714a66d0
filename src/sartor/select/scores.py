"""Scores read from one look at the network, and the selectors that keep one end of their ranking."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.errors import check_choice
from sartor.ranking import top_indices
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, share_out
from sartor.types import Subset


def el2n(errors: Float[Tensor, "b c"]) -> Float[Tensor, "b"]:
    """EL2N: the Euclidean norm of softmax - onehot, in [0, sqrt(2)]; higher is harder (Paul et al. 2021, Def. 2.1).

    Differs: Paul et al. average over ten networks early in training; this is one network as it is.
    """
    return errors.norm(dim=1)


def keep_top(
    scores: Float[Tensor, "n"], k: int, *, largest: bool, targets: Int64[Tensor, "n"] | None = None
) -> Int64[Tensor, "k"]:
    """Return the positions of the k largest (or smallest) scores, ties to the lower position.

    Where targets are given, each class is ranked for itself and gets its share of k by largest remainder.
    """
    if targets is None:
        return top_indices(scores, k, largest=largest)
    return share_out(targets, k, lambda members, budget: members[top_indices(scores[members], budget, largest=largest)])


@SELECTORS.register("el2n")
@dataclass(frozen=True)
class EL2N:
    """The samples with the highest (hardest) or lowest error norm (Paul et al. 2021), without weights.

    `keep="switch"` keeps the highest while progress < 1/2 and the lowest from then on, as SWaST does.
    `balanced` ranks within each class. Without it, hardest-first can leave classes out and collects wrong labels.
    """

    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest", "switch"))

    @property
    def needs(self) -> frozenset[str]:
        """Logits and targets, and the progress where the end that is kept switches."""
        return frozenset({"logits", "targets"} | ({"progress"} if self.keep == "switch" else set()))

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows at the kept end of the ranking. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        scores = torch.cat([el2n(scan.errors(block)) for block in scan.blocks()])
        largest = scan.progress < 0.5 if self.keep == "switch" else self.keep == "highest"
        targets = scan.targets if self.balanced else None
        flops = self.arithmetic(len(scan), k, classes=scan.classes, features=0)
        return Subset.of(scan.rows[keep_top(scores, k, largest=largest, targets=targets)], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the norms, 2 per multiply-add."""
        return 2.0 * n * classes
