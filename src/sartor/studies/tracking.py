"""Weights and samples dropped together: who held whom, and what comes back, read from what a run has left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.files import read_json
from sartor.per_sample import sample_gradients
from sartor.randomness import generator
from sartor.recipes.outcome import subset_file
from sartor.studies.replaying import masks_by_step, network_at

Layers = Mapping[str, Tensor]
"""A tensor for each masked parameter."""
KINDS = ("dead", "lean", "swapped masks", "swapped coresets")
"""How much weights that died lean on left-out samples: as they are, and over weights alike."""


@dataclass(frozen=True)
class Trail:
    """What a run whose masks, networks and coresets were kept has left in its folder; `pool` is what it trained on."""

    folder: Path
    pool: Pool

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """Its metrics."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text("utf-8").splitlines()]

    @cached_property
    def epochs(self) -> list[int]:
        """The epochs before which it selected."""
        return [int(line["epoch"]) for line in self.lines if line["kind"] == "selection"]

    @cached_property
    def steps(self) -> list[int]:
        """Optimiser steps before each epoch, and in all."""
        taken = [0]
        for line in self.lines:
            if line["kind"] == "epoch":
                taken.append(taken[-1] + int(line["steps"]))
        return taken

    @cached_property
    def moves(self) -> dict[int, dict[str, Tensor]]:
        """Its masks by the step from which they were in force."""
        return masks_by_step(self.folder)

    @cached_property
    def coresets(self) -> list[Int64[Tensor, "k"]]:
        """The rows of each coreset."""
        places = {name: row for row, name in enumerate(self.pool.ids)}
        chosen = [read_json(self.folder / subset_file(epoch))["ids"] for epoch in self.epochs]
        return [torch.tensor([places[name] for name in ids]) for ids in chosen]

    def masks_before(self, step: int) -> Layers:
        """Return the masks as a step found them."""
        return self.moves[max(start for start in self.moves if start < max(1, step))]

    @cached_property
    def masks(self) -> list[Layers]:
        """The masks at each selection, and at the end."""
        return [self.masks_before(stop) for stop in self.bounds]

    @cached_property
    def bounds(self) -> list[int]:
        """The steps before each selection, and in all."""
        return [self.steps[epoch] for epoch in [*self.epochs, len(self.steps) - 1]]

    @cached_property
    def living(self) -> list[Layers]:
        """Which weights lived all the time from each selection to the next one, or to the end."""
        found: list[Layers] = []
        for start, stop in pairwise(self.bounds):
            first = max(step for step in self.moves if step < max(1, start))
            there = [masks for step, masks in self.moves.items() if first <= step < stop]
            found.append({name: torch.stack([masks[name] for masks in there]).all(0) for name in there[0]})
        return found


def lost(before: Layers, after: Layers) -> dict[str, Bool[Tensor, "..."]]:
    """Return which weights lived before and do not after."""
    return {name: mask & ~after[name] for name, mask in before.items()}


def supported(network: nn.Module, pool: Pool, rows: Int64[Tensor, "s"], names: Sequence[str]) -> dict[str, Tensor]:
    """Return, for each weight, the share of these samples that hold it up: a step on such a one makes |w| larger.

    That is where w and the sample's gradient have opposite signs; dead weights are held by none.
    """
    weights, total = dict(network.named_parameters()), {name: torch.zeros(()) for name in names}
    for gradients in sample_gradients(network, pool.gather(rows), pool.targets_of(rows)):
        for name in names:
            held = weights[name].detach() * gradients[name] < 0
            total[name] = total[name] + held.sum(0)
    return {name: count / len(rows) for name, count in total.items()}


def leaning(
    network: nn.Module,
    pool: Pool,
    coreset: Int64[Tensor, "k"],
    names: Sequence[str],
    *,
    probe: int,
    seed: int,
) -> dict[str, Float[Tensor, "..."]]:
    """Return how much more often samples that are left out hold a weight than those in the coreset do, in [-1, 1].

    Of either kind, `probe` samples are drawn by the seed.
    """
    rest = pool.rows[~torch.isin(pool.rows, coreset)]
    groups = []
    for number, rows in enumerate((rest, coreset)):
        order = torch.randperm(len(rows), generator=generator(seed, "probe", number))
        groups.append(supported(network, pool, rows[order[:probe]], names))
    return {name: groups[0][name] - groups[1][name] for name in names}


def excess(values: Layers, where: Layers, controls: Layers, weights: Layers) -> float | None:
    """Return the mean over marked places of a value minus that of the control of the same layer nearest in |weight|.

    A control can serve several times (matching with replacement, Abadie and Imbens 2006). Marked places of a layer
    without controls are left out; None where nothing is left.
    """
    found = []
    for name, mask in where.items():
        if mask.any() and controls[name].any():
            near = nearest(weights[name][mask].abs(), weights[name][controls[name]].abs())
            found.append(values[name][mask] - values[name][controls[name]][near])
    return float(torch.cat(found).double().mean()) if found else None


def nearest(points: Float[Tensor, "p"], among: Float[Tensor, "a"]) -> Int64[Tensor, "p"]:
    """Return for each point the place of the nearest of some numbers, the smaller of two equally near."""
    ordered, places = among.sort(stable=True)
    above = torch.searchsorted(ordered, points).clamp(max=len(ordered) - 1)
    below = (above - 1).clamp(min=0)
    return places[torch.where(points - ordered[below] <= ordered[above] - points, below, above)]


def losses_together(own: Trail, other: Trail, network: nn.Module, *, probe: int, seed: int) -> dict[str, float | None]:
    """Return by how much the weights that died between selections lean on left-out samples, in points of samples.

    `dead`: weights of this run that are dead at the next selection, as they are; `lean`: the same, minus weights of the
    same layer and magnitude that lived all the time; `swapped masks`: that of weights that lived here and died in the
    other run, minus such that lived all the time in both; `swapped coresets`: that of this run's, with the other's
    coresets. Each is a mean over the intervals in which there are all four. `network` takes the run's weights.
    """
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number, epoch in enumerate(own.epochs):
        network.load_state_dict(network_at(own.folder, epoch))
        network.eval()
        (now, then), (theirs, after) = own.masks[number : number + 2], other.masks[number : number + 2]
        names, gone, gone_there = list(now), lost(now, then), lost(theirs, after)
        weights = {name: value.detach() for name, value in network.named_parameters() if name in now}
        lived = own.living[number]
        in_both = {name: mask & other.living[number][name] for name, mask in lived.items()}
        swapped = {name: mask & now[name] for name, mask in gone_there.items()}
        mine, foreign = (
            leaning(network, own.pool, trail.coresets[number], names, probe=probe, seed=seed) for trail in (own, other)
        )
        here = [
            mean_over(mine, gone),
            excess(mine, gone, lived, weights),
            excess(mine, swapped, in_both, weights),
            excess(foreign, gone, lived, weights),
        ]
        known = [100 * value for value in here if value is not None]
        if len(known) == len(KINDS):
            for kind, value in zip(KINDS, known, strict=True):
                found[kind].append(value)
    return {kind: fmean(values) if values else None for kind, values in found.items()}


def mean_over(values: Layers, where: Layers) -> float | None:
    """Return the mean of values over the places that are marked; None where none are."""
    found = torch.cat([values[name][mask] for name, mask in where.items()])
    return float(found.double().mean()) if len(found) else None


def returns(trail: Trail) -> dict[str, float | None]:
    """Return which percentage of dropped weights and left-out samples came back by the end, and after how many epochs.

    A weight is dropped by a move and a sample by a selection, as often as that happens; the epochs are the median of
    those that came back. What is dropped late has had less time to.
    """
    each = list(pairwise(trail.steps))
    moments = {step: sum(stop <= step for _, stop in each) + part(each, step) for step in trail.moves}
    masks = [torch.cat([mask.flatten() for mask in layers.values()]) for layers in trail.moves.values()]
    rows = trail.pool.rows
    chosen = [torch.isin(rows, coreset) for coreset in trail.coresets]
    everyone = [torch.ones(len(rows), dtype=torch.bool), *chosen]
    weights = waits(masks, list(moments.values()))
    samples = waits(everyone, [0.0, *(float(epoch) for epoch in trail.epochs)])
    found: dict[str, float | None] = {}
    for what, (count, back) in {"weights": weights, "samples": samples}.items():
        found[f"{what} back"] = 100 * len(back) / count if count else None
        found[f"{what} back after"] = median(back) if back else None
    return found


def part(each: Sequence[tuple[int, int]], step: int) -> float:
    """Return how far a step lies in its epoch, in [0, 1); `each` holds first and last steps."""
    return next(((step - start) / (stop - start) for start, stop in each if start <= step < stop), 0.0)


def waits(present: Sequence[Bool[Tensor, "m"]], moments: Sequence[float]) -> tuple[int, list[float]]:
    """Return how often something left, and how long each time took after which it was there again.

    `present` says who is there from each moment on.
    """
    left, back = 0, []
    since = torch.full(present[0].shape, -1.0, dtype=torch.float64)
    for (before, now), moment in zip(pairwise(present), moments[1:], strict=True):
        returned = now & ~before & (since >= 0)
        back += (moment - since[returned]).tolist()
        gone = before & ~now
        left += int(gone.sum())
        since[gone] = moment
    return left, back
