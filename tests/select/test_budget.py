"""Budgets are met exactly and share k as the classes share the pool."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import SelectionError
from sartor.seen import Scan
from sartor.select.budget import check_budget, class_budgets, members_by_class


def targets_of(*sizes):
    return torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8), share=st.floats(0, 1), none_empty=st.booleans())
def test_they_add_up_to_k_and_no_class_gives_more_than_it_has(sizes, share, none_empty):
    n = sum(sizes)
    k = max(len(sizes), round(share * n))
    budgets = class_budgets(targets_of(*sizes), k, none_empty=none_empty)
    assert sum(budgets.values()) == k
    for label, size in enumerate(sizes):
        assert none_empty <= budgets[label] <= size
        assert abs(budgets[label] - k * size / n) < (len(sizes) if none_empty else 1)


def test_unequal_classes_get_unequal_budgets():
    assert class_budgets(targets_of(900, 100), 500) == {0: 450, 1: 50}


def test_labels_that_are_absent_get_nothing():
    assert class_budgets(torch.tensor([7, 7, 2, 2]), 2) == {2: 1, 7: 1}


def test_a_small_class_takes_its_one_from_the_largest():
    assert class_budgets(targets_of(1000, 300, 1, 1), 13) == {0: 10, 1: 3, 2: 0, 3: 0}
    assert class_budgets(targets_of(1000, 300, 1, 1), 13, none_empty=True) == {0: 8, 1: 3, 2: 1, 3: 1}
    with pytest.raises(SelectionError, match=r"k is 3 but the scan holds 4 classes .*choose k >= 4"):
        class_budgets(targets_of(1000, 300, 1, 1), 3, none_empty=True)


@pytest.mark.parametrize("k", [0, -1, 6])
def test_a_k_out_of_reach_is_refused(k):
    with pytest.raises(SelectionError, match=rf"k is {k}; it must lie in \[1, 5\]"):
        check_budget(Scan.from_arrays(rows=torch.arange(5)), k)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_members_by_class_are_those_of_a_comparison_with_each_label(labels):
    targets = torch.tensor(labels)
    found = members_by_class(targets)
    assert sorted(found) == sorted(set(labels))
    for label, members in found.items():
        assert torch.equal(members, (targets == label).nonzero().squeeze(1))
