"""Moderate: the samples at a middling distance from the centre of their class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sartor.errors import ConfigError, check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, members_by_class, share_out
from sartor.select.points import TILE, Points
from sartor.types import Subset


def distances_to_center(scan: Scan, *, center: str = "median") -> Float64[Tensor, "n"]:
    """Return each sample's Euclidean distance to the centre of its class; higher is less typical.

    The centre is the mean or, in each dimension, the median (of an even number: between the middle two). Features are
    read one class at a time.
    """
    distances = torch.empty(len(scan), dtype=torch.float64)
    for members in members_by_class(scan.targets).values():
        points = Points.of(scan, members)
        middle = medians(points) if center == "median" else points.center()
        distances[members] = points.squared_distances(middle).sqrt()
    return distances


def medians(points: Points) -> Float64[Tensor, "d"]:
    """Return the median of points in each dimension; the columns are taken out and divided some at a time."""
    low, high = (len(points) - 1) // 2, len(points) // 2
    found = []
    for columns in points.read(slice(None)).split(max(1, TILE // len(points)), dim=1):
        values = np.array(columns.numpy().T, order="C")
        values.partition((low, high), axis=1)
        found.append((values[:, low].astype(np.float64) + values[:, high]) / 2)
    return torch.from_numpy(np.concatenate(found))


def middle_ranks(scores: Float[Tensor, "n"], k: int) -> Int64[Tensor, "k"]:
    """Return the positions of the k middle ranks: as many are left below as above, one fewer if that is uneven.

    Equal scores rank by position.
    """
    first = (len(scores) - k) // 2
    return scores.argsort(stable=True)[first : first + k]


@SELECTORS.register("moderate")
@dataclass(frozen=True)
class Moderate:
    """Samples near the median of the distances to their class centres (Xia et al. 2023), without weights.

    The window of ranks [1/2 - k/2n, 1/2 + k/2n] lies over all samples, or over each class, with its share of k by
    largest remainder: `balanced`, or `per_class`, another name for it. `center` is "median", as in the authors' code,
    or "mean".
    Differs: the window holds exactly k; the authors round both of its ends.
    """

    center: str = "median"
    per_class: bool = False
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("center", self.center, ("median", "mean"))
        if self.per_class and self.balanced:
            raise ConfigError("per_class and balanced both give each class its share of k; leave one of them out.")

    @property
    def needs(self) -> frozenset[str]:
        """Features and targets."""
        return frozenset({"features", "targets"})

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows of the middle window. Raises: SelectionError: for a k out of reach."""
        check_budget(scan, k)
        distances = distances_to_center(scan, center=self.center)
        flops = self.arithmetic(len(scan), k, classes=0, features=scan.features.shape[1])
        if not (self.balanced or self.per_class):
            return Subset.of(scan.rows[middle_ranks(distances, k)], flops=flops)
        chosen = share_out(scan.targets, k, lambda members, budget: members[middle_ranks(distances[members], budget)])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the distances, 2 per multiply-add."""
        return 2.0 * n * features
