"""Moderate keeps the exact middle of the distances."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import moderate as reference
from sartor.errors import ConfigError
from sartor.seen import Scan
from sartor.select.moderate import Moderate, distances_to_center, medians, middle_ranks
from sartor.select.points import Points

GENERATOR = torch.Generator()


@given(
    n=st.integers(1, 25),
    d=st.integers(1, 4),
    classes=st.integers(1, 4),
    share=st.floats(0, 1),
    center=st.sampled_from(["median", "mean"]),
    seed=st.integers(0, 10**6),
)
def test_it_keeps_what_the_literal_version_keeps(n, d, classes, share, center, seed):
    rng = np.random.default_rng(seed)
    features, targets = rng.normal(size=(n, d)).astype(np.float32), rng.integers(0, classes, n)
    k = max(1, round(share * n))
    expected = reference.distances(features.tolist(), targets.tolist(), center)
    scan = Scan.from_arrays(features=features, targets=targets)
    np.testing.assert_allclose(distances_to_center(scan, center=center), expected, rtol=1e-9, atol=1e-12)
    subset = Moderate(center=center).select(scan, k, generator=GENERATOR)
    if len(np.unique(np.round(expected, 9))) == n:  # two samples of a class lie equally far from their centre
        assert subset.rows.tolist() == reference.window(expected, k)
    assert len(subset) == k


@given(n=st.integers(1, 30), share=st.floats(0, 1), values=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_equal_scores_rank_by_position_and_the_window_is_exact(n, share, values, seed):
    scores = np.random.default_rng(seed).integers(0, values, n).astype(float)
    k = round(share * n)
    assert sorted(middle_ranks(torch.from_numpy(scores), k).tolist()) == reference.window(scores.tolist(), k)


def test_the_middle_by_hand():
    # One class, median 10. Ranked by distance the rows are 4 5 8 6 3 2 1 0 7; the middle three of nine are 6, 3, 2.
    features = torch.tensor([0.0, 1, 3, 6, 10, 11, 13, 30, 12])[:, None]
    scan = Scan.from_arrays(features=features, targets=[0] * 9)
    assert distances_to_center(scan).tolist() == [10, 9, 7, 4, 0, 1, 3, 20, 2]
    assert Moderate().select(scan, 3, generator=GENERATOR).rows.tolist() == [2, 3, 6]


def test_the_median_is_less_drawn_by_outliers_than_the_mean():
    scan = Scan.from_arrays(features=torch.tensor([[0.0], [1], [2], [97]]), targets=[0] * 4)
    assert distances_to_center(scan, center="median").tolist() == [1.5, 0.5, 0.5, 95.5]
    assert distances_to_center(scan, center="mean").tolist() == [25, 24, 23, 72]


def test_a_class_with_one_sample_is_its_own_centre():
    """A prototype that is squeezed to one number would be at [5, 5] instead of [0, 10]."""
    scan = Scan.from_arrays(features=torch.tensor([[0.0, 10], [3, 3], [5, 5]]), targets=[0, 1, 1])
    assert distances_to_center(scan).tolist() == pytest.approx([0, 2**0.5, 2**0.5])  # the last bit is the machine's


@given(n=st.integers(1, 30), d=st.integers(1, 5), tile=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_medians_are_those_of_all_columns_at_once(n, d, tile, seed):
    table = np.random.default_rng(seed).integers(-3, 4, (n, d)).astype(np.float32)
    with mock.patch("sartor.select.moderate.TILE", tile):
        found = medians(Points.held(torch.from_numpy(table)))
    assert found.tolist() == np.median(table.astype(np.float64), axis=0).tolist()


def test_features_are_read_one_class_at_a_time():
    """The whole table in float32 would not fit where features are kept in half precision on the disk."""
    rng, targets = np.random.default_rng(0), np.arange(60) % 6
    reads = []

    class Watched(Scan):
        def features_of(self, index):
            reads.append(len(self.features[index]))
            return super().features_of(index)

    scan = Watched.from_arrays(features=rng.normal(size=(60, 4)).astype(np.float16), targets=targets)
    Moderate().select(scan, 20, generator=GENERATOR)
    assert reads == [10] * 6


def test_the_window_lies_over_all_samples_or_over_each_class():
    # Class 0 is tight and class 1 is wide, so the global middle is uneven between them.
    features = torch.cat([torch.linspace(0, 1, 20), torch.linspace(0, 100, 20)])[:, None]
    targets = torch.tensor([0] * 20 + [1] * 20)
    scan = Scan.from_arrays(features=features, targets=targets)
    chosen = Moderate().select(scan, 20, generator=GENERATOR).rows
    assert (targets[chosen] == 0).sum() == 10
    narrow = (
        Moderate().select(Scan.from_arrays(features=features[:30], targets=targets[:30]), 15, generator=GENERATOR).rows
    )
    assert (targets[narrow] == 0).sum() > 10
    for label in (0, 1):
        share = Moderate(per_class=True).select(scan, 20, generator=GENERATOR).rows
        assert (targets[share] == label).sum() == 10


def test_unknown_centres_are_refused():
    with pytest.raises(ConfigError, match=r"center is 'medain'.*Did you mean 'median'"):
        Moderate(center="medain")
