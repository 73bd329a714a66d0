from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data import Pool, corrupt
from sartor.data.pool import LabelNoise
from sartor.errors import ConfigError, DataError


def pool_of(labels: list[int], **options: object) -> Pool:
    return Pool.from_arrays(torch.zeros(len(labels), 1), labels, **options)  # type: ignore[arg-type]


def noise_of(pool: Pool) -> LabelNoise:
    assert pool.noise is not None
    return pool.noise


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 2**32))
def test_exactly_the_share_gets_another_class(labels: list[int], rate: float, seed: int) -> None:
    clean = pool_of(labels, classes=4)
    noisy = corrupt(clean, rate, seed=seed)
    given_labels = noisy.targets_of(noisy.rows)
    changed = given_labels != torch.tensor(labels)
    assert int(changed.sum()) == math.floor(rate * len(labels) + 0.5)
    assert torch.equal(noise_of(noisy).flags, changed)
    assert noise_of(noisy).original.tolist() == labels
    assert clean.targets_of(clean.rows).tolist() == labels
    assert clean.noise is None
    assert bool(((given_labels >= 0) & (given_labels < 4)).all())


def test_every_other_class_is_as_likely_for_every_class() -> None:
    n, classes = 50_000, 5
    old = torch.arange(n) % classes
    noisy = corrupt(pool_of(old.tolist()), 1.0, seed=1)
    counts = torch.bincount(old * classes + noisy.targets_of(noisy.rows), minlength=classes**2).view(classes, classes)
    assert counts.diagonal().tolist() == [0] * classes
    expected = n / classes / (classes - 1)
    others = counts[~torch.eye(classes, dtype=torch.bool)].double()
    assert float(((others - expected) ** 2 / expected).sum()) < 45  # chi-square, 15 degrees of freedom: p = 1e-4


def test_samples_are_drawn_evenly_and_separately_by_seed() -> None:
    flags = [noise_of(corrupt(pool_of([0, 1] * 10_000), 0.2, seed=seed)).flags for seed in (0, 1)]
    assert abs(float(flags[0][:10_000].double().mean()) - 0.2) < 0.02
    assert abs(float((flags[0] & flags[1]).double().mean()) - 0.04) < 0.01


def test_any_class_may_leave_a_label_right() -> None:
    n = 20_000
    noisy = corrupt(pool_of([i % 4 for i in range(n)]), 0.4, seed=0, kind="any")
    wrong = int(noise_of(noisy).flags.sum())
    assert abs(wrong - 0.75 * 0.4 * n) < 5 * (0.4 * n * 0.75 * 0.25) ** 0.5
    assert torch.equal(noise_of(noisy).flags, noisy.targets_of(noisy.rows) != noise_of(noisy).original)


@given(st.permutations(range(20)))
def test_the_order_of_the_source_has_no_effect(order: list[int]) -> None:
    ids, labels = [f"s{i}" for i in range(20)], [i % 3 for i in range(20)]
    expected = corrupt(pool_of(labels, ids=ids), 0.3, seed=2)
    noisy = corrupt(pool_of([labels[i] for i in order], ids=[ids[i] for i in order]), 0.3, seed=2)
    assert noisy.ids == expected.ids
    assert torch.equal(noisy.targets_of(noisy.rows), expected.targets_of(expected.rows))
    assert torch.equal(noise_of(noisy).flags, noise_of(expected).flags)


def test_a_higher_rate_adds_to_a_lower_one() -> None:
    clean = pool_of([i % 3 for i in range(100)])
    low, high = (corrupt(clean, rate, seed=0) for rate in (0.1, 0.2))
    flags = noise_of(low).flags
    assert torch.equal(noise_of(high).flags & flags, flags)
    assert torch.equal(high.targets_of(high.rows[flags]), low.targets_of(low.rows[flags]))


def test_only_the_labelled_rows_of_the_view_are_counted_and_changed() -> None:
    clean = pool_of([0, 1, -1] * 10)
    noisy = corrupt(clean.only(torch.arange(15, 30)), 0.5, seed=0)
    assert noise_of(noisy).flags.nonzero().min() >= 15
    assert int(noise_of(noisy).flags.sum()) == 5
    assert bool((noisy.targets_of(torch.arange(2, 30, 3)) == -1).all())


def test_ratio_is_the_share_of_wrong_labels() -> None:
    noisy = corrupt(pool_of([0, 1] * 10), 0.25, seed=0)
    wrong = noise_of(noisy).flags.nonzero().squeeze(1)
    right = (~noise_of(noisy).flags).nonzero().squeeze(1)
    assert noise_of(noisy).ratio(noisy.rows) == 0.25
    assert noise_of(noisy).ratio(wrong) == 1.0
    assert noise_of(noisy).ratio(torch.cat([wrong[:1], right[:3]])) == 0.25
    assert noise_of(noisy).ratio(wrong[:0]) == 0.0


def test_rate_0_changes_nothing_and_says_so() -> None:
    noisy = corrupt(pool_of([0, 1, 2]), 0.0, seed=0)
    assert noisy.targets_of(noisy.rows).tolist() == [0, 1, 2]
    assert noise_of(noisy).ratio(noisy.rows) == 0.0


def test_json_restores_the_right_labels() -> None:
    clean = pool_of([i % 3 for i in range(10)])
    noisy = corrupt(clean, 0.4, seed=0)
    record = json.loads(json.dumps(noise_of(noisy).to_json(noisy)))
    labels = dict(zip(noisy.ids, noisy.targets_of(noisy.rows).tolist(), strict=True))
    for name, original, given_label in zip(record["ids"], record["original"], record["given"], strict=True):
        assert labels[name] == given_label != original
        labels[name] = original
    assert list(labels.values()) == clean.targets_of(clean.rows).tolist()
    assert (record["kind"], record["rate"], len(record["ids"])) == ("other", 0.4, 4)
    part = noisy.only(noise_of(noisy).flags.nonzero().squeeze(1)[:1])
    assert noise_of(noisy).to_json(part)["ids"] == part.ids_of(part.rows)


def test_the_callers_arrays_and_the_inputs_are_left_alone() -> None:
    inputs, targets = torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2])
    clean = Pool.from_arrays(inputs, targets)
    noisy = corrupt(clean, 1.0, seed=0)
    assert targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert noisy.inputs is clean.inputs


@pytest.mark.parametrize(
    ("pool", "options", "error", "message"),
    [
        (pool_of([0, 1]), {"rate": 1.5}, ConfigError, r"rate is 1.5; it must lie in \[0, 1\]"),
        (pool_of([0, 1]), {"rate": 0.1, "kind": "others"}, ConfigError, "Did you mean 'other'"),
        (pool_of([0, 0]), {"rate": 0.1}, DataError, "1 class; noise needs at least two"),
        (pool_of([-1, -1], classes=2), {"rate": 0.1}, DataError, "no labels to corrupt"),
        (Pool.from_arrays(torch.zeros(2, 1)), {"rate": 0.1}, DataError, "no labels to corrupt"),
        (corrupt(pool_of([0, 1]), 0.5, seed=0), {"rate": 0.1}, DataError, "corrupted already"),
    ],
)
def test_what_it_refuses(pool: Pool, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        corrupt(pool, seed=0, **options)  # type: ignore[arg-type]
