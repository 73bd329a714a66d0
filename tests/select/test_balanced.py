"""`balanced` means the same everywhere: each class its share of k by largest remainder, and k exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import class_budgets, share_out
from sartor.select.moderate import Moderate
from sartor.select.random import Random
from sartor.select.samplers import Redraw

BALANCED = [name for name in SELECTORS if "balanced" in SELECTORS.options(name)]
SIZES = st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(any)


def imbalanced(sizes, seed=0):
    """Classes of these sizes, which may be empty, in mixed order, with the history of a training."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    logits, features = rng.normal(size=(len(targets), max(2, len(sizes)))), rng.normal(size=(len(targets), 3))
    history = History(torch.arange(len(targets)) * 2 + 1)
    for _ in range(11):
        history.visit(history.rows, torch.from_numpy(rng.normal(size=logits.shape)), torch.from_numpy(targets))
    members = [Scan.from_arrays(rows=history.rows, logits=rng.normal(size=logits.shape)) for _ in range(2)]
    return Scan.from_arrays(
        logits=logits, features=features, targets=targets, rows=history.rows, history=history, members=members
    )


def counts(scan, rows, classes):
    return np.bincount(scan.targets[scan.at(rows)], minlength=classes).tolist()


def test_the_selectors_that_rank_or_draw_over_all_samples_have_the_option():
    assert {"random", "el2n", "moderate"} <= set(BALANCED)


@pytest.mark.parametrize("name", BALANCED)
@given(sizes=SIZES, share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_every_class_gets_its_share(name, sizes, share, seed):
    scan = imbalanced(sizes, seed)
    k = max(1, round(share * len(scan)))
    subset = SELECTORS.build(f"{name}(balanced=True)").select(scan, k, generator=torch.Generator().manual_seed(seed))
    budgets = class_budgets(scan.targets, k, none_empty=k >= len(scan.targets.unique()))
    assert counts(scan, subset.rows, len(sizes)) == [budgets.get(label, 0) for label in range(len(sizes))]
    assert torch.equal(subset.weights, torch.ones(k))


@given(sizes=SIZES, share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_a_balanced_redraw_keeps_the_shares_too(sizes, share, seed):
    scan = imbalanced(sizes, seed)
    k = max(1, round(share * len(scan)))
    source = torch.Generator().manual_seed(seed)
    subset = Redraw(balanced=True).sample(scan.rows, k, generator=source, targets=scan.targets)
    budgets = class_budgets(scan.targets, k, none_empty=k >= len(scan.targets.unique()))
    assert counts(scan, subset.rows, len(sizes)) == [budgets.get(label, 0) for label in range(len(sizes))]


@pytest.mark.parametrize("name", BALANCED)
def test_rare_classes_get_a_sample_each_and_empty_ones_none(name):
    scan = imbalanced([60, 38, 1, 0, 1])
    selector = SELECTORS.build(f"{name}(balanced=True)")
    source = torch.Generator()
    assert counts(scan, selector.select(scan, 10, generator=source).rows, 5) == [4, 4, 1, 0, 1]
    assert counts(scan, selector.select(scan, 60, generator=source).rows, 5) == [35, 23, 1, 0, 1]
    assert counts(scan, selector.select(scan, 2, generator=source).rows, 5) == [1, 1, 0, 0, 0]
    assert counts(scan, selector.select(scan, 99, generator=source).rows, 5) == [59, 38, 1, 0, 1]


def test_within_its_class_every_sample_is_as_likely_as_any_other():
    scan = imbalanced([10, 20])
    source = torch.Generator().manual_seed(1)
    drawn = torch.zeros(30)
    for _ in range(1000):
        drawn[scan.at(Random(balanced=True).select(scan, 9, generator=source).rows)] += 1
    # Chi-squared of draws without replacement, 28 degrees of freedom; each sample is drawn in 3 of 10.
    assert float(((drawn - 300) ** 2 / (300 * 0.7)).sum()) < 58.3  # p = 0.0007


def test_shared_out_choices_are_those_of_each_class():
    targets = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0])
    assert share_out(targets, 3, lambda members, budget: members[-budget:]).tolist() == [6, 7, 5]


def test_moderate_has_two_names_for_it_and_takes_one():
    scan = imbalanced([50, 30, 5])
    one, other = (
        selector.select(scan, 17, generator=torch.Generator())
        for selector in (Moderate(per_class=True), Moderate(balanced=True))
    )
    assert torch.equal(one.rows, other.rows)
    assert not torch.equal(one.rows, Moderate().select(scan, 17, generator=torch.Generator()).rows)
    with pytest.raises(ConfigError, match="per_class and balanced both give each class its share"):
        Moderate(per_class=True, balanced=True)


def test_a_balanced_draw_needs_labels():
    assert Random().needs == set()
    assert Random(balanced=True).needs == {"targets"}
    with pytest.raises(SelectionError, match="the scan has no targets"):
        Random(balanced=True).select(Scan.from_arrays(rows=torch.arange(9)), 3, generator=torch.Generator())
    with pytest.raises(SelectionError, match="a balanced draw needs the labels"):
        Redraw(balanced=True).sample(torch.arange(9), 3, generator=torch.Generator())
