"""How many samples each class may have."""

from __future__ import annotations

from collections.abc import Callable, Sized

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.errors import SelectionError
from sartor.ranking import largest_remainder


def check_budget(samples: Sized, k: int) -> None:
    """Raise SelectionError unless 1 <= k <= the number of samples, in a scan or among rows."""
    if not 1 <= k <= len(samples):
        raise SelectionError(f"k is {k}; it must lie in [1, {len(samples)}], the number of samples to choose from.")


def class_budgets(targets: Int64[Tensor, "n"], k: int, *, none_empty: bool = False) -> dict[int, int]:
    """Share k among the classes present in proportion to their sizes, by largest remainder; the sum is exactly k.

    No class gets more than it has. With `none_empty` a class too small for a share takes one from the largest.
    Raises: SelectionError: with `none_empty`, where k is smaller than the number of classes.
    """
    labels, sizes = targets.unique(return_counts=True)
    if none_empty and k < len(labels):
        raise SelectionError(
            f"k is {k} but the scan holds {len(labels)} classes and each needs a sample; choose k >= {len(labels)}."
        )
    budgets = largest_remainder(k, sizes)
    for label in (budgets == 0).nonzero().squeeze(1) if none_empty else ():
        budgets[budgets.argmax()] -= 1
        budgets[label] += 1
    return dict(zip(labels.tolist(), budgets.tolist()))


def members_by_class(targets: Int64[Tensor, "n"]) -> dict[int, Int64[Tensor, "m"]]:
    """Return the positions of each class's samples, ascending: by one sort, so that a thousand classes cost no more."""
    labels, sizes = targets.unique(return_counts=True)
    return dict(zip(labels.tolist(), targets.argsort(stable=True).split(sizes.tolist())))


def share_out(
    targets: Int64[Tensor, "n"], k: int, choose: Callable[[Int64[Tensor, "m"], int], Int64[Tensor, "b"]]
) -> Int64[Tensor, "k"]:
    """Choose class by class, each its share of k as `class_budgets` has it: what a selector's `balanced` means.

    `choose(members, budget)` returns that many of a class's positions. No class gets none, unless k is smaller than
    their number.
    """
    members = members_by_class(targets)
    budgets = class_budgets(targets, k, none_empty=k >= len(members))
    return torch.cat([choose(positions, budgets[label]) for label, positions in members.items()])


def draw(rows: Int64[Tensor, "n"], k: int, *, generator: torch.Generator) -> Int64[Tensor, "k"]:
    """Return k of the rows, uniformly and without replacement."""
    return rows[torch.randperm(len(rows), generator=generator)[:k]]
