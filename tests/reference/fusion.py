"""Fusion one element after the other: what is where in the dense network, from the kept indices alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor, nn

Kept = Mapping[str, Mapping[int, list[int]]]


def literal_fusion(
    dense: nn.Module, small: nn.Module, kept: Kept, complement: str, draws: torch.Generator
) -> dict[str, Tensor]:
    """All parameters and buffers after fusion by random, retained, zeros or preserving."""
    parts = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    parameters = dict(dense.named_parameters())
    found = {}
    for name, whole in {**parameters, **dict(dense.named_buffers())}.items():
        drawn = torch.randint(whole.numel(), tuple(whole.shape), generator=draws) if complement == "random" else None
        values = torch.empty_like(whole)
        for place in product(*map(range, whole.shape)):
            inside = [
                dim for dim in range(whole.ndim) if place[dim] in kept.get(name, {}).get(dim, range(whole.shape[dim]))
            ]
            if len(inside) == whole.ndim:
                origin = tuple(kept[name][d].index(p) if d in kept.get(name, {}) else p for d, p in enumerate(place))
                values[place] = parts[name][origin].detach()
            elif drawn is not None:
                values[place] = whole.detach().flatten()[drawn[place]]
            elif complement == "zeros" and name in parameters:
                values[place] = 0
            elif complement == "preserving" and whole.ndim > 1 and 0 in inside and 1 not in inside:
                values[place] = 0  # a kept row would read a column that is not kept
            else:
                values[place] = whole.detach()[place]
        found[name] = values
    return found


def literal_places(dispersion: str, kept: list[int], size: int, draws: torch.Generator) -> list[int]:
    """Where a group's channels come to lie."""
    if dispersion == "none":
        return kept
    if dispersion == "contiguous":
        return list(range(len(kept)))
    if dispersion == "strided":
        return [number * size // len(kept) for number in range(len(kept))]
    return sorted(torch.randperm(size, generator=draws)[: len(kept)].tolist())


def literal_copies(kept: list[int], size: int, draws: torch.Generator) -> list[int]:
    """For each channel of a group, the place among the kept ones of that which it copies (Net2Net, equation 4)."""
    chosen = torch.randint(len(kept), (size,), generator=draws).tolist()
    return [kept.index(channel) if channel in kept else chosen[channel] for channel in range(size)]


def literal_replication(weights: list[list[list[float]]], copies: list[list[int]]) -> list[list[list[float]]]:
    """Matrices of a chain of Linear layers, each row and column copied; columns are divided among their copies."""
    found = []
    for number, weight in enumerate(weights):
        columns = copies[number - 1] if number else list(range(len(weight[0])))
        rows = copies[number] if number < len(copies) else list(range(len(weight)))
        found.append([[weight[row][column] / columns.count(column) for column in columns] for row in rows])
    return found
