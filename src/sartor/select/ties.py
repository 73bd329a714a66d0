"""Equal scores in random order, for scores of which many are equal."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Real
from torch import Tensor


def distinct_ranks(scores: Real[Tensor, "n"], *, generator: torch.Generator) -> Float64[Tensor, "n"]:
    """Return ranks from 0 (the lowest score), all different: equal scores are ranked at random. Time O(n log n).

    Where half of all samples share a score, ties by row would make a subset of the first rows: often the first classes.
    """
    shuffled = torch.randperm(len(scores), generator=generator)
    ranks = torch.empty(len(scores), dtype=torch.float64)
    ranks[shuffled[scores[shuffled].argsort(stable=True)]] = torch.arange(len(scores), dtype=torch.float64)
    return ranks
