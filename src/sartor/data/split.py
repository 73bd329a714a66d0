"""Hold a part of a pool out, class by class."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.data.hashing import hashes
from sartor.data.pool import Pool
from sartor.errors import DataError, check_range
from sartor.ranking import largest_remainder, size_of


def hold_out(pool: Pool, share: float, *, seed: int) -> tuple[Pool, Pool | None]:
    """Split a pool into a training view and a held-out view of exactly floor(share * n + 1/2) samples.

    Each class gives its part (largest remainder), and in a class those go out whose hashed ids are smallest, so the
    split depends on seed and ids alone. Unlabelled samples stay in training, and n counts the others; a pool without
    any label is split as if of one class. Share 0 returns (pool, None). Cut it before `corrupt`: then it stays clean.

    Raises: ConfigError: unless 0 <= share < 1. DataError: if either part would be empty.
    """
    check_range("share", share, 0, 1, high_open=True)
    if share == 0:
        return pool, None
    rows = pool.labelled_rows()
    rows = rows if len(rows) else pool.rows
    size = size_of(share, len(rows))
    if not 0 < size < len(pool):
        raise DataError(f"a share of {share:g} of {len(rows)} samples is {size}; it must leave some on either side.")
    labels = pool.targets_of(rows).clamp(min=0)
    order = hashes(pool.keys_of(rows), seed, "hold-out").argsort(stable=True)
    out = rows[order][_first_of_each_class(labels[order], size)]
    stays = torch.ones(len(pool.ids), dtype=torch.bool)
    stays[out] = False
    return pool.only(pool.rows[stays[pool.rows]]), pool.only(out)


def _first_of_each_class(labels: Int64[Tensor, "n"], size: int) -> Int64[Tensor, "k"]:
    """Return the places of the first samples of each class, `size` in all, in proportion to the classes' sizes."""
    counts = torch.bincount(labels)
    quotas = largest_remainder(size, counts)
    by_class = labels.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    place_in_class = torch.arange(len(labels)) - starts[labels[by_class]]
    return by_class[place_in_class < quotas[labels[by_class]]]
