"""What a recipe will cost, before it is run: the same timetable, the same ledger rules, no training."""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.costs import Flops, count_flops, training_flops
from sartor.curvature import PROBE
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.precision import arithmetic, gains, pick_precision
from sartor.prune.base import needs_gradient
from sartor.prune.masks import Counts
from sartor.recipes.masking import PURPOSE, first_cost, first_masks, samples_read
from sartor.recipes.settling import MEASURING, TUNING, trials_of, tuning_epochs
from sartor.recipes.supplies import parts_scanned
from sartor.recipes.timetable import Looks, count_steps
from sartor.scanning import FORWARD_PARTS, scan
from sartor.scanning import forward as call
from sartor.teacher import PURPOSE as TEACHING
from sartor.types import Pruner

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe


@dataclass(frozen=True)
class Forecast:
    """Counts of a run to be: FLOPs by purpose (2 per multiply-add, masked ones theoretical), samples, steps.

    `trained` are samples passed forward and backward, `again` those of further passes of the same step, `scanned`
    forward only. Where they are `bounded`, sizes of epochs or densities of layers are settled while training: samples,
    steps and FLOPs are the most that there can be.
    """

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
    bounded: bool = False
    again: int = 0

    @property
    def flops(self) -> float:
        """All of them; monitoring is not counted."""
        return sum(self.flops_by_purpose.values())

    def seconds(self, per_sample: float) -> float:
        """Estimate the seconds, given those of one trained sample; a scanned one takes a third."""
        return per_sample * (self.trained + self.again + self.scanned / 3)


@dataclass(frozen=True)
class Price:
    """FLOPs of one sample: passed forward, trained on, and trained on where the pruner needs the dense gradient."""

    forward: float
    step: float
    dense_step: float


@dataclass
class Tally:
    """What has been added up so far; a purpose without FLOPs is not named."""

    flops: dict[str, float] = field(default_factory=dict)
    trained: int = 0
    scanned: int = 0

    def charge(self, purpose: str, flops: float, *, trained: int = 0, scanned: int = 0) -> None:
        """Add to what `purpose` costs, and to the samples."""
        if flops:
            self.flops[purpose] = self.flops.get(purpose, 0.0) + flops
        self.trained += trained
        self.scanned += scanned

    def charge_looks(self, looks: Looks, now: Price, earlier: Iterable[float], n: int) -> None:
        """Add what a selection looks at, at the prices of the network as it is and of n samples by `earlier` ones."""
        self.charge("select", looks.forward * now.forward, scanned=looks.forward)
        self.charge("select", looks.backward * now.dense_step, trained=looks.backward)
        self.charge("select", looks.curved * PROBE * now.step, trained=looks.curved)
        for flops in earlier:
            self.charge("select", flops, scanned=n)
        self.charge("preserve", looks.subset * now.forward, scanned=looks.subset)


UNMASKED = Counts({}, {}, {})
"""Where nothing is masked."""


def mask_counts(recipe: Recipe, model: nn.Module, pool: Callable[[], Pool] | None = None) -> Counts:
    """Return how many weights the recipe's masks keep; `pool` makes the training pool, for a pruner that reads samples.

    Where layers share a budget by their weights (`distribution=global`), the layers' shares are those of this model.
    """
    pruner = recipe.make_pruner()
    if pruner is None:
        return UNMASKED
    read = pool() if samples_read(pruner) and pool is not None else None
    return first_masks(recipe, pruner, copy.deepcopy(model), read).counts


def price_list(flops: Flops, counts: Counts, pruner: Pruner | None, total_steps: int) -> Callable[[int], Price]:
    """Return a function from a step to the price after its update; -1 is before the first step."""

    def price(kept: Mapping[str, int]) -> Price:
        densities = counts.densities(kept)
        plain = training_flops(flops, densities)
        return Price(flops.masked(densities), plain, training_flops(flops, densities, dense_gradient=True))

    reached = getattr(pruner, "reached", None)
    if reached is None:
        always = price(counts.kept)
        return lambda step: always
    at_share = functools.cache(lambda share: price(counts.reached(share)))
    return lambda step: at_share(reached(step, total_steps))


Choosing = Callable[[int, int], float]
"""The FLOPs of a selector's own arithmetic when it chooses k of n samples."""


def nothing(n: int, k: int) -> float:
    """Count no FLOPs for choosing k of n samples."""
    return 0.0


def selector_arithmetic(recipe: Recipe, model: nn.Module, pool: Pool) -> Choosing:
    """Return how to count the own arithmetic of what chooses samples; one sample of the pool is passed through."""
    made = [getattr(recipe, name)() for name in ("make_selector", "make_sampler") if hasattr(recipe, name)]
    selector = next((one for one in made if one is not None), None)
    count = getattr(selector, "arithmetic", None)
    if selector is None or count is None:
        return nothing
    needs = parts_scanned(selector) & FORWARD_PARTS | ({"logits"} if "members" in selector.needs else frozenset())
    first, head = pool.only(pool.rows[:1]), getattr(recipe, "head", None) or getattr(selector, "head", None)
    seen = scan(model, first, needs=needs, head=head, precision=recipe.scoring)
    classes = seen.logits.shape[1] if seen.has("logits") else pool.classes or 0
    features = seen.features.shape[1] if seen.has("features") else 0
    return partial(count, classes=classes, features=features)


def forecast(
    recipe: Recipe,
    n: int,
    flops: Flops,
    counts: Counts = UNMASKED,
    *,
    choosing: Choosing = nothing,
    parameters: int = 0,
    held: int = 0,
) -> Forecast:
    """Add up what a recipe does on a training pool of n samples and `held` held-out ones; `counts`: of its masks.

    Equals the ledger of the run; where it is `bounded`, it is the most that this can be. Training under settled masks
    counts as if nothing were settled: which layers have how many of the weights is not known before.
    """
    slots, recording = recipe.timetable(n), recipe.recording
    total_steps, pruner = count_steps(slots, recipe.batch_size), recipe.make_pruner()
    passes, needs_dense = (1, False) if pruner is None else (pruner.passes, needs_gradient(pruner))
    prices = price_list(flops, counts, pruner, total_steps)
    tally, started, now = Tally(), False, prices(-1)
    ends: list[float] = []  # of a forward pass, at the ends of the epochs that have trained
    step = moved = again = 0
    passed, first = first_cost(pruner, flops, n)
    tally.charge(PURPOSE, first, trained=passed)
    lessons = recipe.lessons(n)
    tally.charge("teacher", lessons.trained * training_flops(flops, {}), trained=lessons.trained)
    for slot in slots:
        started = started or slot.draws
        if slot.draws:
            looks = recipe.looks(n, held=held, size=slot.size, done=len(ends))
            tally.charge_looks(looks, now, [n * end for end in ends[-1 - looks.earlier : -1]], n)
            tally.charge("select", choosing(n, slot.size))
        purpose = recipe.purpose_of(slot, started)
        for size in even_sizes(slot.size, recipe.batch_size)[: slot.steps(recipe.batch_size)] if slot.size else []:
            moves = pruner is not None and pruner.moves(step, total_steps)
            tally.charge(purpose, size * passes * (now.dense_step if moves and needs_dense else now.step), trained=size)
            if lessons.asked:
                tally.charge(TEACHING, size * passes * flops.forward, scanned=size * passes)
            now = prices(step) if moves else now
            step, moved, again = step + 1, moved + moves, again + size * (passes - 1)
        if slot.size and recording == "epoch":
            tally.charge("record", n * now.forward, scanned=n)
        if slot.size:
            ends.append(now.forward)
    trials, more = trials_of(pruner), tuning_epochs(pruner)
    last = next(slot.size for slot in reversed(slots) if slot.size)
    tally.charge(MEASURING, trials * n * now.forward, scanned=trials * n)
    tally.charge(TUNING, more * last * now.step, trained=more * last)
    if lessons.asked:
        tally.charge(TEACHING, more * last * flops.forward, scanned=more * last)
    if recording == "epoch":
        tally.charge("record", more * n * now.forward, scanned=more * n)
    return Forecast(
        n=n,
        k=min(slot.size for slot in slots if slot.size),
        epochs=len(slots) + more,
        steps=total_steps + more * len(even_sizes(last, recipe.batch_size)),
        trained=tally.trained,
        scanned=tally.scanned,
        selections=sum(slot.draws for slot in slots),
        moves=moved,
        parameters=parameters,
        kept_weights=parameters - sum(counts.total.values()) + sum(counts.goal.values()),
        flops_by_purpose=tally.flops,
        bounded=recipe.bounded or more > 0,
        again=again,
    )


R = TypeVar("R", bound="Recipe")


def match_cost(
    recipe: Recipe,
    n: int,
    flops: Flops,
    counts: Counts,
    target: float,
    *,
    choosing: Choosing = nothing,
    held: int = 0,
) -> Recipe:
    """Return the recipe whose length brings its total FLOPs nearest to `target`.

    The length is what `recipe.lengthened` sets: epochs, or optimiser steps for all data without a pruner.
    Raises: ConfigError: when even the shortest run costs more than twice the target, or for a recipe whose cost is not
        known before it has run.
    """
    if recipe.bounded:
        raise unknown_cost(recipe)

    def cost(other: Recipe) -> float:
        return forecast(other, n, flops, counts, choosing=choosing, held=held).flops

    return nearest_length(recipe, cost, target)


def nearest_length(recipe: R, cost_of: Callable[[R], float], target: float) -> R:
    """Return the recipe with the length (`recipe.lengthened`) that brings its cost nearest to `target`.

    Raises: ConfigError: when even the shortest run costs more than twice the target.
    """

    def cost(length: int) -> float:
        return cost_of(recipe.lengthened(length))

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


def unknown_cost(recipe: Recipe) -> ConfigError:
    """Make the error of a recipe that cannot be matched."""
    return ConfigError(
        f"the cost of {getattr(recipe, 'sampler', recipe.name)} depends on the losses of the training and is not known "
        "before; compare it at equal epochs, where its FLOPs stand beside its accuracy."
    )


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
