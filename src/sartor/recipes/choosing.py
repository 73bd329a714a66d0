"""Choosing a coreset outside of a training."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.costs import Ledger
from sartor.errors import SelectionError, check_range
from sartor.randomness import generator
from sartor.ranking import size_of
from sartor.recipes.sources import Heard, Source
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.types import Selector, Subset


@dataclass(frozen=True, eq=False)
class Choice:
    """A coreset and what it was chosen from; tensors are in the order of `rows`, all those that could be chosen.

    `scores` are those by which the selector ranks; `losses` the network's cross-entropy; None where there are none.
    """

    spec: str
    selector: Selector
    seed: int
    source: Source
    subset: Subset
    rows: Tensor
    targets: Tensor | None
    scores: Tensor | None
    losses: Tensor | None
    ledger: Ledger

    @functools.cached_property
    def chosen(self) -> Tensor:
        """Which of the rows are in the coreset."""
        return torch.isin(self.rows, self.subset.rows)

    @property
    def options(self) -> dict[str, Any]:
        """The selector's options, defaults included."""
        told = dataclasses.is_dataclass(self.selector) and not isinstance(self.selector, type)
        return dataclasses.asdict(self.selector) if told else {}  # type: ignore[call-overload]

    @property
    def effective(self) -> float:
        """Number of equally weighted samples of the same variance, (sum w)^2 / sum w^2 (Kish 1965)."""
        weights = self.subset.weights.double()
        return float(weights.sum() ** 2 / weights.square().sum())

    @property
    def wrong(self) -> Tensor | None:
        """Which labels were made wrong on purpose; None where none were."""
        noise = None if self.source.pool is None else self.source.pool.noise
        return None if noise is None else noise.flags[self.rows]


def choose(spec: str, source: Source, *, k: int | None, fraction: float | None, seed: int, heard: Heard) -> Choice:
    """Choose k samples, or a share of all, by the selector that `spec` names.

    Raises: SelectionError: where the source lacks what the selector needs, or k is out of reach.
    """
    selector, n = SELECTORS.build(spec), len(source.ids)
    k = wanted(n, k, fraction)
    for part in sorted(selector.needs):
        reason = source.lacks(part, selector)
        if reason is not None:
            raise SelectionError(f"{spec} needs {part}, which {reason}.")
    check_classes(spec, selector, source, k)
    ledger = Ledger()
    seen = source.scan(selector, ledger, seed, heard)
    with ledger.timed("select"):
        subset = selector.select(seen, k, generator=generator(seed, "select"))
    ledger.charge("select", flops=subset.flops)
    scores = selector.scores(seen).detach().cpu().double() if hasattr(selector, "scores") else None
    targets = seen.targets if seen.has("targets") else None
    losses = losses_of(seen) if targets is not None and seen.has("logits") else None
    return Choice(spec, selector, seed, source, subset, seen.rows, targets, scores, losses, ledger)


def wanted(n: int, k: int | None, fraction: float | None) -> int:
    """Return how many samples to choose out of n. Raises: SelectionError: for none, or more than there are."""
    if fraction is not None:
        check_range("fraction", fraction, 0, 1, low_open=True)
        k = size_of(fraction, n)
    assert k is not None
    if not 1 <= k <= n:
        found = f"k is {k}" if fraction is None else f"fraction {fraction:g} of {n} samples is k = {k}"
        raise SelectionError(f"{found}; it must lie in [1, {n}], the number of samples to choose from.")
    return k


def check_classes(spec: str, selector: Selector, source: Source, k: int) -> None:
    """Raise SelectionError, before the network is run, where k is too small for a sample of each class."""
    least = getattr(selector, "least_per_class", 0)
    if least and source.pool is not None and source.pool.classes is not None:
        classes = int((source.pool.class_counts() > 0).sum())
        if k < least * classes:
            raise SelectionError(
                f"k is {k}, but {spec} needs {least} of each of the {classes} classes; choose k >= {least * classes}."
            )


def losses_of(seen: Scan) -> Tensor:
    """Return the cross-entropy of each sample's label, worked out block by block."""
    blocks = seen.blocks()
    return torch.cat([F.cross_entropy(seen.logits_of(b), seen.targets[b], reduction="none") for b in blocks]).double()
