"""k-center: the picks of the literal version, in its order, with blocks, twins, ties and half precision."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from reference import kcenter as reference
from sartor.errors import ConfigError, SelectionError
from sartor.seen import Scan
from sartor.select.budget import class_budgets
from sartor.select.kcenter import KCenter, farthest_first
from sartor.select.points import Points

SHAPE = {"d": st.integers(1, 5), "share": st.floats(0, 1), "seed": st.integers(0, 10**6)}
SIZES = {"tile": st.integers(1, 40), "front": st.integers(1, 8), **SHAPE}
half = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def whole_numbers(n, d, spread, seed):
    return np.random.default_rng(seed).integers(-spread, spread + 1, (n, d))


def small(tile, front):
    """Make blocks and fronts so small that several are needed for a few points."""
    both = ExitStack()
    both.enter_context(mock.patch("sartor.select.points.TILE", tile))
    both.enter_context(mock.patch("sartor.select.kcenter.FRONT", front))
    return both


@half
@given(n=st.integers(1, 30), spread=st.sampled_from([0, 1, 3, 50]), start=st.integers(0, 29), **SIZES)
def test_picks_are_the_literal_ones_with_twins_and_ties(dtype, n, spread, start, d, share, tile, front, seed):
    points = whole_numbers(n, d, spread, seed)
    k, first = max(1, round(share * n)), start % n
    scan = Scan.from_arrays(features=torch.from_numpy(points).to(dtype))
    with small(tile, front):
        found = farthest_first(Points.of(scan), k, first=first)
    assert found.tolist() == reference.farthest_first(points.tolist(), k, first)


@half
@given(n=st.integers(1, 20), repeats=st.integers(1, 2), **SIZES)
def test_picks_are_the_literal_ones_of_any_numbers(dtype, n, repeats, d, share, tile, front, seed):
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d))).to(dtype).repeat(repeats, 1)
    k, first = max(1, round(share * len(features))), seed % n
    with small(tile, front):
        found = farthest_first(Points.of(Scan.from_arrays(features=features)), k, first=first)
    assert found.tolist() == reference.farthest_first(features.double().tolist(), k, first)


@given(power=st.integers(0, 4), spread=st.sampled_from([0, 2, 30]), **SIZES)
def test_the_first_is_the_one_nearest_to_the_mean(power, spread, d, share, tile, front, seed):
    """Means of 2^m whole numbers are exact, so that ties are ties."""
    points = whole_numbers(2**power, d, spread, seed)
    k = max(1, round(share * len(points)))
    with small(tile, front):
        subset = KCenter().select(Scan.from_arrays(features=points), k, generator=generator())
    expected = reference.farthest_first(points.tolist(), k, reference.nearest_to_mean(points.tolist()))
    assert subset.rows.tolist() == sorted(expected)


@given(n=st.integers(1, 25), labelled=st.integers(1, 12), spread=st.sampled_from([1, 3, 30]), **SIZES)
def test_labelled_samples_are_centres_from_the_start(n, labelled, spread, d, share, tile, front, seed):
    points, known = whole_numbers(n, d, spread, seed), whole_numbers(labelled, d, spread, seed + 1)
    beside = Scan.from_arrays(features=known, rows=np.arange(100, 100 + labelled))
    scan, k = Scan.from_arrays(features=points, labelled=beside), max(1, round(share * n))
    with small(tile, front):
        subset = KCenter("labelled").select(scan, k, generator=generator())
    assert subset.rows.tolist() == sorted(reference.farthest_first(points.tolist(), k, centres=known.tolist()))


def test_the_order_by_hand():
    """5 is nearest to the mean, 4.75; 0 and 10 are as far, so 0 is next; then 10, and 2 before 7 of the rest."""
    line = torch.tensor([0.0, 10, 5, 2, 7, 4, 5, 5])[:, None]
    assert reference.nearest_to_mean(line.tolist()) == 2
    assert farthest_first(Points.held(line), 8, first=2).tolist() == [2, 0, 1, 3, 4, 5, 6, 7]
    assert KCenter().select(Scan.from_arrays(features=line), 3, generator=generator()).rows.tolist() == [0, 1, 2]


def test_what_is_labelled_already_is_not_chosen_again():
    """A start that ignores the labelled samples takes the one in the middle, and one where labels abound."""
    line = torch.arange(11.0)[:, None]
    beside = Scan.from_arrays(features=[[9.0], [10.0], [8.0]], rows=[20, 21, 22])
    scan = Scan.from_arrays(features=line, labelled=beside)
    assert KCenter("labelled").select(scan, 1, generator=generator()).rows.tolist() == [0]
    assert KCenter("labelled").select(scan, 2, generator=generator()).rows.tolist() == [0, 4]
    assert KCenter().select(scan, 2, generator=generator()).rows.tolist() == [0, 5], "this test must see the fault"


@pytest.mark.parametrize("start", ["center", "random", "labelled"])
def test_no_sample_is_taken_twice_where_all_coincide(start):
    """A first centre that stays at distance 0, not out of the race, is the lowest of the farthest again."""
    beside = Scan.from_arrays(features=np.ones((2, 3)), rows=[10, 11])
    scan = Scan.from_arrays(features=np.ones((6, 3)), labelled=beside)
    for k in range(1, 7):
        assert len(KCenter(start).select(scan, k, generator=generator(k)).rows.unique()) == k


def test_a_random_start_comes_from_the_generator_and_may_be_any_sample():
    scan = Scan.from_arrays(features=torch.arange(4.0)[:, None])
    firsts = [int(KCenter("random").select(scan, 1, generator=generator(seed)).rows) for seed in range(40)]
    assert firsts == [int(torch.randint(4, (1,), generator=generator(seed))) for seed in range(40)]
    assert set(firsts) == {0, 1, 2, 3}


@given(n=st.integers(2, 9), k=st.integers(1, 4), d=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_no_sample_is_farther_than_twice_the_smallest_radius(n, k, d, seed):
    """Gonzalez 1985. Distances that were not brought up to date would break it."""
    points, k = whole_numbers(n, d, 20, seed).tolist(), min(k, n)
    chosen = KCenter().select(Scan.from_arrays(features=points), k, generator=generator()).rows.tolist()
    assert reference.radius(points, chosen) <= 4 * reference.smallest_radius(points, k)


def test_each_class_is_covered_by_itself():
    points, targets = whole_numbers(48, 2, 30, 2), np.random.default_rng(3).permutation(np.repeat([0, 1, 2], 16))
    scan = Scan.from_arrays(features=points, targets=targets, rows=np.arange(48) * 3 + 5)
    expected = []
    for label, budget in class_budgets(torch.from_numpy(targets), 14).items():
        members = np.flatnonzero(targets == label)
        own = points[members].tolist()
        expected += [int(members[i]) for i in reference.farthest_first(own, budget, reference.nearest_to_mean(own))]
    subset = KCenter(balanced=True).select(scan, 14, generator=generator())
    assert scan.at(subset.rows).tolist() == sorted(expected)
    assert subset.weights.tolist() == [1.0] * 14


class Largest(TorchFunctionMode):
    """Note how many numbers the largest tensor holds that an operation returns."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return result


def test_memory_grows_neither_with_n_times_k_nor_with_the_table():
    """A table of the distances of all samples to all chosen ones takes 5 GB for half of CIFAR-10."""
    n, k, d, tile, front = 500, 60, 30, 6000, 40
    features = torch.randn(n, d, generator=generator()).half()
    scan = Scan.from_arrays(features=features)
    with small(tile, front), Largest() as largest:
        KCenter().select(scan, k, generator=generator())
    assert front * d < largest.numbers <= tile < n * d < n * k


def test_features_are_read_by_the_block():
    reads = []

    class Watched(Scan):
        def features_of(self, index):
            reads.append(len(self.features[index]))
            return super().features_of(index)

    scan = Watched.from_arrays(features=torch.randn(3000, 5, generator=generator()).half())
    with mock.patch("sartor.select.points.TILE", 2000):
        KCenter().select(scan, 40, generator=generator())
    assert max(reads) == 400


def test_half_precision_products_elsewhere_do_not_reach_it():
    features = torch.randn(300, 20, generator=generator())
    scan = Scan.from_arrays(features=features)
    expected = KCenter().select(scan, 60, generator=generator()).rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(KCenter().select(scan, 60, generator=generator()).rows, expected)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match=r"start is 'centre'.*Did you mean 'center'"):
        KCenter("centre")
    with pytest.raises(ConfigError, match="balanced goes by the labels"):
        KCenter("labelled", balanced=True)
    beside = Scan.from_arrays(features=np.ones((2, 3)), rows=[10, 11])
    scan = Scan.from_arrays(features=np.ones((6, 4)), labelled=beside)
    with pytest.raises(SelectionError, match="the labelled samples have 3 features, those to choose from 4"):
        KCenter("labelled").select(scan, 2, generator=generator())


def test_it_needs_no_more_than_it_reads():
    assert KCenter().needs == KCenter("random").needs == {"features"}
    assert KCenter(balanced=True).needs == {"features", "targets"}
    assert KCenter("labelled").needs == {"features", "labelled"}
