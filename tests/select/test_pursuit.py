"""The pursuit picks what the literal one picks, and is optimal on what it holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import gradmatch as reference
from sartor.seen import Scan
from sartor.select.cholesky import Cholesky
from sartor.select.head_gradients import HeadGradients
from sartor.select.pursuit import pursue


def make(n, c, d, seed, *, kind="normal", bias=True):
    """Errors of a class and features: of a general kind, or as degenerate as they come."""
    rng = np.random.default_rng(seed)
    logits, features = rng.normal(size=(n, c)) * 2, rng.normal(size=(n, d))
    if kind == "relu":
        features = np.maximum(features + 0.5, 0)
    if kind == "grid":
        logits, features = rng.integers(0, 2, (n, c)), rng.integers(-1, 2, (n, d))
    if kind == "twins":
        twin = rng.integers(0, max(1, n // 3), n)
        logits, features = logits[twin], features[twin]
    if kind == "learnt":
        logits[:, 0] += 60
    if kind == "huge":
        features *= 1e19
    if kind == "some zero":
        features[rng.random(n) < 0.5] = 0
        logits[rng.random(n) < 0.3, 0] = 300
    targets = np.zeros(n, dtype=np.int64)
    return Scan.from_arrays(logits=logits, features=features, targets=targets, head_bias=bias)


def both(scan, k, ridge):
    gradients = HeadGradients.of(scan, torch.arange(len(scan)))
    chosen, weights = pursue(gradients, k, ridge=ridge)
    built = reference.built_gradients(scan.errors(slice(None)), scan.features, bias=scan.head_bias)
    return gradients, built, chosen, weights


def spread(n, chosen, weights):
    full = np.zeros(n)
    full[np.asarray(chosen)] = np.asarray(weights)
    return full


KINDS = ("normal", "relu", "grid", "twins", "learnt", "huge", "some zero")


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 24),
    c=st.integers(2, 4),
    d=st.integers(1, 6),
    share=st.floats(0, 1),
    ridge=st.sampled_from([0.02, 0.5, 3.0]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_picks_and_weights_are_those_of_the_literal_pursuit(kind, n, c, d, share, ridge, bias, seed):
    k = max(1, round(share * n))
    _, built, chosen, weights = both(make(n, c, d, seed, kind=kind, bias=bias), k, ridge)
    expected, expected_weights = reference.pursue(built, k, ridge)
    assert sorted(chosen.tolist()) == expected
    np.testing.assert_allclose(spread(n, chosen, weights)[expected], expected_weights, rtol=1e-6)


@given(
    kind=st.sampled_from(("normal", "relu", "twins")),
    n=st.integers(2, 24),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_without_ridge_the_match_is_as_good(kind, n, share, seed):
    k = max(1, round(share * n))
    _, built, chosen, weights = both(make(n, 3, 2, seed, kind=kind), k, 0.0)
    expected, expected_weights = reference.pursue(built, k, 0.0)
    scale = np.linalg.norm(built, axis=1).sum() ** 2
    ours = reference.objective(built, spread(n, chosen, weights), 0.0)
    theirs = reference.objective(built, spread(n, expected, expected_weights), 0.0)
    assert ours == pytest.approx(theirs, abs=1e-8 * scale)
    assert len(set(chosen.tolist())) == len(chosen) <= k


@pytest.mark.parametrize(("n", "c", "d", "k", "seed"), [(300, 3, 8, 60, 0), (400, 10, 16, 80, 1), (200, 2, 30, 40, 2)])
def test_larger_classes_agree_although_samples_come_and_go(n, c, d, k, seed, monkeypatch):
    gone = []
    monkeypatch.setattr(Cholesky, "delete", _counting(Cholesky.delete, gone))
    _, built, chosen, weights = both(make(n, c, d, seed), k, 0.01)
    expected, expected_weights = reference.pursue(built, k, 0.01)
    assert gone, "this case must let samples go, or it tests nothing"
    assert sorted(chosen.tolist()) == expected
    ours = reference.objective(built, spread(n, chosen, weights), 0.01)
    theirs = reference.objective(built, spread(n, expected, expected_weights), 0.01)
    assert ours == pytest.approx(theirs, rel=1e-9)


def _counting(method, calls):
    def counted(self, place):
        calls.append(place)
        return method(self, place)

    return counted


@given(n=st.integers(2, 20), ridge=st.sampled_from([0.1, 1.0]), seed=st.integers(0, 10**6))
def test_where_it_ends_early_no_other_sample_would_help(n, ridge, seed):
    scan = make(n, 3, 4, seed)
    _, built, chosen, weights = both(scan, n, ridge)
    full = spread(n, chosen, weights)
    slope = built @ (built.sum(0) - full @ built) - ridge * (built**2).sum(1).mean() * full
    tight = 1e-9 * np.linalg.norm(built, axis=1).max() * np.linalg.norm(built, axis=1).sum()
    np.testing.assert_allclose(slope[full > 0], 0, atol=tight)
    assert (slope[full == 0] <= tight).all()


def test_two_orthogonal_gradients_by_hand():
    # Errors (1, 0) and (0, 1), inputs 3 and 4: gradients of squared norms 9 and 16, mean 12.5, ridge 0.5 * 12.5 = 6.25.
    gradients = HeadGradients(torch.eye(2), torch.tensor([[3.0], [4.0]]))
    chosen, weights = pursue(gradients, 2, ridge=0.5)
    assert chosen.tolist() == [1, 0]
    assert weights.tolist() == pytest.approx([16 / 22.25, 9 / 15.25])


def test_one_sample_can_stand_for_its_twins():
    gradients = HeadGradients(torch.ones(5, 1), torch.full((5, 1), 2.0))
    chosen, weights = pursue(gradients, 1, ridge=0.0)
    assert chosen.tolist() == [0]
    assert weights.tolist() == pytest.approx([5.0])


def test_twins_share_the_weight_under_a_ridge_and_none_is_taken_twice():
    gradients = HeadGradients(torch.ones(5, 1), torch.full((5, 1), 2.0))
    chosen, weights = pursue(gradients, 3, ridge=0.5)
    assert chosen.tolist() == [0, 1, 2]
    assert weights.tolist() == pytest.approx([20 / (12 + 2)] * 3)


def test_gradients_that_are_zero_are_never_chosen():
    gradients = HeadGradients(torch.tensor([[0.0], [1.0], [0.0]]), torch.ones(3, 1))
    assert pursue(gradients, 3, ridge=0.5)[0].tolist() == [1]
    assert pursue(HeadGradients(torch.zeros(4, 3), torch.ones(4, 2)), 2, ridge=0.5)[0].tolist() == []


def test_gradients_that_cancel_need_no_sample():
    gradients = HeadGradients(torch.tensor([[1.0], [-1.0]]), torch.ones(2, 1))
    assert pursue(gradients, 2, ridge=0.5)[0].tolist() == []


def test_past_the_rank_it_stops_where_peers_shift_weights_to_others():
    rng = np.random.default_rng(0)
    gradients = HeadGradients(torch.ones(40, 1), torch.from_numpy(np.abs(rng.normal(size=(40, 3)))).float())
    chosen, weights = pursue(gradients, 30, ridge=0.0)
    assert 1 <= len(chosen) <= 3
    matched = HeadGradients(gradients.errors[chosen], gradients.inputs[chosen]).total(weights)
    torch.testing.assert_close(matched, gradients.total(), rtol=1e-6, atol=0)


def test_scale_of_the_gradients_changes_nothing():
    scan = make(30, 3, 5, 7, kind="relu")
    gradients = HeadGradients.of(scan, torch.arange(30))
    chosen, weights = pursue(gradients, 10, ridge=0.5)
    small = HeadGradients(gradients.errors * 2.0**-80, gradients.inputs * 2.0**40)
    other, other_weights = pursue(small, 10, ridge=0.5)
    assert chosen.tolist() == other.tolist()
    torch.testing.assert_close(weights, other_weights)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), data=st.data())
def test_the_factor_follows_a_matrix_that_grows_and_shrinks(seed, size, data):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(size, size + 2))
    gram = points @ points.T + 0.1 * np.eye(size)
    factor, kept = Cholesky(size), []
    for new in range(size):
        assert factor.append(gram[new, kept], gram[new, new])
        kept.append(new)
        if len(kept) > 1 and data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(kept) - 1))
            factor.delete(place)
            kept.pop(place)
        right = rng.normal(size=len(kept))
        np.testing.assert_allclose(gram[np.ix_(kept, kept)] @ factor.solve(right), right, atol=1e-8)


def test_the_factor_refuses_a_column_that_depends_on_the_others():
    factor = Cholesky(2)
    assert factor.append(np.zeros(0), 4.0)
    assert not factor.append(np.array([6.0]), 9.0)
    assert factor.size == 1


@pytest.mark.parametrize("seed", [4066, 13000, 16488])
def test_a_sample_let_go_comes_back_when_the_next_one_let_go_makes_room(seed):
    # Found by search: in one step two samples go, after which the first of them is welcome again.
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(24, 7)) @ rng.normal(size=(7, 10)) + 0.1 * rng.normal(size=(24, 10)) + rng.normal(size=10)
    gradients = HeadGradients(torch.ones(24, 1), torch.from_numpy(points).float())
    built = gradients.inputs.double().numpy()
    for k in range(2, 25):
        chosen, weights = pursue(gradients, k, ridge=1e-3)
        expected, expected_weights = reference.pursue(built, k, 1e-3)
        assert sorted(chosen.tolist()) == expected
        np.testing.assert_allclose(spread(24, chosen, weights)[expected], expected_weights, rtol=1e-5)


@pytest.mark.parametrize("seed", [33, 72, 189])
def test_steps_that_gain_nothing_end_it(seed):
    # More samples than the rank and almost no ridge: past some point a step changes the objective by rounding only.
    points = np.maximum(np.random.default_rng(seed).normal(size=(24, 3)), 0)
    gradients = HeadGradients(torch.ones(24, 1), torch.from_numpy(points).float())
    chosen, _ = pursue(gradients, 24, ridge=1e-9)
    assert sorted(chosen.tolist()) == reference.pursue(gradients.inputs.double().numpy(), 24, 1e-9)[0]
    assert len(chosen) < 24


@pytest.mark.parametrize("seed", range(5))
def test_equal_inner_products_go_to_the_lower_position_however_they_are_rounded(seed):
    # All orders of five numbers have the same inner product with their sum, but not in floating point.
    rng = np.random.default_rng(seed)
    points = rng.permutation(list(itertools.permutations(rng.random(5) * 3)))
    gradients = HeadGradients(torch.full((120, 1), 0.3), torch.from_numpy(points).float())
    assert pursue(gradients, 1, ridge=0.5)[0].tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_float32_does_not_decide(seed):
    # Eight directions, twelve copies each, the copies longer by a float32 step or two: only float64 tells them apart.
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(size=(8, 64)) + 1, 12, axis=0) * (
        1 + 1.2e-7 * rng.permuted(np.tile(np.arange(12), (8, 1)), axis=1).ravel()[:, None]
    )
    gradients = HeadGradients(torch.ones(96, 1), torch.from_numpy(points).float())
    chosen, _ = pursue(gradients, 20, ridge=0.5)
    assert sorted(chosen.tolist()) == reference.pursue(gradients.inputs.double().numpy(), 20, 0.5)[0]


def test_few_are_looked_at_again_where_norms_differ_a_lot(monkeypatch):
    # A network that has learnt most of its data: many short gradients, a few long ones; the short ones' float32 errors
    # are as short, and must not be taken for those of the longest.
    looked_at = []

    def along(self, rows, columns, weights):
        looked_at.append(len(rows))
        return original(self, rows, columns, weights)

    original = HeadGradients.along
    monkeypatch.setattr(HeadGradients, "along", along)
    rng = np.random.default_rng(0)
    errors = torch.from_numpy(rng.random((1000, 1)) * 10 ** rng.uniform(-6, 0, (1000, 1))).float()
    inputs = torch.from_numpy(rng.random((1000, 12)) + 0.2).float()
    chosen, _ = pursue(HeadGradients(errors, inputs), 300, ridge=0.5)
    assert len(chosen) == 300
    assert np.mean(looked_at) < 30


def test_a_sum_is_built_where_that_is_less_work():
    draws = torch.Generator().manual_seed(0)
    gradients = HeadGradients(torch.randn(50, 3, generator=draws), torch.randn(50, 4, generator=draws))
    for rows, columns in ((torch.tensor([2]), torch.tensor([5])), (torch.arange(40), torch.arange(10, 50))):
        weights = torch.rand(len(columns), generator=draws, dtype=torch.float64)
        torch.testing.assert_close(
            gradients.along(rows, columns, weights), gradients.gram(rows, columns) @ weights, rtol=1e-12, atol=1e-12
        )


def test_a_class_of_equal_samples_costs_no_more_than_any_other(monkeypatch):
    looked_at = []

    def gram(self, rows, columns):
        looked_at.append(len(rows))
        return original(self, rows, columns)

    original = HeadGradients.gram
    monkeypatch.setattr(HeadGradients, "gram", gram)
    chosen, _ = pursue(HeadGradients(torch.ones(50, 2), torch.ones(50, 3)), 10, ridge=0.5)
    assert chosen.tolist() == list(range(10))
    assert max(looked_at) == 1
