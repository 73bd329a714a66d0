"""How many weights each layer keeps: uniform, Erdos-Renyi, and Erdos-Renyi with the kernel (ERK)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from sartor.errors import PruningError, check_choice, check_range
from sartor.ranking import largest_remainder

KINDS = ("erk", "er", "uniform")


def kept_counts(shapes: Mapping[str, Sequence[int]], sparsity: float, kind: str = "erk") -> dict[str, int]:
    """Return how many weights each layer keeps, at least one each.

    `uniform` keeps floor((1-S) N_l + 1/2) of every layer's N_l weights. `er` and `erk` keep floor((1-S) N + 1/2) of all
    N weights, exactly; a layer's density is proportional to (in + out) / (in * out), for `erk` with the kernel's sides
    in both sum and product. Layers that would exceed density 1 are dense, and the rest is solved again.
    Raises: ConfigError: for an unknown kind or a sparsity outside [0, 1). PruningError: if there are more layers than
    kept weights. Source: Evci et al. 2020 (RigL), section 3; Mocanu et al. 2018 (Erdos-Renyi).
    Differs: rounding is by largest remainder over all layers, so that the total is exact; the original rounds each.
    """
    check_choice("distribution", kind, KINDS)
    check_range("sparsity", sparsity, 0, 1, high_open=True)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if kind == "uniform":
        return {name: max(1, kept_of(sparsity, size)) for name, size in sizes.items()}
    total = kept_of(sparsity, sum(sizes.values()), layers=len(sizes))
    size = torch.tensor(list(sizes.values()), dtype=torch.float64)
    raw = torch.tensor([_raw_density(shape, kernel=kind == "erk") for shape in shapes.values()], dtype=torch.float64)
    return dict(zip(shapes, _allot(total, size, raw * size), strict=True))


def kept_of(sparsity: float, weights: int, *, layers: int = 0) -> int:
    """Return floor((1-S) n + 1/2) of n weights, with S the decimal number that was written (0.9 is nine tenths).

    Raises: PruningError: if that is less than one for each of so many layers.
    """
    kept = math.floor((1 - Fraction(str(sparsity))) * weights + Fraction(1, 2))
    if kept < layers:
        raise PruningError(
            f"sparsity {sparsity:g} keeps {kept} of {weights} weights, but each of the {layers} layers needs one; "
            f"the sparsity can be at most {1 - layers / weights:.6g}."
        )
    return kept


def random_masks(
    shapes: Mapping[str, Sequence[int]], kept: Mapping[str, int], generator: torch.Generator
) -> dict[str, Bool[Tensor, "..."]]:
    """Draw one mask a layer with exactly `kept[name]` places, each set of places being equally likely."""
    masks = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        mask = torch.zeros(size, dtype=torch.bool, device=generator.device)
        mask[torch.randperm(size, generator=generator, device=generator.device)[: kept[name]]] = True
        masks[name] = mask.reshape(tuple(shape))
    return masks


def _raw_density(shape: Sequence[int], *, kernel: bool) -> float:
    sides = shape if kernel else shape[:2]
    return sum(sides) / math.prod(sides)


def _allot(total: int, size: Float64[Tensor, "l"], share: Float64[Tensor, "l"]) -> list[int]:
    """Split `total` in proportion to `share`, but give every layer at least 1 and at most its size.

    Layers that would get none are set to 1; this lowers the rest, so dense layers are then found anew.
    """
    least = torch.zeros(len(size), dtype=torch.bool)
    while True:
        kept = torch.where(least, 1, size).to(torch.int64)
        free = ~least
        while free.any():
            left = total - int(kept[~free].sum())
            dense = free & (share * (left / float(share[free].sum())) >= size)
            if not dense.any():
                kept[free] = largest_remainder(left, share[free])
                break
            kept[dense] = size[dense].to(torch.int64)
            free &= ~dense
        if bool((kept > 0).all()):
            return [int(count) for count in kept]
        least |= kept == 0
