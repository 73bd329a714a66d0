"""A part of a data set: as many training samples as a study can afford."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sartor.data.formats import Splits
from sartor.data.split import hold_out
from sartor.errors import ConfigError, check_range
from sartor.registry import DATASETS


@DATASETS.register("few")
def few(root: str | Path | None = None, *, of: str = "fashion-mnist", samples: int = 10_000, seed: int = 0) -> Splits:
    """Another data set with a part of its training samples, drawn once class by class; the test set stays whole.

    Each class gives its share of `samples` (largest remainder); who is drawn depends on `seed` and ids alone.
    Raises: ConfigError: for more samples than there are, or another data set that is none.
    """
    whole = DATASETS.build(of, root=root)
    n = len(whole.train)
    check_range("samples", samples, 1, float("inf"), high_open=True)
    if samples >= n:
        raise ConfigError(f"samples is {samples}, but {of} has {n} to train on; ask for fewer, or for {of} itself.")
    _, drawn = hold_out(whole.train, samples / n, seed=seed)
    assert drawn is not None
    return dataclasses.replace(whole, train=drawn)
