"""The one place where recipes meet channel plans and fusion: a small network out of a dense one, and back into it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.prune.channels import ChannelPlan, plan
from sartor.prune.channels.choosing import SCOPES
from sartor.prune.channels.fusing import COMPLEMENTS, DISPERSIONS, disperse, fuse, reestimate_statistics
from sartor.prune.channels.importance import KINDS
from sartor.recipes.channel_scores import SALIENCIES, channel_scores, told_labels
from sartor.types import Inputs

IMPORTANCES = (*KINDS, *SALIENCIES)
__all__ = [
    "COMPLEMENTS",
    "DISPERSIONS",
    "IMPORTANCES",
    "KINDS",
    "SCOPES",
    "Cut",
    "cut",
    "dispersed",
    "estimate_statistics",
    "fused",
    "tried",
]


@dataclass(frozen=True, eq=False)
class Cut:
    """A dense network, the plan of what stays of it, and the small network; all on the CPU, from one draw."""

    dense: nn.Module
    plan: ChannelPlan
    small: nn.Module


def cut(
    dense: nn.Module,
    pool: Pool,
    sparsity: float,
    *,
    importance: str,
    scope: str,
    generator: torch.Generator,
    after: ChannelPlan | None = None,
    ledger: Ledger | None = None,
) -> Cut:
    """Cut channels out of a copy of a network; with `after`, the plan that left it, `sparsity` counts from before.

    An importance that reads samples draws them from the pool, whose samples need labels then, and is charged to
    `ledger`; where layers are compared, its sums are as they are, not over their means.
    """
    dense = copy.deepcopy(dense).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = pool.gather(pool.rows[:2], device="cpu")
    given: dict[str, Any] = {"importance": importance, "scope": scope, "after": after, "generator": generator}
    if importance in SALIENCIES:
        found = channel_scores(importance, dense, pool, generator=generator, ledger=ledger or Ledger())
        given |= {"importance": found, "normaliser": None if scope == "local" else "none"}
    made = plan(dense, example, sparsity, **given)
    return Cut(dense, made, made.shrink(dense))


def tried(
    dense: nn.Module, pool: Pool, sparsity: float, *, importance: str, scope: str, after: ChannelPlan | None = None
) -> Cut:
    """Cut an untrained network as a recipe will, for the counts and for what is refused; labels may be missing."""
    pool, generator = told_labels(pool), torch.Generator().manual_seed(0)
    return cut(dense, pool, sparsity, importance=importance, scope=scope, generator=generator, after=after)


def dispersed(made: Cut, dispersion: str, generator: torch.Generator) -> Cut:
    """Return the same with a plan that puts the small network's channels where fusion is to put them.

    Fused by that plan with dispersion none, and by the same generator, the network is what `fused` makes at once.
    """
    return replace(made, plan=disperse(made.plan, dispersion, generator=generator))


def fused(made: Cut, small: nn.Module, *, complement: str, dispersion: str, generator: torch.Generator) -> nn.Module:
    """Return the dense network with what the small one has learnt in its places, on the CPU."""
    return fuse(made.dense, small, made.plan, complement=complement, dispersion=dispersion, generator=generator)


def estimate_statistics(model: nn.Module, pool: Pool, batch_size: int) -> int:
    """Take the batch-norm statistics of a network anew from all samples of a pool; return how many those are."""
    device = next(model.parameters()).device

    def batches() -> Iterator[Inputs]:
        for rows in pool.rows.split(batch_size):
            yield pool.gather(rows, device=device)

    return reestimate_statistics(model, batches())
