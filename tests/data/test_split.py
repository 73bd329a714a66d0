from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data import Pool, corrupt, hold_out
from sartor.data.parts import cut_test
from sartor.errors import ConfigError, DataError
from sartor.ranking import largest_remainder


def pool_of(labels: list[int], ids: list[str] | None = None) -> Pool:
    return Pool.from_arrays(torch.arange(float(len(labels)))[:, None], labels, ids=ids)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.floats(0.02, 0.98), st.integers(0, 2**32))
def test_parts_are_disjoint_exact_and_stratified(labels: list[int], share: float, seed: int) -> None:
    pool = pool_of(labels)
    size = math.floor(share * len(labels) + 0.5)
    if size in (0, len(labels)):
        with pytest.raises(DataError, match="must leave some on either side"):
            hold_out(pool, share, seed=seed)
        return
    train, held = hold_out(pool, share, seed=seed)
    assert held is not None
    assert len(held) == size
    assert sorted(train.rows.tolist() + held.rows.tolist()) == list(range(len(labels)))
    counts, given_up = pool.class_counts(), held.class_counts()
    quotas = largest_remainder(size, counts)
    if size <= int((counts - 1).clamp(min=0).sum()):
        assert bool((given_up < counts.clamp(min=1)).all()), "a class lost all its training samples"
    if bool((quotas < counts)[counts > 0].all()):
        assert torch.equal(given_up, quotas)
    assert bool(((quotas - given_up).clamp(min=0) <= (quotas == counts)).all())


def test_classes_of_very_unequal_size_each_give_their_part() -> None:
    _, held = hold_out(pool_of([0] * 900 + [1] * 100), 0.1, seed=0)
    assert held is not None
    assert held.class_counts().tolist() == [90, 10]


def test_a_class_of_one_sample_stays_in_training() -> None:
    """By largest remainder alone, a class of one may give its only sample to the test set and is never learnt."""
    labels = torch.tensor([0] * 100 + [1, 2, 3, 4, 5])
    assert largest_remainder(21, torch.bincount(labels)).tolist() == [20, 1, 0, 0, 0, 0]
    train, test = cut_test([f"{i:03d}" for i in range(105)], labels, [""] * 105, 0.2)
    assert torch.bincount(labels[train]).tolist() == [79, 1, 1, 1, 1, 1]
    assert len(test) == 21
    left, held = hold_out(pool_of(labels.tolist()), 0.2, seed=7)
    assert held is not None
    assert left.class_counts().tolist() == [79, 1, 1, 1, 1, 1]


@given(st.permutations(range(30)))
def test_the_order_of_the_source_has_no_effect(order: list[int]) -> None:
    labels, ids = [i % 3 for i in range(30)], [f"s{i}" for i in range(30)]
    _, expected = hold_out(pool_of(labels, ids), 0.3, seed=5)
    _, held = hold_out(pool_of([labels[i] for i in order], [ids[i] for i in order]), 0.3, seed=5)
    assert held is not None
    assert expected is not None
    assert held.ids_of(held.rows) == expected.ids_of(expected.rows)


def test_the_seed_matters_and_the_global_state_does_not() -> None:
    pool = pool_of([0, 1] * 50)
    before = torch.get_rng_state()
    parts = [hold_out(pool, 0.2, seed=seed)[1] for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    drawn = [part.rows.tolist() for part in parts if part is not None]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_share_0_holds_nothing_out() -> None:
    pool = pool_of([0, 1])
    assert hold_out(pool, 0.0, seed=0) == (pool, None)


@pytest.mark.parametrize("share", [-0.1, 1.0, 20.0, float("nan")])
def test_a_share_out_of_reach_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"share is .*; it must lie in \[0, 1\)"):
        hold_out(pool_of([0, 1]), share, seed=0)


def test_a_view_is_split_within_itself() -> None:
    view = pool_of([i % 2 for i in range(20)]).only(torch.arange(10, 20))
    train, held = hold_out(view, 0.4, seed=0)
    assert held is not None
    assert sorted(train.rows.tolist() + held.rows.tolist()) == list(range(10, 20))
    assert held.class_counts().tolist() == [2, 2]


def test_unlabelled_samples_stay_in_training() -> None:
    train, held = hold_out(pool_of([0, 1] * 5 + [-1] * 10), 0.4, seed=0)
    assert held is not None
    assert held.class_counts().tolist() == [2, 2]
    assert len(train) == 16


def test_a_pool_without_labels_is_split_at_random() -> None:
    _, held = hold_out(Pool.from_arrays(torch.zeros(20, 1)), 0.25, seed=0)
    assert held is not None
    assert len(held) == 5
    assert held.rows.tolist() != list(range(5))


def test_the_held_out_part_stays_clean_when_the_rest_is_corrupted() -> None:
    train, held = hold_out(pool_of([0, 1, 2] * 20), 0.5, seed=0)
    assert held is not None
    expected = held.targets_of(held.rows).clone()
    noisy = corrupt(train, 1.0, seed=0)
    assert torch.equal(held.targets_of(held.rows), expected)
    assert torch.equal(noisy.targets_of(held.rows), expected)
    assert held.noise is None
