"""A part of a data set: class by class, the same each time, with the whole test set."""

from __future__ import annotations

import pytest

from sartor.data.opening import open_data
from sartor.errors import ConfigError


def test_a_part_has_every_class_and_stays_the_same() -> None:
    whole, part = open_data("digits"), open_data("few(of=digits, samples=100)")
    assert len(part.train) == 100
    assert part.train.class_counts().tolist() == [10] * 10
    assert set(part.train.rows.tolist()) < set(whole.train.rows.tolist())
    assert part.test.fingerprint() == whole.test.fingerprint()
    assert open_data("few(of=digits, samples=100)").train.rows.tolist() == part.train.rows.tolist()
    other = open_data("few(of=digits, samples=100, seed=1)").train
    assert other.rows.tolist() != part.train.rows.tolist()
    assert other.fingerprint() != part.train.fingerprint()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("few(of=digits, samples=1297)", "samples is 1297, but digits has 1297 to train on"),
        ("few(of=digits, samples=0)", "samples is 0"),
        ("few(of=digit)", "Did you mean 'digits'"),
    ],
)
def test_what_cannot_be_drawn(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_data(spec)
