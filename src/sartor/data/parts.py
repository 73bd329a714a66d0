"""Which samples train and which test: as the data say, or a fixed share held out where they say nothing."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.data.pool import Pool
from sartor.data.split import hold_out
from sartor.errors import ConfigError, DataError, check_range

TRAIN_NAMES = ("train", "training")
"""What the part for training may be called, in capital or small letters."""
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "eval", "evaluation")
"""What a part for testing may be called, likewise; where there are several, the first one here is used."""
TEST_SHARE = 0.2
"""Share of the samples held out for testing where the data have no part of their own for it."""


def parts_of(names: Sequence[str], where: object) -> list[str]:
    """Turn names of parts, one for each sample, into train, test, or "unused". Raises: DataError: for other names."""
    other = {name for name in names if name.casefold() not in (*TRAIN_NAMES, *TEST_NAMES)}
    if other:
        known = ", ".join((*TRAIN_NAMES, *TEST_NAMES))
        raise DataError(f"{where} has the split {sorted(other)[0]!r}; known are {known}.")
    folded = [name.casefold() for name in names]
    held = test_name(set(folded))
    return ["train" if name in TRAIN_NAMES else "test" if name == held else "unused" for name in folded]


def train_name(present: Collection[str], where: object) -> str | None:
    """Return which of the parts is for training. Raises: DataError: if several could be."""
    found = sorted(name for name in present if name.casefold() in TRAIN_NAMES)
    if len(found) > 1:
        raise DataError(f"{where} has {' and '.join(found)}; keep one of them for training.")
    return found[0] if found else None


def test_name(present: Collection[str]) -> str | None:
    """Return which of the parts is for testing, with a warning about others that could be too."""
    known = [name for name in present if name.casefold() in TEST_NAMES]
    found = sorted(known, key=lambda name: (TEST_NAMES.index(name.casefold()), name))
    if len(found) > 1:
        warnings.warn(
            f"the data have {' and '.join(found)}; {found[0]} is the test set, the rest is unused.", stacklevel=3
        )
    return found[0] if found else None


def cut_test(
    ids: Sequence[str], labels: Int64[Tensor, "n"], parts: Sequence[str], share: float
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "m"]]:
    """Return the places of training and test samples, given sorted ids and each one's part (train, test, or "").

    Without any part "test", `share` of each class is held out by ids: always the same samples, whatever the seed.
    Raises: ConfigError: for a share out of (0, 1), or one that has no effect. DataError: if either part is empty.
    """
    check_range("test", share, 0, 1, low_open=True, high_open=True)
    if "test" not in parts:
        plain = Pool.from_arrays(torch.zeros(len(ids), 1), labels, ids=ids)
        train, test = hold_out(plain, share, seed=0)
        assert test is not None
        return train.rows, test.rows
    if share != TEST_SHARE:
        raise ConfigError(f"test is {share:g}, but the data have a test set of their own; leave it out.")
    train_rows, test_rows = (
        torch.tensor([place for place, part in enumerate(parts) if part == name], dtype=torch.int64)
        for name in ("train", "test")
    )
    if not len(train_rows):
        raise DataError(f"all {len(ids)} samples are for testing; none is left to train on.")
    return train_rows, test_rows
