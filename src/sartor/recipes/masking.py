"""The first masks of a run: drawn, or asked of a few samples of the training pool, which is charged."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.costs import Flops, training_flops
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.prune.masks import Masks
from sartor.randomness import generator
from sartor.types import Inputs, Pruner

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe

PURPOSE = "prune"
"""The ledger's purpose for samples that a pruner reads before the first step."""


def first_masks(recipe: Recipe, pruner: Pruner, model: nn.Module, pool: Pool | None) -> Masks:
    """Make a pruner's first masks on `model` itself; `pool` is what the run trains on, if the pruner reads samples.

    Samples are drawn by the recipe's seed, read without augmentation and cut into even mini-batches.
    """
    given: dict[str, Any] = {}
    if samples_read(pruner):
        assert pool is not None
        rows = torch.randperm(len(pool), generator=generator(recipe.seed, PURPOSE))[: samples_read(pruner)]
        given["batches"] = mini_batches(pool, pool.rows[rows], recipe.batch_size, next(model.parameters()).device)
        given["loss"] = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    return pruner.init(model, generator=generator(recipe.seed, "masks"), **given)


def mini_batches(pool: Pool, rows: Tensor, batch_size: int, device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield inputs and targets of rows, in their order."""
    for part in rows.split(even_sizes(len(rows), batch_size)):
        yield pool.gather(part, device=device), pool.targets_of(part).to(device)


def check_masks(recipe: Recipe, pruner: Pruner, model: nn.Module) -> None:
    """Refuse what making the first masks would refuse; the model stays as it is, and no sample is read."""
    if not samples_read(pruner):
        first_masks(recipe, pruner, copy.deepcopy(model), None)
    elif hasattr(pruner, "check"):
        pruner.check(model)


def samples_read(pruner: Pruner) -> int:
    """Return how many samples the pruner reads before the first step, if there are so many."""
    return int(getattr(pruner, "init_samples", 0))


def first_cost(pruner: Pruner | None, flops: Flops, n: int) -> tuple[int, float]:
    """Return the samples that making the first masks passes forward and backward, out of n, and the FLOPs of that.

    A sample counts once in each pass. All passes are charged as dense ones.
    """
    if pruner is None or not samples_read(pruner):
        return 0, 0.0
    passed = min(n, samples_read(pruner)) * int(getattr(pruner, "init_passes", 1))
    return passed, passed * training_flops(flops, {})
