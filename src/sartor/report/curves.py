"""Seeds into curves: the mean over runs and its interval at every epoch or selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sartor.report.collect import RunRecord
from sartor.report.statistics import mean_interval


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean over runs by epoch, with the ends of its 95 % interval (equal to the mean where there is one run)."""

    epochs: Float[ndarray, "e"]
    mean: Float[ndarray, "e"]
    low: Float[ndarray, "e"]
    high: Float[ndarray, "e"]


def curve(
    runs: Sequence[RunRecord], value: Callable[[dict[str, Any]], float | None], *, kind: str = "epochs"
) -> Curve | None:
    """Average `value` of each metrics line over the runs that have it; None where no line has it.

    `kind` is "epochs" or "selections". Epochs count from 1, as done ones.
    """
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for line in run.epochs if kind == "epochs" else run.selections:
            found = value(line)
            if found is not None and np.isfinite(found):
                by_epoch.setdefault(int(line["epoch"]) + 1, []).append(float(found))
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    intervals = [mean_interval(by_epoch[epoch]) for epoch in epochs]
    mean = np.array([interval.mean for interval in intervals])
    low = np.array([interval.low for interval in intervals])
    high = np.array([interval.high for interval in intervals])
    return Curve(
        np.array(epochs, dtype=float), mean, np.where(np.isnan(low), mean, low), np.where(np.isnan(high), mean, high)
    )
