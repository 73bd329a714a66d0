"""Herding: samples whose mean stays as near as can be to the mean of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, share_out
from sartor.select.points import Points, rounding, squared_distances
from sartor.types import Subset


def herd(points: Points, k: int) -> Int64[Tensor, "k"]:
    """Choose k points, in order: each time the one that brings the mean of those chosen nearest to the mean of all.

    With r = t mean - sum of the t - 1 chosen, that is the free point nearest to r; of equal ones the lowest. Inner
    products with r in float32 tell which ones that may be, and these are compared in float64. Time O(k n d).
    """
    center, squares = points.center().numpy(), points.squares.numpy()
    wanted, norms, free = center.copy(), np.sqrt(squares), np.ones(len(points), dtype=bool)
    single, double = (rounding(points.width, dtype) for dtype in (torch.float32, torch.float64))
    chosen: list[int] = []
    while len(chosen) < k:
        length = float(np.linalg.norm(wanted))
        products = points.along(torch.from_numpy(wanted / (length or 1.0)).float()).numpy()
        score = np.where(free, squares - 2 * length * products.astype(np.float64), np.inf)  # |x - r|^2 - |r|^2
        slack = 2 * length * norms * single + (norms + length) ** 2 * double
        pick = nearest_of(points, np.flatnonzero(score - slack <= (score + slack).min()), wanted)
        chosen.append(pick)
        free[pick] = False
        wanted += center - points.read(slice(pick, pick + 1))[0].double().numpy()
    return torch.tensor(chosen, dtype=torch.int64)


def nearest_of(points: Points, positions: NDArray[np.int64], point: NDArray[np.float64]) -> int:
    """Return the one of some points, by position, that is nearest to another one; of equal ones the first."""
    if len(positions) == 1:
        return int(positions[0])
    parts = [torch.from_numpy(positions[block]) for block in points.blocks(of=len(positions))]
    found = [squared_distances(points.read(part).double().numpy(), point) for part in parts]
    return int(positions[np.concatenate(found).argmin()])


@SELECTORS.register("herding")
@dataclass(frozen=True)
class Herding:
    """Samples whose mean feature is that of their class, or of all: greedy herding (Welling 2009), without weights.

    Each step takes the sample that brings the mean of those chosen nearest to the mean, as iCaRL does for its exemplars
    (Rebuffi et al. 2017, Alg. 4). `balanced` herds each class by itself, with its share of k by largest remainder;
    without it the mean is that of the whole pool, and no label is needed.
    Differs: features are taken as they are; iCaRL scales them to length 1. No sample is taken twice.
    """

    balanced: bool = True

    @property
    def needs(self) -> frozenset[str]:
        """Features, and the targets where classes are herded one by one."""
        return frozenset({"features"} | ({"targets"} if self.balanced else set()))

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows whose mean is nearest, greedily. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        if self.balanced:
            chosen = share_out(scan.targets, k, lambda members, budget: members[herd(Points.of(scan, members), budget)])
        else:
            chosen = herd(Points.of(scan), k)
        classes = scan.classes if self.balanced else 1
        flops = self.arithmetic(len(scan), k, classes=classes, features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the inner products and the mean, 2 per multiply-add, as if classes were of equal size."""
        groups = max(classes, 1) if self.balanced else 1
        return 2.0 * features * n * (k / groups + 2)
