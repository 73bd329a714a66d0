"""A choice at the end of a training, by the network that was trained for it, and what it may lack."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sartor.data.pool import Pool
from sartor.errors import SelectionError
from sartor.recipes.setup import Data
from sartor.recipes.supplies import Snapshots, look, members_of
from sartor.seen import Scan
from sartor.select.budget import draw
from sartor.train import Trainer
from sartor.types import Selector, Subset

SEEN, KNOWN = {"logits", "features", "members"}, {"targets", "history", "gradients", "gradient_norms"}
"""Parts of a scan that tell samples apart: by what the network makes of them, and by what else is known."""
ROUNDING = 1e-6
"""Share of the largest number of a row by which equal rows may differ: batches of other sizes round otherwise."""


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

    `labelled` are samples that have labels, where those of the pool have none yet. Where the network makes the same of
    all samples, they are drawn: a selector would take the first rows, often one class.
    """
    epoch = 0 if ends is None else max(ends.read)
    given: dict[str, Any] = {"epoch": epoch, "progress": 1.0, "head": head, "labelled": labelled}
    seen = look(trainer, selector, data, ends, also=frozenset(), **given)
    with trainer.ledger.timed("select"):
        subset = selector.select(seen, k, generator=trainer.run.generator("select"))
        if all_alike(seen, selector.needs):
            drawn = draw(seen.rows, k, generator=trainer.run.generator("select"))
            subset = Subset.of(drawn, flops=subset.flops)
    trainer.ledger.charge("select", flops=subset.flops)
    return subset


def all_alike(seen: Scan, needs: frozenset[str]) -> bool:
    """Tell whether a selector has nothing by which samples differ, but for rounding."""
    if not needs & SEEN or needs & KNOWN:
        return False
    tables = [seen.parts[name] for name in ("logits", "features") if name in needs]
    tables += [member.logits for member in seen.members] if "members" in needs else []
    return all(equal_rows(table) for table in tables)


def equal_rows(table: Tensor) -> bool:
    """Tell whether all rows are those of the first sample, but for rounding."""
    first = table[:1].float()
    room = ROUNDING * first.abs().max()
    return all(bool(((block.float() - first).abs() <= room).all()) for block in table.split(16384))


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
