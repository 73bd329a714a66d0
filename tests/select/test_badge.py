"""BADGE: the gradients, distances and draws of the literal version, though no gradient is ever built."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch.overrides import TorchFunctionMode

from reference import badge as reference
from sartor.errors import ConfigError, SelectionError
from sartor.seen import Scan
from sartor.select.badge import BADGE, Seeding, Sides, likely_gradients

SHAPE = {"n": st.integers(1, 25), "c": st.integers(2, 5), "d": st.integers(1, 4), "seed": st.integers(0, 10**6)}
GIVEN = {"bias": st.booleans(), "repeats": st.integers(1, 2), **SHAPE}
WAYS = [(256, 64), (256, 1)]
"""How many are drawn, and how many refused, before all distances are brought up to date."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(n, c, d, seed, *, bias=True, repeats=1, scale=2.0):
    """A scan without labels."""
    rng = np.random.default_rng(seed)
    logits, features = rng.normal(size=(n, c)) * scale, rng.normal(size=(n, d))
    tables = (np.tile(table.astype(np.float32), (repeats, 1)) for table in (logits, features))
    return Scan.from_arrays(**dict(zip(("logits", "features"), tables)), head_bias=bias)


def unsure(*features):
    """A scan of two classes, as likely each; the gradients are the features, with errors -1/2 and 1/2, and no bias."""
    return Scan.from_arrays(logits=np.zeros((len(features), 2)), features=features, head_bias=False)


def built(scan):
    rows = zip(scan.logits.tolist(), scan.features.tolist())
    return [reference.gradient(*row, bias=scan.head_bias) for row in rows]


def seeding(scan):
    return Seeding(len(scan), lambda index: likely_gradients(scan, index))


def limits(pending, refusals, tile=2**18):
    """Set how many draws come between two looks at everything, and the size of a block."""
    changed = ExitStack()
    for name, value in (("PENDING", pending), ("REFUSALS", refusals), ("TILE", tile)):
        changed.enter_context(mock.patch(f"sartor.select.badge.{name}", value))
    return changed


def statistic(counts, expected, trials):
    """Pearson's chi-square; infinite where something was drawn that cannot be."""
    if set(counts) - set(expected):
        return float("inf")
    return sum((counts[case] - trials * share) ** 2 / (trials * share) for case, share in expected.items())


@given(scale=st.sampled_from([0.0, 1.0, 30.0]), **GIVEN)
def test_gradients_are_those_of_the_likeliest_class(n, c, d, seed, bias, repeats, scale):
    scan = made(n, c, d, seed, bias=bias, repeats=repeats, scale=scale)
    gradients = likely_gradients(scan, slice(None))
    outer = gradients.errors.double()[:, :, None] * gradients.inputs.double()[:, None, :]
    expected = torch.tensor(built(scan), dtype=torch.float64)
    torch.testing.assert_close(outer.flatten(1), expected, rtol=1e-5, atol=1e-30)


@given(share=st.floats(0, 1), pending=st.integers(1, 6), refusals=st.integers(1, 4), tile=st.integers(1, 60), **GIVEN)
def test_distances_are_those_between_built_gradients(n, c, d, seed, bias, repeats, share, pending, refusals, tile):
    scan = made(n, c, d, seed, bias=bias, repeats=repeats)
    k = max(1, round(share * n))
    with limits(pending, refusals, tile):
        state = seeding(scan)
        chosen = state.grow(seed % len(scan), k, generator=generator(seed))
        state._bring_up_to_date()
    expected = torch.tensor(reference.to_nearest(built(scan), chosen.tolist()), dtype=torch.float64)
    longest = Sides.of(likely_gradients(scan, slice(None))).squares.max()
    torch.testing.assert_close(state.squared, expected, rtol=1e-4, atol=1e-12 * float(longest))
    assert len(chosen.unique()) == k


@given(share=st.floats(0, 1), tile=st.integers(1, 60), start=st.sampled_from(["longest", "random"]), **GIVEN)
def test_with_every_distance_up_to_date_the_draws_are_the_literal_ones(
    n, c, d, seed, bias, repeats, share, tile, start
):
    """For the same random numbers: all until no gradient differs from those drawn."""
    scan = made(n, c, d, seed, bias=bias, repeats=repeats)
    k, points, draws = max(1, round(share * n * repeats)), built(scan), generator(seed)
    first = int(torch.randint(len(scan), (1,), generator=draws)) if start == "random" else reference.longest(points)
    uniforms = iter(lambda: float(torch.rand(2, generator=draws, dtype=torch.float64)[0]), None)
    expected = reference.seeded(points, k, first, uniforms)
    with limits(1, 1, tile):
        rows = BADGE(start).select(scan, k, generator=generator(seed)).rows.tolist()
    assert set(expected) <= set(rows)
    assert len(expected) == min(k, n)
    assert len(rows) == k


# The gradients of the second and third lie close together and far from the first, the longest.
APART = unsure([5.0, 0.0], [0.0, 4.0], [0.0, 4.5], [1.0, 1.0], [3.0, 0.0])


@pytest.mark.parametrize(("pending", "refusals"), WAYS)
def test_second_and_third_draws_follow_the_squared_distances(pending, refusals):
    """Chances by the distance itself, or by distances that are not brought up to date, are seen by this test."""
    points, trials, draws, counts = built(APART), 600, generator(), Counter()
    with limits(pending, refusals):
        for _ in range(trials):
            counts[tuple(seeding(APART).grow(0, 3, generator=draws).tolist()[1:])] += 1
    expected = reference.chances(points, 0)
    bound = chi2.ppf(0.9999, len(expected) - 1)
    assert statistic(counts, expected, trials) < bound
    for faulty in (reference.chances(points, 0, power=1), reference.chances(points, 0, stale=True)):
        assert statistic(counts, faulty, trials) > 3 * bound, "this test must see the fault"


def test_chances_by_hand():
    """|g - g'|^2 is (h - h')^2 / 2: 8 and 2 from the first, the longest; after the third, the second is 2 from it."""
    scan = unsure([4.0], [0.0], [2.0])
    state = seeding(scan)
    assert state.grow(0, 1, generator=generator()).tolist() == [0]
    state._bring_up_to_date()
    torch.testing.assert_close(state.squared, torch.tensor([0.0, 8.0, 2.0], dtype=torch.float64))
    state._take(2, state._one(2))
    state._bring_up_to_date()
    torch.testing.assert_close(state.squared, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))
    expected = reference.chances(built(scan), 0)
    assert expected == pytest.approx({(1, 2): 0.8, (2, 1): 0.2})


def test_the_first_is_the_one_with_the_longest_gradient_of_equals_the_lowest():
    """Norms by hand, with a bias: |e| sqrt(|h|^2 + 1) with |e|^2 of 1/2 where both are as likely, of 1/8 at 3 to 1."""
    logits = np.log([[1.0, 1.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 3.0]])
    scan = Scan.from_arrays(logits=logits, features=[[1.0], [2.0], [-3.0], [3.0], [6.0]], rows=[3, 5, 8, 9, 11])
    found = Sides.of(likely_gradients(scan, slice(None))).squares
    torch.testing.assert_close(found, torch.tensor([1.0, 0.625, 5.0, 5.0, 4.625], dtype=torch.float64))
    for seed in range(5):
        assert BADGE().select(scan, 1, generator=generator(seed)).rows.tolist() == [8]


def test_a_random_start_is_uniform():
    scan, draws, trials = unsure([9.0], [1.0], [2.0], [0.0]), generator(), 400
    counts = Counter(int(BADGE("random").select(scan, 1, generator=draws).rows) for _ in range(trials))
    assert statistic(counts, dict.fromkeys(range(4), 0.25), trials) < chi2.ppf(0.9999, 3)


@pytest.mark.parametrize(("pending", "refusals"), WAYS)
def test_copies_are_not_drawn_while_others_are_left(pending, refusals):
    """Squared distances by inner products end as 1e-16 or so between copies: then the rest is no uniform draw."""
    scan = made(30, 7, 600, seed=3, repeats=6)
    for seed in range(2):
        with limits(pending, refusals):
            state = seeding(scan)
            chosen = state.grow(0, 30, generator=generator(seed))
            state._bring_up_to_date()
        assert (chosen % 30).unique().tolist() == list(range(30))
        assert not state.squared.any()


def test_those_drawn_are_not_drawn_again_however_wrong_a_distance_is():
    with mock.patch("sartor.select.badge.RESOLUTION", -1.0):
        state = seeding(made(12, 3, 4, seed=0))
        chosen = state.grow(0, 7, generator=generator())
        state._bring_up_to_date()
    assert len(chosen.unique()) == 7
    assert (state.squared == 0).nonzero().squeeze(1).tolist() == sorted(chosen.tolist())


@pytest.mark.parametrize("start", ["longest", "random"])
def test_where_no_gradient_differs_the_rest_is_drawn_uniformly(start):
    """All sure: softmax is one-hot, all gradients are 0, and so is the sum of the squared distances."""
    logits = np.full((12, 3), -300.0)
    logits[:, 1] = 300
    scan = Scan.from_arrays(logits=logits, features=np.arange(24.0).reshape(12, 2))
    assert not likely_gradients(scan, slice(None)).norms().any()
    drawn = {tuple(BADGE(start).select(scan, 5, generator=generator(seed)).rows.tolist()) for seed in range(20)}
    assert all(len(set(rows)) == 5 for rows in drawn)
    assert len(drawn) > 10
    assert set().union(*drawn) == set(range(12))


def test_a_few_that_differ_come_first_and_copies_fill_up():
    scan = unsure([0.0], [0.0], [3.0], [0.0], [0.0], [2.0])
    for seed in range(10):
        rows = BADGE().select(scan, 4, generator=generator(seed)).rows.tolist()
        assert {2, 5} < set(rows)
        assert len(set(rows)) == 4


def test_labels_change_nothing():
    """With the gradients of the given labels, a sample that is wrongly labelled would be longest."""
    logits, features = np.array([[6.0, 0.0], [1.0, 0.0], [5.0, 0.0]]), np.ones((3, 2))
    bare = Scan.from_arrays(logits=logits, features=features)
    labelled = Scan.from_arrays(logits=logits, features=features, targets=[1, 0, 0])
    assert labelled.errors(slice(None)).norm(dim=1).argmax() == 0
    for scan in (bare, labelled):
        assert BADGE().select(scan, 1, generator=generator()).rows.tolist() == [1]
    assert BADGE().needs == {"logits", "features"}


def test_the_error_of_a_sure_network_keeps_its_digits():
    """In float32 p - 1 is 0 for a gap of 20, or wrong in its first digits for one of 14."""
    scan = Scan.from_arrays(logits=[[20.0, 0.0, 0.0], [0.0, 14.0, 0.0]], features=np.ones((2, 1)))
    errors = likely_gradients(scan, slice(None)).errors
    expected = torch.tensor([[-2.0, 1.0, 1.0], [1.0, -2.0, 1.0]]) * torch.tensor([[20.0], [14.0]]).neg().exp()
    torch.testing.assert_close(errors, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_the_size_of_gradients_does_not_matter(scale):
    rng = np.random.default_rng(0)
    logits, features = rng.normal(size=(60, 4)), rng.normal(size=(60, 5)).astype(np.float32)
    plain, scaled = (
        BADGE().select(
            Scan.from_arrays(logits=logits, features=features * size, head_bias=False), 20, generator=generator()
        )
        for size in (np.float32(1), np.float32(2.0 ** round(np.log2(scale))))
    )
    assert torch.equal(plain.rows, scaled.rows)


class Largest(TorchFunctionMode):
    """Note how many numbers the largest tensor holds that an operation returns."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return result


def test_gradients_are_never_built_and_no_table_of_distances_is_kept():
    """Built, the gradients of ImageNet take 10 TB, and k rows of distances of half of CIFAR-10 5 GB."""
    n, k, c, d = 400, 100, 40, 30
    scan = made(n, c, d, seed=0)
    with limits(8, 8, 2000), Largest() as largest:
        BADGE().select(scan, k, generator=generator())
    assert largest.numbers <= n * c < n * k < n * c * d


def test_tables_are_read_by_the_block():
    reads = []

    class Watched(Scan):
        def features_of(self, index):
            reads.append(len(self.features[index]))
            return super().features_of(index)

    features = torch.randn(3000, 5, generator=generator()).half()
    scan = Watched.from_arrays(features=features, logits=features[:, :3])
    with mock.patch("sartor.select.badge.TILE", 256 * 400):
        seeding(scan).grow(0, 40, generator=generator())
    assert max(reads) == 400


def test_half_precision_products_elsewhere_do_not_reach_it():
    scan = made(200, 4, 20, seed=1)
    expected = BADGE().select(scan, 60, generator=generator()).rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(BADGE().select(scan, 60, generator=generator()).rows, expected)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match=r"start is 'longes'.*Did you mean 'longest'"):
        BADGE("longes")
    with pytest.raises(SelectionError, match="works with any head"):
        BADGE().select(made(5, 2, 2, 0, bias=None), 2, generator=generator())


def test_its_arithmetic_is_what_it_reports():
    subset = BADGE().select(made(50, 4, 6, seed=0), 9, generator=generator())
    assert subset.flops == BADGE().arithmetic(50, 9, classes=4, features=6) == 2 * 50 * 10 * 10
