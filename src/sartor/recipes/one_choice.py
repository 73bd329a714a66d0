"""A choice at the end of a training, by the network that was trained for it, and what it may lack."""

from __future__ import annotations

from typing import Any

from sartor.data.pool import Pool
from sartor.errors import SelectionError
from sartor.recipes.setup import Data
from sartor.recipes.supplies import Snapshots, look, members_of
from sartor.train import Trainer
from sartor.types import Selector, Subset


def choose_at_end(
    trainer: Trainer,
    selector: Selector,
    data: Data,
    ends: Snapshots | None,
    k: int,
    *,
    head: str | None,
    labelled: Pool | None = None,
) -> Subset:
    """Let a selector choose k of the training samples by the network as it is after its training; charged as `select`.

    `labelled` are samples that have labels, where those of the pool have none yet.
    """
    epoch = 0 if ends is None else max(ends.read)
    given: dict[str, Any] = {"epoch": epoch, "progress": 1.0, "head": head, "labelled": labelled}
    seen = look(trainer, selector, data, ends, also=frozenset(), **given)
    with trainer.ledger.timed("select"):
        subset = selector.select(seen, k, generator=trainer.run.generator("select"))
    trainer.ledger.charge("select", flops=subset.flops)
    return subset


def ending_in_choice(selector: Selector, spec: str, data: Data, k: int, head: str | None) -> dict[str, Any]:
    """Return what lets a stage choose k of the samples that it has trained on, and tell them as plain values."""
    source, count = members_of(selector)

    def then(trainer: Trainer, ends: Snapshots | None) -> dict[str, Any]:
        subset = choose_at_end(trainer, selector, data, ends, k, head=head)
        weights = subset.weights.tolist()
        return {"ids": data.train.ids_of(subset.rows), "weights": weights, "scale": subset.scale}

    return {
        "then": then,
        "snapshots": count if source == "snapshots" else 0,
        "about": {"selector": spec, "k": k, "head": head},
    }


def check_k(selector: Selector, spec: str, pool: Pool, k: int, fraction: float) -> None:
    """Raise SelectionError where k is too small for a sample of each class, if the selector needs one."""
    least, classes = getattr(selector, "least_per_class", 0), int((pool.class_counts() > 0).sum())
    if k < least * classes:
        raise SelectionError(
            f"fraction {fraction:g} of {len(pool)} samples is k = {k}, but {spec} needs {least} of each of the "
            f"{classes} classes; use a larger --fraction."
        )


def check_looks(selector: Selector, spec: str, epochs: int, option: str) -> None:
    """Raise SelectionError where the training before the choice has fewer epochs than a history needs."""
    least = getattr(selector, "least_visits", 1)
    if "history" in selector.needs and epochs < least:
        raise SelectionError(f"{spec} needs {least} looks at each sample, {option} is {epochs}; give as many.")
