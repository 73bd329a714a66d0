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

    Each class gives its part (largest remainder) but keeps a sample, as far as the size allows; what it cannot give,
    the largest classes give. In a class those go out whose hashed ids are smallest, so the split depends on seed and
    ids alone. Unlabelled samples stay in training, and n counts the others; a pool without any label is split as
    if of one class. Share 0 returns (pool, None). Cut it before `corrupt`: then it stays clean.

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
    quotas = _leaving_one(largest_remainder(size, counts), counts)
    by_class = labels.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    place_in_class = torch.arange(len(labels)) - starts[labels[by_class]]
    return by_class[place_in_class < quotas[labels[by_class]]]


def _leaving_one(quotas: Int64[Tensor, "c"], counts: Int64[Tensor, "c"]) -> Int64[Tensor, "c"]:
    """Take from classes that would give all they have, and give to the largest; the total stays.

    Nothing changes where no class would be lost, or where so much goes out that some must be.
    """
    room = (counts - 1).clamp(min=0)
    if int(quotas.sum()) > int(room.sum()):
        return quotas
    capped = torch.minimum(quotas, room)
    surplus = int((quotas - capped).sum())
    largest = counts.argsort(descending=True, stable=True).tolist()
    while surplus:
        for label in largest:
            if surplus and capped[label] < room[label]:
                capped[label] += 1
                surplus -= 1
    return capped
