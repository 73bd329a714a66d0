"""Erdos-Renyi(-kernel) densities by the procedure of the RigL authors' code: cap one maximum at a time, solve again."""

from __future__ import annotations

import math


def literal_densities(shapes: dict[str, tuple[int, ...]], sparsity: float, *, kernel: bool = True) -> dict[str, float]:
    """Return the density of each layer; zeros are rounded down layer by layer, as the original counts them."""
    dense: set[str] = set()
    while len(dense) < len(shapes):
        divisor, right_side, raw = 0.0, 0.0, {}
        for name, shape in shapes.items():
            size = math.prod(shape)
            zeros = math.floor(sparsity * size)
            if name in dense:
                right_side -= zeros
            else:
                right_side += size - zeros
                sides = shape if kernel else shape[:2]
                raw[name] = sum(sides) / math.prod(sides)
                divisor += raw[name] * size
        epsilon = right_side / divisor
        largest = max(raw.values())
        if largest * epsilon <= 1:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
        dense |= {name for name, value in raw.items() if value == largest}
    return dict.fromkeys(shapes, 1.0)
