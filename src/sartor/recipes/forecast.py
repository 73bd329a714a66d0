"""What a recipe will cost, before it is run: the same timetable, the same ledger rules, no training."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.costs import Flops, count_flops, training_flops
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.precision import arithmetic, gains, pick_precision
from sartor.randomness import generator
from sartor.recipes.timetable import count_steps
from sartor.scanning import FORWARD_PARTS, scan
from sartor.scanning import forward as call

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe


@dataclass(frozen=True)
class Forecast:
    """Counts of a run to be: FLOPs by purpose (2 per multiply-add, masked ones theoretical), samples, steps."""

    n: int
    k: int
    epochs: int
    steps: int
    trained: int
    scanned: int
    selections: int
    moves: int
    parameters: int
    kept_weights: int
    flops_by_purpose: dict[str, float]

    @property
    def flops(self) -> float:
        """All of them; monitoring is not counted."""
        return sum(self.flops_by_purpose.values())

    def seconds(self, per_sample: float) -> float:
        """Estimate the seconds, given those of one trained sample; a scanned one takes a third."""
        return per_sample * (self.trained + self.scanned / 3)


def mask_densities(recipe: Recipe, model: nn.Module) -> tuple[dict[str, float], int]:
    """Return the density of each masked parameter and the number of weights that masks remove."""
    pruner = recipe.make_pruner()
    if pruner is None:
        return {}, 0
    masks = pruner.init(copy.deepcopy(model), generator=generator(recipe.seed, "masks"))
    return masks.densities(), masks.total() - masks.kept()


Choosing = Callable[[int, int], float]
"""The FLOPs of a selector's own arithmetic when it chooses k of n samples."""


def nothing(n: int, k: int) -> float:
    """Count no FLOPs for choosing k of n samples."""
    return 0.0


def selector_arithmetic(recipe: Recipe, model: nn.Module, pool: Pool) -> Choosing:
    """Return how to count the own arithmetic of the recipe's selector; one sample of the pool is passed through."""
    make = getattr(recipe, "make_selector", None)
    selector = None if make is None else make()
    count = getattr(selector, "arithmetic", None)
    if selector is None or count is None:
        return nothing
    needs = selector.needs & FORWARD_PARTS
    first, head = pool.only(pool.rows[:1]), getattr(recipe, "head", None)
    seen = scan(model, first, needs=needs, head=head, precision=recipe.scoring)
    classes, features = (seen.parts[part].shape[1] if seen.has(part) else 0 for part in ("logits", "features"))
    return partial(count, classes=classes, features=features)


def forecast(
    recipe: Recipe,
    n: int,
    flops: Flops,
    densities: Mapping[str, float],
    *,
    choosing: Choosing = nothing,
    parameters: int = 0,
    removed: int = 0,
) -> Forecast:
    """Add up what a recipe does on a training pool of n samples; equals the ledger of the run."""
    slots = recipe.timetable(n)
    pruner = recipe.make_pruner()
    total_steps = count_steps(slots, recipe.batch_size)
    scans_all, scans_subset = recipe.selection_passes()
    forward = flops.masked(densities)
    passes = 1 if pruner is None else pruner.passes
    plain = passes * training_flops(flops, densities)
    dense = passes * training_flops(flops, densities, dense_gradient=True)
    costs: dict[str, float] = {}
    step = trained = scanned = moved = 0
    started = False
    for slot in slots:
        started = started or slot.draws
        if slot.draws and scans_all:
            costs["select"] = costs.get("select", 0.0) + n * forward
            scanned += n
        if slot.draws and (own := choosing(n, slot.size)):
            costs["select"] = costs.get("select", 0.0) + own
        if slot.draws and scans_subset:
            costs["preserve"] = costs.get("preserve", 0.0) + slot.size * forward
            scanned += slot.size
        purpose = recipe.purpose_of(slot, started)
        for size in even_sizes(slot.size, recipe.batch_size)[: slot.steps(recipe.batch_size)] if slot.size else []:
            moves = pruner is not None and pruner.moves(step, total_steps)
            costs[purpose] = costs.get(purpose, 0.0) + size * (dense if moves else plain)
            step += 1
            trained += size
            moved += moves
    return Forecast(
        n=n,
        k=min(slot.size for slot in slots if slot.size),
        epochs=len(slots),
        steps=total_steps,
        trained=trained,
        scanned=scanned,
        selections=sum(slot.draws for slot in slots),
        moves=moved,
        parameters=parameters,
        kept_weights=parameters - removed,
        flops_by_purpose=costs,
    )


def match_cost(
    recipe: Recipe,
    n: int,
    flops: Flops,
    densities: Mapping[str, float],
    target: float,
    *,
    choosing: Choosing = nothing,
) -> Recipe:
    """Return the recipe whose length brings its total FLOPs nearest to `target`.

    The length is what `recipe.lengthened` sets: epochs, or optimiser steps for all data without a pruner.
    Raises: ConfigError: when even the shortest run costs more than twice the target.
    """

    def cost(length: int) -> float:
        return forecast(recipe.lengthened(length), n, flops, densities, choosing=choosing).flops

    low = high = recipe.fewest_epochs
    if cost(low) > 2 * target:
        raise ConfigError(
            f"{recipe.name} cannot be run at {target:.3g} FLOPs: its shortest run costs {cost(low):.3g}. "
            "Match a dearer arm, or give that arm more epochs."
        )
    while cost(high) < target:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) < target else (low, middle)
    return recipe.lengthened(min((low, high), key=lambda length: abs(cost(length) - target)))


def seconds_per_sample(recipe: Recipe, model: nn.Module, pool: Pool, *, repeats: int = 5) -> float:
    """Time a few training batches (forward, backward, step) of a copy of the model on the CPU; return seconds a sample.

    Precision and memory layout are those of the recipe.
    """
    model = copy.deepcopy(model)
    rows = pool.rows[: recipe.batch_size]
    batch, targets = pool.gather(rows), pool.targets_of(rows)
    device = torch.device("cpu")
    precision = pick_precision(recipe.precision, device, gains(model, count_flops(model, pool.gather(rows[:1]))))
    if recipe.channels_last and isinstance(batch, Tensor) and batch.ndim == 4:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = batch.contiguous(memory_format=torch.channels_last)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        with arithmetic(precision, device):
            loss = F.cross_entropy(call(model, batch).float(), targets)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / len(rows)
