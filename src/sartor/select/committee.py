"""What several networks, or one network with its dropout on, disagree about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sartor.errors import SelectionError, check_choice, check_range
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked

VOTES = ("least-confidence", "entropy", "variation-ratio")


def entropy_of(probabilities: Float[Tensor, "b c"]) -> Float[Tensor, "b"]:
    """Return the entropy of distributions in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities).sum(1)


def mutual_information(members: Float32[Tensor, "m b c"]) -> Float32[Tensor, "b"]:
    """Return H(mean of the members' predictions) - mean of their H, in [0, log m]; higher is less agreed on.

    Both means are taken of differences from the first member, in float64: 0 where all are equal, and the digits of
    small disagreements are there.
    Source: Houlsby et al. 2011, Eq. 2; Gal et al. 2017, Eq. 4.
    """
    first = members[0].double()
    mean, apart, own = torch.zeros_like(first), torch.zeros(len(first), dtype=torch.float64), entropy_of(first)
    for member in members[1:].unbind():
        mean += (member - first) / len(members)
        apart += (entropy_of(member.double()) - own) / len(members)
    return (entropy_of(first + mean) - own - apart).clamp(min=0).float()


def variation_ratio(members: Float32[Tensor, "m b c"]) -> Float32[Tensor, "b"]:
    """Return the share of members that do not vote for the class with most votes; higher is less agreed on."""
    votes = torch.zeros(members.shape[1:]).index_put_(
        (torch.arange(members.shape[1]).repeat(len(members)), members.argmax(2).flatten()),
        torch.ones(members.shape[0] * members.shape[1]),
        accumulate=True,
    )
    return 1 - votes.amax(1) / len(members)


def predictions(scan: Scan, block: slice) -> Float32[Tensor, "m b c"]:
    """Return what each member of a scan predicts for a block.

    Raises: SelectionError: for members that tell of different numbers of classes.
    """
    widths = sorted({member.logits.shape[1] for member in scan.members})
    if len(widths) > 1:
        raise SelectionError(
            f"the members of the scan have {' and '.join(map(str, widths))} classes; take networks for the same ones."
        )
    return torch.stack([member.probabilities(block) for member in scan.members])


class Committee(Ranked):
    """What both have in common: they read the members; of equal samples some are drawn."""

    by_lot = True
    parts = frozenset({"members"})
    members_count: int

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a softmax and an entropy for each member and sample, 2 per multiply-add."""
        return 4.0 * n * classes * self.members_count


@SELECTORS.register("bald")
@dataclass(frozen=True)
class BALD(Committee):
    """The samples about which members disagree although each is sure (Houlsby et al. 2011): mutual information.

    Members are `passes` of the network with its dropout on (Gal et al. 2017), or any that the scan is given. Needs no
    labels, unless `balanced`, which ranks within each class. `keep="lowest"` takes what all agree on.
    Differs: PruneFuse says nothing of its passes; 2 would match its cost, 10 is the default here.
    """

    passes: int = 10
    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_range("passes", self.passes, 2, float("inf"), high_open=True)
        check_choice("keep", self.keep, ("highest", "lowest"))

    @property
    def members_from(self) -> str:
        """Where members come from."""
        return "dropout"

    @property
    def members_count(self) -> int:  # type: ignore[override]
        """How many of them."""
        return self.passes

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the mutual information of prediction and member in nats; higher is less agreed on.

        Raises: SelectionError: for a single member, which agrees with itself about everything.
        """
        if len(scan.members) < 2:
            raise SelectionError("the scan has 1 member, which disagrees with nobody; give 2 or more.")
        return torch.cat([mutual_information(predictions(scan, block)) for block in scan.blocks(4096)])


@SELECTORS.register("alse")
@dataclass(frozen=True)
class ALSE(Committee):
    """The samples of which the mean of several snapshots of one training is least certain (Jung et al. 2023).

    Members are the network at the end of the last `snapshots` epochs, or any that the scan is given. `score`:
    "least-confidence" or "entropy" of the averaged softmax, as PruneFuse has it (Table 31), or "variation-ratio", the
    share of snapshots that vote against the majority, as the authors have it (of equal ones at the border a random
    choice is made, for most samples have 0). Needs no labels, unless `balanced`.
    Differs: the authors take snapshots of a long training at constant learning rate, equally spaced in its later half.
    """

    score: str = "least-confidence"
    snapshots: int = 5
    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("score", self.score, VOTES)
        check_range("snapshots", self.snapshots, 2, float("inf"), high_open=True)
        check_choice("keep", self.keep, ("highest", "lowest"))

    @property
    def members_from(self) -> str:
        """Where members come from."""
        return "snapshots"

    @property
    def members_count(self) -> int:  # type: ignore[override]
        """How many of them."""
        return self.snapshots

    @property
    def coarse(self) -> bool:
        """Only shares of votes are: there are no more of them than snapshots."""
        return self.score == "variation-ratio"

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the uncertainty of the members together; higher is less certain."""
        return torch.cat([self._uncertainty(predictions(scan, block)) for block in scan.blocks(4096)])

    def _uncertainty(self, members: Float32[Tensor, "m b c"]) -> Float32[Tensor, "b"]:
        if self.score == "variation-ratio":
            return variation_ratio(members)
        mean = members.mean(0)
        if self.score == "entropy":
            return entropy_of(mean)
        return mean.scatter(1, mean.argmax(1, keepdim=True), 0.0).sum(1)  # 1 - the largest, with all of its digits
