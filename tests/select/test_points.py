"""Points: blocks of any size give the same numbers, to the last bit, and distances of twins are nothing."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.seen import Scan
from sartor.select.points import Nearest, Points, rounding, squared_distances

SIZES = {"n": st.integers(1, 40), "d": st.integers(1, 9), "tile": st.integers(1, 60), "seed": st.integers(0, 10**6)}
half = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])


def table(n, d, seed, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) * 3).to(dtype)


def tiles(tile):
    return mock.patch("sartor.select.points.TILE", tile)


@half
@given(**SIZES)
def test_blocks_change_no_bit(dtype, n, d, tile, seed):
    features = table(n, d, seed, dtype)
    scan, other = Scan.from_arrays(features=features), torch.from_numpy(np.random.default_rng(seed).normal(size=d))
    whole = squared_distances(features.double().numpy(), other.numpy())
    with tiles(tile):
        points = Points.of(scan)
        blocks = list(points.blocks())
        assert torch.equal(torch.cat([points.read(block) for block in blocks]), features.float())
        assert all(1 <= block.stop - block.start <= max(1, tile // d) for block in blocks)
        assert points.squared_distances(other).tolist() == whole.tolist()
        assert points.squares.tolist() == squared_distances(features.double().numpy(), np.zeros(d)).tolist()
        np.testing.assert_allclose(points.center(), features.double().mean(0), rtol=1e-12, atol=1e-12)
        off = (points.along(other.float()).double() - features.double() @ other.float().double()).abs()
    assert bool(
        (off <= points.squares.sqrt() * float(other.float().double().norm()) * rounding(d, torch.float32)).all()
    )


@half
@given(centres=st.lists(st.integers(1, 6), min_size=1, max_size=3), twins=st.booleans(), **SIZES)
def test_the_nearest_is_that_of_all_centres_one_by_one(dtype, centres, twins, n, d, tile, seed):
    features = table(n, d, seed, dtype)
    rng = np.random.default_rng(seed)
    given = [
        features[rng.integers(0, n, size)].double() if twins else table(size, d, seed + size).double()
        for size in centres
    ]
    with tiles(tile):
        nearest = Nearest(Points.held(features.float()))
        assert nearest.squared.tolist() == [float("inf")] * n
        for some in given:
            nearest.add(some)
    every = [squared_distances(features.double().numpy(), centre.numpy()) for centre in torch.cat(given)]
    assert nearest.squared.tolist() == np.min(every, axis=0).tolist()


def test_points_far_from_the_origin_lose_no_digits():
    """|x|^2 + |y|^2 - 2 <x, y> alone loses them all: points a hundredth apart would be one, or at a root below 0."""
    features = 1e5 + torch.arange(8.0)[:, None] / 64
    nearest = Nearest(Points.held(features.repeat(1, 3)))
    nearest.add(torch.full((1, 3), 1e5, dtype=torch.float64))
    assert nearest.squared.tolist() == [3 * (i / 64) ** 2 for i in range(8)]


@given(many=st.booleans(), **SIZES)
def test_centres_whose_distances_differ_less_than_products_round(many, n, d, tile, seed):
    """The nearest by a product would be one, or the last, of those that are about as near."""
    rng = np.random.default_rng(seed)
    features = np.full((n, d), 2**17) + rng.integers(0, 2, (n, d))
    axes = np.eye(d)[rng.integers(0, d, 12)] * (1 + 1e-9 * rng.normal(size=(12, 1)))
    centres = torch.from_numpy(2**17 + axes)
    nearest = Nearest(Points.held(torch.from_numpy(features).float()))
    with tiles(tile):
        for some in [centres] if many else centres.split(1):
            nearest.add(some)
    every = [squared_distances(features.astype(np.float64), centre.numpy()) for centre in centres]
    assert nearest.squared.tolist() == np.min(every, axis=0).tolist()


def test_a_table_by_columns_gives_the_same_bits():
    """Sums of another order would make twins differ, and a pick would depend on how a file is laid out."""
    features = table(300, 70, 0)
    by_columns = Scan.from_arrays(features=np.asfortranarray(features.numpy()))
    assert not by_columns.features.is_contiguous()
    found = Points.of(by_columns).squared_distances(torch.ones(70, dtype=torch.float64))
    one_by_one = [squared_distances(row[None].double().numpy(), np.ones(70))[0] for row in features]
    assert found.tolist() == one_by_one


def test_a_class_is_read_at_once_and_the_whole_scan_by_the_block():
    features = table(1000, 16, 1, torch.float16)
    reads = []

    class Watched(Scan):
        def features_of(self, index):
            reads.append(len(self.features[index]))
            return super().features_of(index)

    scan = Watched.from_arrays(features=features)
    members = torch.arange(0, 1000, 7)
    assert torch.equal(Points.of(scan, members).read(slice(2, 5)), features[members[2:5]].float())
    assert reads == [len(members)]
    reads.clear()
    with tiles(1600):
        Points.of(scan).center()
    assert reads == [100] * 10
