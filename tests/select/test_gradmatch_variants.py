"""GradMatch by mini-batches, by a class's own logit, and over all samples: each as its literal version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import gradmatch as reference
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select import batch_gradients
from sartor.select.batch_gradients import BatchGradients, mini_batches
from sartor.select.gradmatch import VARIANTS, GradMatch
from sartor.select.pursuit import pursue, pursuit_flops


def made(n, c, d, seed, *, bias=True, rows=None):
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(n, d)) + 0.3, 0)
    targets = np.concatenate([np.arange(c), rng.integers(0, c, n)])[:n]
    logits = rng.normal(size=(n, c)) * 2
    return Scan.from_arrays(logits=logits, features=features, targets=targets, rows=rows, head_bias=bias)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(scan, positions=slice(None)):
    return reference.built_gradients(scan.errors(positions), scan.features[positions], bias=scan.head_bias)


def raw(scan, subset):
    """The solver's own weight of each chosen position."""
    weights = (subset.weights.double() * subset.scale).tolist()
    return dict(zip(scan.at(subset.rows).tolist(), weights))


def mismatch(scan, subset):
    """How far the direction of the subset's gradient is from that of all."""
    total = built(scan).sum(0)
    matched = subset.weights.double().numpy() @ built(scan)[scan.at(subset.rows).numpy()]
    return np.linalg.norm(matched / np.linalg.norm(matched) - total / np.linalg.norm(total))


@given(
    n=st.integers(1, 40),
    c=st.integers(2, 20),
    d=st.integers(1, 6),
    batch_size=st.integers(1, 20),
    share=st.floats(0, 1),
    ridge=st.sampled_from([0.02, 0.5]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_mini_batches_are_matched_as_the_literal_version_matches_them(n, c, d, batch_size, share, ridge, bias, seed):
    scan = made(n, c, d, seed, bias=bias)
    k = max(1, round(share * n))
    subset = GradMatch(ridge, "batch", batch_size).select(scan, k, generator=generator(seed))
    batches = [batch.tolist() for batch in mini_batches(n, batch_size, generator=generator(seed))]
    expected = reference.match_batches(built(scan), batches, k, ridge)
    found = raw(scan, subset)
    assert len(found) == k
    if len(expected) == k:
        assert set(found) == set(expected)
        assert [found[i] for i in sorted(found)] == pytest.approx([expected[i] for i in sorted(found)], rel=1e-5)
    else:
        assert set(expected) <= set(found)
        shrunk = {i: weight * len(expected) / k for i, weight in expected.items()}
        assert {i: found[i] for i in expected} == pytest.approx(shrunk, rel=1e-5)


@given(n=st.integers(2, 40), batch_size=st.integers(1, 12), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_without_ridge_mini_batches_match_as_well_as_the_literal_version(n, batch_size, share, seed):
    scan = made(n, 3, 2, seed)
    k = max(1, round(share * n))
    batches = mini_batches(n, batch_size, generator=generator(seed))
    gradients = BatchGradients.of(scan, batches)
    held, weights = pursue(gradients, k, ridge=0.0)
    sums = np.stack([built(scan)[batch.numpy()].sum(0) for batch in batches])
    expected, expected_weights, _ = reference.pursue_atoms(sums, gradients.sizes.tolist(), k, 0.0)
    ours, theirs = np.zeros(len(sums)), np.zeros(len(sums))
    ours[held.numpy()], theirs[expected] = weights.numpy(), expected_weights
    scale = np.linalg.norm(sums, axis=1).sum() ** 2
    difference = reference.objective(sums, ours, 0.0) - reference.objective(sums, theirs, 0.0)
    assert abs(difference) < 1e-8 * scale


@given(
    n=st.integers(3, 30),
    c=st.integers(2, 4),
    d=st.integers(1, 6),
    share=st.floats(0, 1),
    ridge=st.sampled_from([0.02, 0.5]),
    seed=st.integers(0, 10**6),
)
@pytest.mark.parametrize("per", ["class-gradient", "all"])
def test_own_rows_and_whole_pools_are_matched_as_literally(per, n, c, d, share, ridge, seed):
    scan = made(max(n, c), c, d, seed)
    k = max(c, round(share * len(scan)))
    found = raw(scan, GradMatch(ridge, per).select(scan, k, generator=generator()))
    assert len(found) == k
    groups = range(c) if per == "class-gradient" else [None]
    for label in groups:
        members = np.arange(len(scan)) if label is None else np.flatnonzero(scan.targets == label)
        rows = built(scan, torch.from_numpy(members))
        rows = rows if label is None else reference.own_row(rows, label, c)
        budget = sum(i in found for i in members)
        chosen, weights = reference.pursue(rows, budget, ridge)
        assert {int(members[i]) for i in chosen} <= set(found)
        ours = [found[int(members[i])] for i in chosen]
        assert ours == pytest.approx((weights * len(chosen) / budget).tolist(), rel=1e-5)


@given(n=st.integers(1, 300), batch_size=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_mini_batches_are_even_and_cover_every_sample_once(n, batch_size, seed):
    batches = mini_batches(n, batch_size, generator=generator(seed))
    sizes = [len(batch) for batch in batches]
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 1.5 * batch_size


def test_products_of_two_mini_batches_by_hand():
    # Each error is (-1/2, 1/2), of squared length 1/2; the inputs of the two mini-batches add up to 3 and 7.
    scan = Scan.from_arrays(
        logits=np.zeros((4, 2)), features=[[1.0], [2.0], [3.0], [4.0]], targets=[0] * 4, head_bias=False
    )
    gradients = BatchGradients.of(scan, [torch.tensor([0, 1]), torch.tensor([2, 3])])
    assert gradients.products.tolist() == [[4.5, 10.5], [10.5, 24.5]]
    assert gradients.norms().tolist() == pytest.approx([4.5**0.5, 24.5**0.5])
    assert gradients.target().tolist() == [15, 35]
    held, weights = pursue(gradients, 2, ridge=0.0)
    assert (held.tolist(), weights.tolist()) == ([1], pytest.approx([10 / 7]))


def test_products_add_up_over_blocks_of_classes_to_those_of_built_gradients():
    scan = made(100, 23, 5, 0)  # ten samples a mini-batch: blocks of one class
    batches = mini_batches(100, 10, generator=generator())
    sums = np.stack([built(scan)[batch.numpy()].sum(0) for batch in batches])
    np.testing.assert_allclose(BatchGradients.of(scan, batches).products, sums @ sums.T, rtol=1e-9, atol=1e-9)


def test_gradients_of_mini_batches_are_never_all_there(monkeypatch):
    """A block is no larger than the features in float64, whatever the number of classes."""
    taken = []
    original = batch_gradients._sums
    monkeypatch.setattr(batch_gradients, "_sums", lambda *given: taken.append(made := original(*given)) or made)
    scan = made(640, 50, 8, 0)
    GradMatch(per="batch", batch_size=32).select(scan, 64, generator=generator())
    assert len(taken) == 13
    assert max(block.numel() for block in taken) * 8 <= scan.features.nbytes * 9 / 8  # a ninth input: the bias


def test_the_mini_batch_that_enters_last_gives_a_part_at_the_same_weight():
    # Orthogonal gradients: every mini-batch weighs 1, the longest enters first, and the second has room for one sample.
    features = np.diag(np.arange(1.0, 9.0))
    scan = Scan.from_arrays(logits=np.zeros((8, 2)), features=features, targets=[0] * 8, head_bias=False)
    parts = set()
    for seed in range(10):
        subset = GradMatch(0.0, "batch", 2).select(scan, 3, generator=generator(seed))
        batches = mini_batches(8, 2, generator=generator(seed))
        first, second = sorted(batches, key=lambda batch: -float((batch + 1.0).square().sum()))[:2]
        assert set(first.tolist()) < set(subset.rows.tolist())
        assert len(set(second.tolist()) & set(subset.rows.tolist())) == 1
        assert list(raw(scan, subset).values()) == pytest.approx([1.0] * 3)
        parts.add(int((subset.rows == second.max()).any()))
    assert parts == {0, 1}, "which of the two it is must be drawn at random"


@pytest.mark.parametrize("n", [64, 65, 100, 127, 130])
def test_a_mini_batch_counts_by_its_samples_so_that_all_of_them_weigh_one(n):
    """Sums of batch means would make the samples of a short last batch count for more than the others."""
    scan = made(n, 10, 40, 3)
    for batch_size in (8, 30, 64):
        subset = GradMatch(0.0, "batch", batch_size).select(scan, n, generator=generator())
        assert list(raw(scan, subset).values()) == pytest.approx([1.0] * n, rel=1e-6)


def test_mini_batches_of_one_sample_are_samples():
    scan = made(50, 3, 20, 1)
    one = GradMatch(0.5, "batch", 1).select(scan, 20, generator=generator())
    other = GradMatch(0.5, "all").select(scan, 20, generator=generator())
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.weights, other.weights)
    assert one.scale == pytest.approx(other.scale)


def test_one_mini_batch_of_everything_is_a_random_draw_without_weights():
    scan = made(30, 3, 4, 0)
    draws = [GradMatch(per="batch").select(scan, 5, generator=generator(seed)) for seed in range(5)]
    assert len({tuple(subset.rows.tolist()) for subset in draws}) == 5
    assert all(torch.equal(subset.weights, torch.ones(5)) for subset in draws)


@pytest.mark.parametrize("per", ["batch", "all"])
def test_fewer_samples_than_classes_are_enough_where_classes_are_not_matched_one_by_one(per):
    scan = made(40, 10, 5, 0)
    batch_size = 4 if per == "batch" else 128
    selector = GradMatch(per=per, batch_size=batch_size)
    assert selector.least_per_class == 0
    assert len(selector.select(scan, 3, generator=generator())) == 3
    with pytest.raises(SelectionError, match="k is 3 but the scan holds 10 classes"):
        GradMatch(per="class-gradient").select(scan, 3, generator=generator())


@pytest.mark.parametrize("per", VARIANTS)
def test_the_ridge_counts_in_every_variant_and_is_relative(per):
    """One of two code paths without a ridge, or one that drowns small gradients, would fail here."""
    scan = made(90, 3, 4, 5, bias=False)
    small = Scan.from_arrays(logits=scan.logits, features=scan.features * 1e-6, targets=scan.targets, head_bias=False)
    own = {"batch_size": 3} if per == "batch" else {}
    plain, ridged, tiny = (
        GradMatch(ridge, per, **own).select(seen, 12, generator=generator())
        for ridge, seen in ((0.0, scan), (0.5, scan), (0.5, small))
    )
    assert raw(scan, plain) != raw(scan, ridged)
    assert torch.equal(ridged.rows, tiny.rows)
    torch.testing.assert_close(ridged.weights, tiny.weights)
    assert ridged.scale == pytest.approx(tiny.scale, rel=1e-5)


@pytest.mark.parametrize("per", VARIANTS)
def test_what_is_filled_in_weighs_as_what_was_matched(per):
    """Past the rank of the gradients the rest is random: on the weights' own scale, and not of weight 1."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(200, 2)))
    scan = Scan.from_arrays(logits=np.zeros((200, 2)), features=features, targets=[0] * 200, head_bias=False)
    own = {"batch_size": 10} if per == "batch" else {}
    subset = GradMatch(0.0, per, **own).select(scan, 100, generator=generator())
    assert len(subset) == 100
    values, counts = subset.weights.unique(return_counts=True)
    common = values[counts.argmax()]
    assert counts.max() >= 80, "most are filled in, with one weight"
    assert float(common) == pytest.approx(1.0), "which is the mean of those that were matched"
    assert mismatch(scan, subset) < 0.1


@pytest.mark.parametrize("per", VARIANTS)
def test_gradients_that_are_all_zero_are_drawn_at_random(per):
    logits = torch.zeros(40, 2)
    logits[:, 0] = 500
    scan = Scan.from_arrays(logits=logits, features=torch.rand(40, 3), targets=torch.zeros(40, dtype=torch.int64))
    own = {"batch_size": 4} if per == "batch" else {}
    subset = GradMatch(per=per, **own).select(scan, 8, generator=generator())
    assert subset.weights.tolist() == [1.0] * 8
    assert subset.scale == pytest.approx(40 / 8)


@pytest.mark.parametrize("per", VARIANTS)
@pytest.mark.parametrize("exponent", [-30, 30])
def test_tiny_and_huge_gradients_are_matched_as_others(per, exponent):
    scan = made(60, 3, 5, 2, bias=False)
    scaled = Scan.from_arrays(
        logits=scan.logits, features=scan.features * 2.0**exponent, targets=scan.targets, head_bias=False
    )
    own = {"batch_size": 3} if per == "batch" else {}
    one, other = (GradMatch(per=per, **own).select(seen, 12, generator=generator()) for seen in (scan, scaled))
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.weights, other.weights)


def test_rows_are_those_of_the_samples_chosen():
    """Mini-batches keep their own samples, whatever the rows are called."""
    rows = np.random.default_rng(0).permutation(1000)[:60]
    scan = made(60, 3, 8, 0, rows=rows)
    subset = GradMatch(per="batch", batch_size=5).select(scan, 20, generator=generator(4))
    held = set(scan.at(subset.rows).tolist())
    whole = [batch for batch in mini_batches(60, 5, generator=generator(4)) if set(batch.tolist()) <= held]
    assert len(whole) == 4
    weights = raw(scan, subset)
    assert all(len({round(weights[i], 5) for i in batch.tolist()}) == 1 for batch in whole)
    assert len({round(weight, 5) for weight in weights.values()}) == 4


def test_too_many_mini_batches_are_refused(monkeypatch):
    monkeypatch.setattr(batch_gradients, "MOST", 10)
    message = r"batch_size 4 makes 13 mini-batches of 50 samples; at most 10 .* batch_size >= 5\."
    with pytest.raises(SelectionError, match=message):
        GradMatch(per="batch", batch_size=4).select(made(50, 3, 4, 0), 10, generator=generator())
    assert len(GradMatch(per="batch", batch_size=5).select(made(50, 3, 4, 0), 10, generator=generator())) == 10


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradmatch(per=classes)", r"per is 'classes'.*Did you mean 'class'"),
        ("gradmatch(ridge=big)", r"ridge"),
        ("gradmatch(per=batch, ridge=-1)", r"ridge is -1; it must lie in \[0, inf\)"),
        ("gradmatch(per=batch, batch_size=0)", r"batch_size is 0"),
        ("gradmatch(per=batch, batch_size=2.5)", r"batch_size .* is 2\.5; it must be a whole number"),
        ("gradmatch(batch_size=32)", r"batch_size is for per='batch' and has no effect with per='class'"),
        ("gradmatch(per=batch, balanced=True)", r"has no option 'balanced'; it takes: ridge, per, batch_size"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        SELECTORS.build(spec)


@pytest.mark.parametrize("per", VARIANTS)
def test_the_flops_of_a_subset_are_those_that_are_forecast(per):
    scan = made(200, 4, 6, 0)
    own = {"batch_size": 10} if per == "batch" else {}
    selector = GradMatch(per=per, **own)
    subset = selector.select(scan, 40, generator=generator())
    assert subset.flops == selector.arithmetic(200, 40, classes=4, features=6)


def test_flops_by_hand():
    # One pick of two: a column of 2 products of 7, the same times its weight, an exact product of 7, and the solves.
    assert pursuit_flops(2, 1, product=7) == 2 * 2 * 7 + 2 + 7 + 1
    # Two classes of 5, one sample of each; c + d = 2 + 3 = 5, and the target takes 4 n c d.
    expected = 4 * 10 * 2 * 3 + 2 * (2 * 5 * 5 + 5 + 5 + 1)
    assert GradMatch().arithmetic(10, 2, classes=2, features=3) == expected
    own = 4 * 10 * 1 * 3 + 2 * (2 * 5 * 4 + 5 + 4 + 1)
    assert GradMatch(per="class-gradient").arithmetic(10, 2, classes=2, features=3) == own
    everything = 4 * 10 * 2 * 3 + 2 * 2 * 10 * 5 + 4 * 10 + 4 * 5 + 8
    assert GradMatch(per="all").arithmetic(10, 2, classes=2, features=3) == everything
    # Five mini-batches of two, one of them picked: 10 gradients, 25 products of 6 numbers.
    batches = 2 * (10 + 25) * 6 + 5 + 1
    assert GradMatch(per="batch", batch_size=2).arithmetic(10, 2, classes=2, features=3) == batches
