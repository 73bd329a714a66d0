"""Herding: the picks of the literal version, in its order, with blocks, twins, ties and half precision."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import herding as reference
from sartor.errors import SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import class_budgets
from sartor.select.herding import Herding, herd
from sartor.select.points import Points

GENERATOR = torch.Generator()
SHAPE = {"d": st.integers(1, 5), "share": st.floats(0, 1), "tile": st.integers(1, 40), "seed": st.integers(0, 10**6)}


def whole_numbers(n, d, spread, seed, *, offset=0):
    return np.random.default_rng(seed).integers(-spread, spread + 1, (n, d)) + offset


def farthest(features, k):
    """The faulty form: each time the one that takes the mean of those chosen farthest from the mean of all."""
    mean, chosen, total = features.mean(0), [], 0.0
    for step in range(1, k + 1):
        gaps = ((step * mean - total - features) ** 2).sum(1)
        gaps[chosen] = -torch.inf
        chosen.append(int(gaps.argmax()))
        total = total + features[chosen[-1]]
    return chosen


def off(features, chosen):
    """Return how far the mean of those chosen is from the mean of all, as a share of its length."""
    return float((features[chosen].mean(0) - features.mean(0)).norm() / features.mean(0).norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@given(power=st.integers(0, 4), spread=st.sampled_from([0, 1, 3, 50]), offset=st.sampled_from([0, 900]), **SHAPE)
def test_picks_are_the_literal_ones_with_twins_and_ties(dtype, power, spread, offset, d, share, tile, seed):
    """Means of 2^m whole numbers are exact, so that ties are ties."""
    points = whole_numbers(2**power, d, spread, seed, offset=offset)
    k = max(1, round(share * len(points)))
    scan = Scan.from_arrays(features=torch.from_numpy(points).to(dtype))
    with mock.patch("sartor.select.points.TILE", tile):
        assert herd(Points.of(scan), k).tolist() == reference.herd(points.tolist(), k)


@given(n=st.integers(1, 30), **SHAPE)
def test_each_pick_is_the_nearest_but_for_the_last_digits(n, d, share, tile, seed):
    features = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    points, k = features.astype(np.float64).tolist(), max(1, round(share * n))
    with mock.patch("sartor.select.points.TILE", tile):
        chosen = herd(Points.held(torch.from_numpy(features)), k).tolist()
    assert len(set(chosen)) == k
    for step in range(k):
        free = set(range(n)) - set(chosen[:step])
        best = min(reference.gap(points, [*chosen[:step], i]) for i in free)
        assert reference.gap(points, chosen[: step + 1]) <= best * (1 + 1e-9) + 1e-9


def test_the_order_by_hand():
    """The mean is 6: 6, 5 for 12 - 6, 4 for 18 - 11, 15 for 24 - 15; by distance to the mean, 0 would be fourth."""
    points = Points.held(torch.tensor([0.0, 4, 5, 6, 15])[:, None])
    assert herd(points, 5).tolist() == [3, 2, 1, 4, 0]
    by_distance = (points.squared_distances(points.center())).argsort(stable=True)
    assert by_distance.tolist() == [3, 2, 1, 0, 4], "this test must see what one mean for all steps would choose"


def test_it_takes_the_nearest_and_not_the_farthest():
    """An argmax in the place of an argmin leaves the mean far off, farther than a random choice does."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 20, generator=generator).relu()
    scan = Scan.from_arrays(features=features)
    chosen = Herding(balanced=False).select(scan, 50, generator=GENERATOR).rows
    random = torch.randperm(500, generator=generator)[:50]
    assert off(features, chosen) < off(features, random) / 5
    assert off(features, farthest(features, 50)) > off(features, random), "this test must see the fault"


def test_differences_below_float32_decide():
    """Products in float32 of points far from the origin are all rounding; picks made by them are others."""
    points = whole_numbers(64, 3, 40, 1, offset=2**17)
    features = torch.from_numpy(points).float()
    assert herd(Points.held(features), 20).tolist() == reference.herd(points.tolist(), 20)
    mean = features.mean(0)
    single = ((features * features).sum(1) - 2 * features @ mean).argmin()
    exact = ((features - mean).double() ** 2).sum(1).argmin()
    assert single != exact, "this test must see the fault"


def test_a_sample_is_taken_once_where_all_are_twins_of_the_mean():
    assert herd(Points.held(torch.ones(5, 2)), 5).tolist() == [0, 1, 2, 3, 4]


def test_each_class_is_herded_by_itself():
    points = whole_numbers(48, 3, 30, 2)
    targets = np.random.default_rng(3).permutation(np.repeat([0, 1, 2], 16))
    scan = Scan.from_arrays(features=points, targets=targets, rows=np.arange(48) * 3 + 5)
    expected = []
    for label, budget in class_budgets(torch.from_numpy(targets), 14).items():
        members = np.flatnonzero(targets == label)
        expected += [int(members[i]) for i in reference.herd(points[members].tolist(), budget)]
    subset = Herding().select(scan, 14, generator=GENERATOR)
    assert scan.at(subset.rows).tolist() == sorted(expected)
    assert subset.weights.tolist() == [1.0] * 14


def test_without_classes_no_label_is_looked_at():
    assert Herding(balanced=False).needs == {"features"}
    assert SELECTORS.build("herding").needs == {"features", "targets"}
    with pytest.raises(SelectionError, match="the scan has no targets"):
        Herding().select(Scan.from_arrays(features=torch.ones(4, 2)), 2, generator=GENERATOR)


def test_the_flops_are_those_of_the_products():
    features = torch.randn(90, 7, generator=torch.Generator().manual_seed(0))
    scan = Scan.from_arrays(features=features, targets=torch.arange(90) % 3)
    assert Herding(balanced=False).select(scan, 30, generator=GENERATOR).flops == 2 * 90 * 7 * (30 + 2)
    assert Herding().select(scan, 30, generator=GENERATOR).flops == 2 * 90 * 7 * (10 + 2)
