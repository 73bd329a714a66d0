"""The one place where recipes meet channel plans and fusion: a small network out of a dense one, and back into it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.prune.channels import ChannelPlan, plan
from sartor.prune.channels.fusing import COMPLEMENTS, DISPERSIONS, fuse, reestimate_statistics
from sartor.prune.channels.importance import KINDS
from sartor.types import Inputs

SCOPES = ("local", "global")
__all__ = ["COMPLEMENTS", "DISPERSIONS", "KINDS", "SCOPES", "Cut", "cut", "estimate_statistics", "fused"]


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
) -> Cut:
    """Cut channels out of a copy of a network; with `after`, the plan that left it, `sparsity` counts from before."""
    dense = copy.deepcopy(dense).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = pool.gather(pool.rows[:2], device="cpu")
    made = plan(dense, example, sparsity, importance=importance, scope=scope, after=after, generator=generator)
    return Cut(dense, made, made.shrink(dense))


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
