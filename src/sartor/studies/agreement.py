"""How alike two networks rank the samples that could be labelled, and how many both would choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from sartor.randomness import generator
from sartor.ranking import size_of
from sartor.seen import Scan
from sartor.types import Selector


@dataclass(frozen=True, eq=False)
class Ranking:
    """What an acquisition makes of a network: its scores, if it has such, and its choices by their share of all."""

    scores: Float[Tensor, "n"] | None
    chosen: Mapping[float, Int64[Tensor, "k"]]


def ranking(selector: Selector, seen: Scan, shares: Sequence[float], seed: int) -> Ranking:
    """Score all samples and choose each share of them; whatever is drawn depends on the seed alone."""
    scores = selector.scores(seen).double() if hasattr(selector, "scores") else None
    sizes = {share: size_of(share, len(seen.rows)) for share in shares}
    chosen = {
        share: selector.select(seen, k, generator=generator(seed, "select")).rows for share, k in sizes.items() if k
    }
    return Ranking(scores, chosen)


def agreement(one: Ranking, other: Ranking) -> dict[str, float]:
    """Return Spearman's rho and Kendall's tau-b, in [-1, 1], and in [0, 1] the share of each choice that both make.

    A network that gives all samples one score agrees with none: 0.
    """
    found: dict[str, float] = {}
    if one.scores is not None and other.scores is not None:
        for name, measure in (("spearman", spearmanr), ("kendall", kendalltau)):
            flat = any(bool((scores == scores[0]).all()) for scores in (one.scores, other.scores))
            found[name] = 0.0 if flat else float(measure(one.scores.numpy(), other.scores.numpy()).statistic)
    for share, rows in one.chosen.items():
        found[overlap(share)] = float(torch.isin(rows, other.chosen[share]).double().mean())
    return found


def overlap(share: float) -> str:
    """Name the agreement of two choices of a share of all samples; by chance it is that share."""
    return f"overlap at {100 * share:g} %"
