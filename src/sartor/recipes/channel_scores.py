"""What channels are worth by a few samples with labels, asked before the training: SNIP, GraSP, SynFlow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sartor.costs import Ledger, count_flops
from sartor.data.pool import Pool
from sartor.errors import PruningError
from sartor.prune.saliency import BySaliency
from sartor.recipes.masking import PURPOSE, samples_read
from sartor.registry import PRUNERS

SALIENCIES = {"snip": "snip", "grasp": "grasp", "synflow": "synflow(rounds=1)"}
"""Kinds of importance that read samples, and the pruners whose scores of single weights are summed by channel."""


def pruner_of(importance: str) -> BySaliency:
    """Make the pruner that scores the weights; channels leave at once, so SynFlow scores in one round."""
    pruner: BySaliency = PRUNERS.build(SALIENCIES[importance])
    return pruner


def channel_scores(
    importance: str, model: nn.Module, pool: Pool, *, generator: torch.Generator, ledger: Ledger
) -> dict[str, Tensor]:
    """Return a score of each weight of a network on the CPU, by parameter name; higher rather stays.

    As many samples of the pool as the pruner reads are drawn at random and read at once, without augmentation, under
    plain cross-entropy. Charged as `prune`. Raises: PruningError: for a sample without a label, or scores that cannot
    be had of this network.
    """
    pruner = pruner_of(importance)
    rows = pool.rows[torch.randperm(len(pool), generator=generator)[: samples_read(pruner)]]
    targets = pool.targets_of(rows)
    if bool((targets < 0).any()):
        raise PruningError(f"importance {importance} reads labels, but some samples have none; keep labelled ones.")
    with ledger.timed(PURPOSE):
        found = pruner.scores(model, generator=generator, batches=[(pool.gather(rows, device="cpu"), targets)])
    passed, flops = scoring_cost(importance, count_flops(model, pool.gather(rows[:1])).forward, len(pool))
    ledger.charge(PURPOSE, trained=passed, flops=flops)
    return found


def scoring_cost(importance: str, forward: float, n: int) -> tuple[int, float]:
    """Return the samples, out of n, that an importance passes forward and backward, and the FLOPs of that.

    `forward` are those of a forward pass of one sample. A sample counts once in each pass.
    """
    if importance not in SALIENCIES:
        return 0, 0.0
    pruner = pruner_of(importance)
    passed = min(n, samples_read(pruner)) * int(getattr(pruner, "init_passes", 1))
    return passed, 3.0 * passed * forward


def told_labels(pool: Pool) -> Pool:
    """Return a pool in which samples that have no label yet are of class 0: enough to try what reads labels."""
    targets = torch.zeros(len(pool.ids), dtype=torch.int64) if pool.targets is None else pool.targets.clamp(min=0)
    return pool.relabelled(targets, pool.noise)
