"""Wrong labels, made once and remembered: the means to see what a selector picks when some labels lie."""

from __future__ import annotations

import torch

from sartor.data.hashing import hashes
from sartor.data.pool import LabelNoise, Pool
from sartor.errors import DataError, check_choice, check_range
from sartor.ranking import size_of


def corrupt(pool: Pool, rate: float, *, seed: int, kind: str = "other") -> Pool:
    """Give exactly floor(rate * n + 1/2) labelled samples of the view a uniformly drawn class; n counts its labels.

    Kind "other" draws another class (symmetric noise), "any" draws any class, so that some labels stay right and are
    not counted as noise. Who is drawn depends on seed and ids alone, and a higher rate adds to a lower one. The given
    pool is untouched; the new one has its own labels and `noise`, which no scan shows.

    Raises: ConfigError: unless 0 <= rate <= 1 and the kind is known. DataError: for fewer than two classes, no labels,
        or labels that are corrupted already.
    """
    check_range("rate", rate, 0, 1)
    check_choice("kind", kind, ("other", "any"))
    rows = pool.labelled_rows()
    if pool.targets is None or pool.classes is None or len(rows) == 0:
        raise DataError("the pool has no labels to corrupt; give targets, or leave the noise out.")
    if pool.noise is not None:
        raise DataError(f"the labels are corrupted already (rate {pool.noise.rate:g}); start from the clean pool.")
    if pool.classes < 2:
        raise DataError(f"the pool has {pool.classes} class; noise needs at least two.")
    count = size_of(rate, len(rows))
    keys = pool.keys_of(rows)
    drawn = hashes(keys, seed, "noise").argsort(stable=True)[:count]
    draws = hashes(keys[drawn], seed, "noise/class") & (2**63 - 1)
    old = pool.targets_of(rows[drawn])
    new = (old + 1 + draws % (pool.classes - 1)) % pool.classes if kind == "other" else draws % pool.classes
    targets = pool.targets.clone()
    targets[rows[drawn]] = new
    flags = torch.zeros(len(targets), dtype=torch.bool)
    flags[rows[drawn]] = new != old
    return pool.relabelled(targets, LabelNoise(flags, pool.targets, rate, kind))
