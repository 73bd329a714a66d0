"""Alternating flips, one sample and one epoch at a time."""

from __future__ import annotations

from collections.abc import Sequence


def flips(first: Sequence[bool], epochs: int) -> list[list[bool]]:
    """Which samples are mirrored in each epoch, given those of the first: every sample is turned over after it."""
    mirrored, table = list(first), []
    for _ in range(epochs):
        table.append(list(mirrored))
        for sample in range(len(mirrored)):
            mirrored[sample] = not mirrored[sample]
    return table
