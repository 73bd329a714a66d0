"""How uncertain a network is of a sample, by its own account: no labels are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from sartor.errors import check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked

ENDS = ("highest", "lowest")


def least_confidence(logits: Float32[Tensor, "b c"]) -> Float32[Tensor, "b"]:
    """Return 1 - the largest probability; higher is less certain (Lewis & Gale 1994).

    It is added up from the other classes, so that samples of which the network is almost sure still differ.
    """
    others = _others(logits).sum(1)
    return others / (1 + others)


def margin(logits: Float32[Tensor, "b c"]) -> Float32[Tensor, "b"]:
    """Return the largest probability minus the second largest; lower is less certain (Scheffer et al. 2001)."""
    others = _others(logits)
    return (1 - others.amax(1)) / (1 + others.sum(1))


def entropy(logits: Float32[Tensor, "b c"]) -> Float32[Tensor, "b"]:
    """Return the entropy of the prediction in nats, at most log c; higher is less certain (Shannon 1948)."""
    shares, below = _others(logits), logits.amax(1, keepdim=True) - logits
    total = shares.sum(1)
    return total.log1p() + torch.where(shares > 0, shares * below, 0).sum(1) / (1 + total)


def _others(logits: Float32[Tensor, "b c"]) -> Float32[Tensor, "b c"]:
    """Return each probability divided by the largest one, which itself is left out (0)."""
    top = logits.max(1, keepdim=True)
    return (logits - top.values).exp().scatter(1, top.indices, 0.0)


class Uncertain(Ranked):
    """What the three have in common: they read the logits, a block at a time; of equal samples some are drawn."""

    by_lot = True
    parts = frozenset({"logits"})

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a softmax and a sum for each sample, 2 per multiply-add."""
        return 4.0 * n * classes


@SELECTORS.register("least-confidence")
@dataclass(frozen=True)
class LeastConfidence(Uncertain):
    """The samples whose most probable class is least probable (or most, with keep=lowest); needs no labels.

    `balanced` ranks within each class, for which it needs them.
    """

    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ENDS)

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return 1 - the largest probability; higher is less certain."""
        return torch.cat([least_confidence(scan.logits_of(block)) for block in scan.blocks()])


@SELECTORS.register("margin")
@dataclass(frozen=True)
class Margin(Uncertain):
    """The samples whose two most probable classes are nearest to each other (or farthest, with keep=highest).

    Needs no labels, unless `balanced`, which ranks within each class.
    """

    hardest: ClassVar[str] = "lowest"

    keep: str = "lowest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ENDS)

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the largest probability minus the second largest; lower is less certain."""
        return torch.cat([margin(scan.logits_of(block)) for block in scan.blocks()])


@SELECTORS.register("entropy")
@dataclass(frozen=True)
class Entropy(Uncertain):
    """The samples whose prediction has the highest (or lowest) entropy; needs no labels, unless `balanced`.

    `balanced` ranks within each class.
    """

    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ENDS)

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the entropy of the prediction in nats; higher is less certain."""
        return torch.cat([entropy(scan.logits_of(block)) for block in scan.blocks()])
