"""Scores read from one look at the network and the labels: EL2N and the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from sartor.errors import ConfigError, check_choice, check_range
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


def nearness_to_median(scores: Float[Tensor, "n"], groups: Int64[Tensor, "n"] | None = None) -> Float[Tensor, "n"]:
    """Return minus the distance of each score's rank to the middle rank, of all or of its group; ties go by place."""
    order = scores.argsort(stable=True)
    near = torch.empty(len(scores), dtype=torch.float64, device=scores.device)
    for group in [None] if groups is None else groups.unique().tolist():
        members = order if group is None or groups is None else order[groups[order] == group]
        places = torch.arange(len(members), dtype=torch.float64, device=scores.device)
        near[members] = -(2 * places + 1 - len(members)).abs()
    return near


@SELECTORS.register("el2n")
@dataclass(frozen=True)
class EL2N(Ranked):
    """The samples with the highest (hardest) or lowest error norm (Paul et al. 2021), without weights.

    `keep="middle"` keeps those around the median. `keep="switch"` keeps the highest while progress < `switch_at` and
    the lowest from then on, as SWaST does at 1/2. `members` is the number of snapshots over which the score is
    averaged; 0 takes the network as it is. `balanced` ranks within each class. Without it, hardest-first can leave
    classes out and collects wrong labels.
    Differs: Paul et al. average over ten networks of their own early in training; SWaST takes one as it is.
    """

    keep: str = "highest"
    balanced: bool = False
    members: int = 0
    switch_at: float = 0.5

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, ("highest", "lowest", "middle", "switch"))
        check_range("switch_at", self.switch_at, 0, 1)
        if self.keep != "switch" and self.switch_at != EL2N.switch_at:
            raise ConfigError(f"switch_at has no effect with keep={self.keep}; leave it out, or keep=switch.")
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
        return scan.progress < self.switch_at if self.keep == "switch" else self.keep != "lowest"

    def ranked(self, scan: Scan, scores: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Return what is ranked: the scores, or how near they are to the median of all, or of their class."""
        if self.keep != "middle":
            return scores
        return nearness_to_median(scores, scan.targets if self.balanced else None)

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
