"""GradMatch: class by class, budgets exact, weights on one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference import gradmatch as reference
from sartor.errors import ConfigError, SelectionError
from sartor.seen import Scan
from sartor.select.gradmatch import GradMatch, with_fill


def made(sizes, *, classes=None, d=6, seed=0, rows=None):
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(targets)
    logits = rng.normal(size=(n, classes or len(sizes)))
    return Scan.from_arrays(
        logits=logits, features=np.maximum(rng.normal(size=(n, d)) + 0.3, 0), targets=targets, rows=rows
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_class_is_matched_as_the_literal_pursuit_matches_it():
    scan = made([40, 25, 15], rows=np.arange(80) * 3 + 5)
    subset = GradMatch(ridge=0.5).select(scan, 16, generator=generator())
    raw = dict(zip(subset.rows.tolist(), (subset.weights.double() * subset.scale).tolist()))
    assert len(raw) == 16
    for label, budget in enumerate([8, 5, 3]):
        members = (scan.targets == label).nonzero().squeeze(1)
        built = reference.built_gradients(scan.errors(members), scan.features[members], bias=True)
        chosen, weights = reference.pursue(built, budget, 0.5)
        assert len(chosen) == budget
        for place, weight in zip(chosen, weights):
            assert raw[int(scan.rows[members[place]])] == pytest.approx(weight, rel=1e-5)


def test_with_its_scale_the_subset_has_the_gradient_of_the_pool():
    scan = made([300, 200], d=30)
    subset = GradMatch(ridge=0.01).select(scan, 60, generator=generator())
    built = torch.from_numpy(reference.built_gradients(scan.errors(slice(None)), scan.features, bias=True))
    matched = (subset.weights.double() * subset.scale) @ built[scan.at(subset.rows)]
    assert float((matched - built.sum(0)).norm() / built.sum(0).norm()) < 0.05


def test_where_few_samples_suffice_the_rest_is_drawn_at_random():
    scan = Scan.from_arrays(
        logits=np.zeros((10, 2)), features=np.repeat([[1.0], [0.0]], [1, 9], axis=0), targets=[0] * 10, head_bias=False
    )
    draws = [GradMatch().select(scan, 4, generator=generator(seed)) for seed in range(20)]
    assert all(0 in subset.rows and len(subset) == 4 for subset in draws)
    assert len({tuple(subset.rows.tolist()) for subset in draws}) > 1
    assert all(torch.equal(subset.weights, torch.ones(4)) for subset in draws)


def test_the_fill_keeps_the_sum_and_the_proportions_of_the_weights():
    chosen, weights = torch.tensor([4, 1]), torch.tensor([3.0, 1.0], dtype=torch.float64)
    filled, all_weights = with_fill(chosen, weights, n=6, k=5, generator=generator())
    assert filled[:2].tolist() == [4, 1]
    assert len(set(filled.tolist())) == 5
    assert float(all_weights.sum()) == pytest.approx(4.0)
    assert (all_weights / all_weights[1]).tolist() == pytest.approx([3, 1, 2, 2, 2])
    same, untouched = with_fill(chosen, weights, n=6, k=2, generator=generator())
    assert torch.equal(same, chosen)
    assert torch.equal(untouched, weights)


def test_a_class_learnt_by_heart_is_filled_with_plain_weights():
    logits = torch.zeros(12, 2)
    logits[:, 0] = 500
    scan = Scan.from_arrays(logits=logits, features=torch.rand(12, 3), targets=torch.zeros(12, dtype=torch.int64))
    subset = GradMatch().select(scan, 4, generator=generator())
    assert subset.weights.tolist() == [1.0] * 4
    assert subset.scale == pytest.approx(12 / 4)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_degenerate_classes_and_whole_pools_work(ridge):
    scan = made([1, 1, 30, 2])
    for k in (4, 5, 33, 34):
        subset = GradMatch(ridge).select(scan, k, generator=generator())
        assert len(set(subset.rows.tolist())) == k
        assert float(subset.weights.min()) > 0
    with pytest.raises(SelectionError, match="k is 3 but the scan holds 4 classes"):
        GradMatch(ridge).select(scan, 3, generator=generator())


def test_the_ridge_means_the_same_whatever_the_size_of_the_gradients():
    scan = made([50, 50])
    tall = Scan.from_arrays(logits=scan.logits, features=scan.features * 1000, targets=scan.targets, head_bias=False)
    short = Scan.from_arrays(logits=scan.logits, features=scan.features, targets=scan.targets, head_bias=False)
    one, other = (GradMatch().select(each, 12, generator=generator()) for each in (tall, short))
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.weights, other.weights)


def test_rows_are_those_of_the_samples_chosen():
    """Forty groups of equal samples and forty places: every group is found (a shuffled answer finds two thirds)."""
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(40) * rng.uniform(1, 2, 40), 5, axis=0)
    rows = rng.permutation(1000)[:200]
    scan = Scan.from_arrays(
        logits=np.zeros((200, 2)), features=features, targets=np.zeros(200, dtype=int), rows=rows, head_bias=False
    )
    subset = GradMatch(ridge=0.0).select(scan, 40, generator=generator())
    group = dict(zip(rows.tolist(), np.repeat(np.arange(40), 5).tolist()))
    assert len({group[row] for row in subset.rows.tolist()}) == 40


def test_a_negative_ridge_is_refused():
    with pytest.raises(ConfigError, match="ridge is -1"):
        GradMatch(ridge=-1)


def test_importing_the_selectors_changes_no_setting_of_numpy():
    assert np.geterr() == {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
