"""What there is to tell of trainings in a row: accuracies, curves, and what the scores were like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from sartor.costs import MONITOR, Ledger, count_flops
from sartor.history import History
from sartor.losses import correct
from sartor.recipes.setup import Setting
from sartor.recipes.staged import Outcome
from sartor.scanning import scan
from sartor.select.forgetting import forgetting_events


def accuracy_of(model: nn.Module, setting: Setting, ledger: Ledger) -> float | None:
    """Return the accuracy of a network of test samples, or else of held-out ones; charged as monitoring."""
    pool = setting.data.test or setting.data.validation
    if pool is None:
        return None
    with ledger.timed(MONITOR):
        seen = scan(
            model.to(setting.device),
            pool,
            needs=frozenset({"logits", "targets"}),
            device=setting.device,
            precision="fp32",
            workers=setting.workers,
            world=setting.run.world,
        )
    ledger.charge(MONITOR, forward=len(pool), flops=len(pool) * count_flops(model, pool.gather(pool.rows[:1])).forward)
    return float(correct(seen.logits, seen.targets).double().mean())


def curve(outcomes: Iterable[Outcome]) -> list[float | None]:
    """Return the test accuracies (or else those of held-out samples) after the epochs of some trainings in a row."""
    lines = [line for outcome in outcomes for line in outcome.result.metrics if line["kind"] == "epoch"]
    return [line.get("test_accuracy", line.get("validation_accuracy")) for line in lines]


def score_report(history: History, changes: Sequence[int] | None, epochs: int) -> dict[str, Any]:
    """Return how often how many samples were forgotten; of `changes` counted by position, how they compare to that.

    `forgotten` counts samples that were ever right, by events. `change_rate` is the mean over samples and comparisons,
    `most` the share of samples with as many changes as comparisons, `correlation` Pearson's with the true counts, in
    which a sample that was never right has one more than any other; None where either is constant.
    """
    learnt = history.times_right > 0
    counts = torch.bincount(history.forgotten[learnt].long()).tolist()
    report: dict[str, Any] = {"forgotten": counts, "never_learnt": int((~learnt).sum())}
    if changes is not None and epochs > 1:
        told = torch.tensor(changes, dtype=torch.float64)
        report |= {
            "changes": torch.bincount(told.long(), minlength=epochs).tolist(),
            "change_rate": float(told.mean() / (epochs - 1)),
            "most": float((told == epochs - 1).double().mean()),
            "correlation": correlation(told, forgetting_events(history).double()),
        }
    return report


def correlation(a: torch.Tensor, b: torch.Tensor) -> float | None:
    """Return Pearson's correlation of two tables; None where one of them is constant."""
    found = float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])
    return found if math.isfinite(found) else None
