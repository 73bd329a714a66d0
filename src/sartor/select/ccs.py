"""CCS: samples of every difficulty, but for the hardest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError, check_range
from sartor.ranking import size_of
from sartor.registry import SELECTORS, parse
from sartor.seen import Scan, as_rows, few
from sartor.select.budget import check_budget, draw, members_by_class, share_out
from sartor.select.ties import distinct_ranks
from sartor.types import Subset


def equal_widths(scores: Float[Tensor, "n"], strata: int) -> Int64[Tensor, "n"]:
    """Return each score's stratum, 0 the lowest, of `strata` that cut the range from least to largest evenly.

    Equal scores are one stratum, whatever their sign.
    """
    scores = scores.double()
    low, high = scores.min(), scores.max()
    if low == high:
        return torch.zeros(len(scores), dtype=torch.int64)
    return ((scores - low) * strata / (high - low)).long().clamp(max=strata - 1)


def stratum_budgets(sizes: Int64[Tensor, "s"], k: int, strata: int) -> Int64[Tensor, "s"]:
    """Share k <= sum(sizes) among strata, the smallest first: each gets min(size, what is left / strata left).

    `strata` counts the empty ones too, which are the smallest. The sum is exactly k (Zheng et al. 2023, Alg. 1).
    """
    budgets, left = torch.zeros_like(sizes), k
    for place, stratum in enumerate(sizes.argsort(stable=True).tolist(), start=strata - len(sizes)):
        budgets[stratum] = min(int(sizes[stratum]), left // (strata - place))
        left -= int(budgets[stratum])
    return budgets


def scorer(spec: str) -> Any:
    """Make the selector whose `scores` are used; its `hardest` says which end of them, "highest" or "lowest", is hard.

    Raises: ConfigError: for a selector that does not have both, or an option of it that changes no score.
    """
    name, options = parse(spec)
    found = SELECTORS.build(spec)
    if not hasattr(found, "hardest") or not hasattr(found, "scores"):
        known = [entry for entry in SELECTORS if hasattr(SELECTORS[entry], "hardest")]
        raise ConfigError(f"score is {spec!r}, which does not rank samples by difficulty; use {', '.join(known)}.")
    idle = [option for option in ("keep", "balanced") if option in options]
    if idle:
        raise ConfigError(f"{idle[0]} of {name} has no effect on its scores; leave it out of score={spec!r}.")
    return found


@SELECTORS.register("ccs")
@dataclass(frozen=True)
class CCS:
    """Coverage-centric selection (Zheng et al. 2023, Alg. 1): the hardest are dropped, the rest covered evenly.

    Of all samples the share `beta` with the hardest `score` is dropped, but never more than k leaves over. The range of
    the other scores is cut into `strata` of equal width, k shared among them, the smallest first, and drawn at random
    inside. `score` is the name of a selector that ranks by difficulty. `balanced` does all of this within each class.
    No weights.
    """

    score: str = "aum"
    beta: float = 0.3
    strata: int = 50
    balanced: bool = False

    def __post_init__(self) -> None:
        scorer(self.score)
        check_range("beta", self.beta, 0, 1, high_open=True)
        check_range("strata", self.strata, 1, float("inf"), high_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """What the score needs, and the targets where classes keep their shares."""
        needed: frozenset[str] = scorer(self.score).needs
        return needed | ({"targets"} if self.balanced else set())

    def __getattr__(self, name: str) -> Any:
        """Pass on what the score asks of the network and its members."""
        if name in ("needs_linear_head", "members_from", "members_count", "least_visits"):
            return getattr(scorer(self.score), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows. Raises: SelectionError: for a k out of reach, scores that are not finite, or by the score."""
        check_budget(scan, k)
        ranking = scorer(self.score)
        scores = ranking.scores(scan)
        bad = ~scores.isfinite()
        if bool(bad.any()):
            found = few(as_rows(scan.rows[bad]))
            raise SelectionError(f"the {self.score} scores of {found} are not finite; strata need finite ones.")
        ranks = distinct_ranks(scores if ranking.hardest == "highest" else -scores, generator=generator)

        def cover(members: Tensor, budget: int) -> Tensor:
            return members[self._cover(scores[members], ranks[members], budget, generator)]

        chosen = share_out(scan.targets, k, cover) if self.balanced else cover(torch.arange(len(scan)), k)
        features = scan.features.shape[1] if "features" in ranking.needs else 0
        classes = scan.classes if ranking.needs & {"logits", "members"} else 0
        flops = self.arithmetic(len(scan), k, classes=classes, features=features)
        return Subset.of(scan.rows[chosen], flops=flops)

    def _cover(
        self, scores: Float[Tensor, "m"], hardness: Float[Tensor, "m"], k: int, generator: torch.Generator
    ) -> Int64[Tensor, "k"]:
        """Return the positions of k samples out of those that are left when the hardest are dropped."""
        dropped = min(size_of(self.beta, len(scores)), len(scores) - max(k, 1))
        kept = hardness.argsort()[: len(scores) - dropped].sort().values
        strata = list(members_by_class(equal_widths(scores[kept], self.strata)).values())
        budgets = stratum_budgets(torch.tensor([len(stratum) for stratum in strata]), k, self.strata)
        return torch.cat([draw(kept[stratum], b, generator=generator) for stratum, b in zip(strata, budgets.tolist())])

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the scores and of their place in the range, 2 per multiply-add."""
        score: float = scorer(self.score).arithmetic(n, k, classes=classes, features=features)
        return score + 2.0 * n
