"""Scores read from one look at the network and the labels: EL2N and the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from sartor.errors import check_choice, check_range
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked


def el2n(errors: Float[Tensor, "b c"]) -> Float[Tensor, "b"]:
    """EL2N: the Euclidean norm of softmax - onehot, in [0, sqrt(2)]; higher is harder (Paul et al. 2021, Def. 2.1)."""
    return errors.norm(dim=1)


def losses(logits: Float32[Tensor, "b c"], targets: Int64[Tensor, "b"]) -> Float32[Tensor, "b"]:
    """Return the cross-entropy in nats; higher is harder. Losses near 0 keep their digits: they are log(1 + small)."""
    others = (logits - logits.gather(1, targets[:, None])).scatter(1, targets[:, None], -torch.inf)
    rest = others.logsumexp(1)
    return torch.where(rest < 0, rest.exp().log1p(), F.softplus(rest))


@SELECTORS.register("el2n")
@dataclass(frozen=True)
class EL2N(Ranked):
    """The samples with the highest (hardest) or lowest error norm (Paul et al. 2021), without weights.

    `keep="switch"` keeps the highest while progress < 1/2 and the lowest from then on, as SWaST does. `members` is the
    number of snapshots over which the score is averaged; 0 takes the network as it is. `balanced` ranks within each
    class. Without it, hardest-first can leave classes out and collects wrong labels.
    Differs: Paul et al. average over ten networks of their own early in training; SWaST takes one as it is.
    """

    keep: str = "highest"
    balanced: bool = False
    members: int = 0

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest", "switch"))
        check_range("members", self.members, 0, float("inf"), high_open=True)

    @property
    def members_from(self) -> str | None:
        """Where members come from: the network at the end of earlier epochs."""
        return "snapshots" if self.members else None

    @property
    def members_count(self) -> int:
        """How many of them."""
        return self.members

    @property
    def needs(self) -> frozenset[str]:
        """Logits (or members) and targets, and the progress where the end that is kept switches."""
        source = "members" if self.members else "logits"
        return frozenset({source, "targets"} | ({"progress"} if self.keep == "switch" else set()))

    @property
    def parts(self) -> frozenset[str]:  # type: ignore[override]
        """What the scores are read from."""
        return self.needs - {"progress"}

    def largest(self, scan: Scan) -> bool:
        """Tell whether the largest scores are kept, or the smallest."""
        return scan.progress < 0.5 if self.keep == "switch" else self.keep == "highest"

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return EL2N, the mean over the members if there are some; higher is harder."""
        if not self.members:
            return torch.cat([el2n(scan.errors(block)) for block in scan.blocks()])
        total = torch.zeros(len(scan))
        for member in scan.members:
            for block in scan.blocks():
                errors = member.probabilities(block)
                errors[torch.arange(len(errors)), scan.targets[block]] -= 1
                total[block] += el2n(errors)
        return total / len(scan.members)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the norms, 2 per multiply-add."""
        return 2.0 * n * classes * max(1, self.members)


@SELECTORS.register("loss")
@dataclass(frozen=True)
class Loss(Ranked):
    """The samples with the highest (hardest) or lowest cross-entropy of the network as it is, without weights.

    `balanced` ranks within each class. Like EL2N, the highest collect wrong labels.
    """

    parts = frozenset({"logits", "targets"})

    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest"))

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the cross-entropy in nats; higher is harder."""
        return torch.cat([losses(scan.logits_of(block), scan.targets[block]) for block in scan.blocks()])

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a softmax for each sample, 2 per multiply-add."""
        return 2.0 * n * classes
