"""CRAIG: medoids of gradients as literally, weights that are the sizes of their clusters, in every variant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import craig as reference
from reference.gradmatch import built_gradients
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.batch_gradients import batch_flops, mini_batches
from sartor.select.craig import CRAIG
from sartor.select.facility import LAZY_LOOKS


def made(n, c, d, seed, *, bias=True, rows=None):
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(c), rng.integers(0, c, n)])[:n]
    return Scan.from_arrays(
        logits=rng.normal(size=(n, c)) * 2, features=rng.normal(size=(n, d)), targets=targets, rows=rows, head_bias=bias
    )


def groups(sizes, seed=0, rows=None):
    """One class whose gradients are tight groups, all at the same distance from each other, in mixed order."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    features = np.eye(len(sizes))[which] + rng.normal(size=(len(which), len(sizes))) * 1e-3
    scan = Scan.from_arrays(
        logits=np.zeros((len(which), 2)), features=features, targets=np.zeros(len(which), dtype=int), rows=rows
    )
    return scan, torch.from_numpy(which)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(scan, positions=slice(None)):
    return built_gradients(scan.errors(positions), scan.features[positions], bias=scan.head_bias)


def raw(scan, subset):
    """The solver's own weight of each chosen position."""
    return dict(zip(scan.at(subset.rows).tolist(), (subset.weights.double() * subset.scale).tolist()))


@given(
    n=st.integers(1, 25),
    c=st.integers(2, 4),
    d=st.integers(1, 5),
    share=st.floats(0, 1),
    memory=st.sampled_from([0.0, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
@pytest.mark.parametrize("per", ["class", "all"])
def test_medoids_and_cluster_sizes_are_the_literal_ones(per, n, c, d, share, memory, bias, seed):
    scan = made(max(n, c), c, d, seed, bias=bias)
    k = max(c, round(share * len(scan)))
    found = raw(scan, CRAIG(per, memory=memory).select(scan, k, generator=generator()))
    assert len(found) == k
    assert sum(found.values()) == pytest.approx(len(scan))
    for label in range(c) if per == "class" else [None]:
        members = np.arange(len(scan)) if label is None else np.flatnonzero(scan.targets == label)
        vectors = built(scan, torch.from_numpy(members))
        chosen, sizes = reference.medoids(vectors, sum(i in found for i in members))
        ours = [place for place, i in enumerate(members) if i in found]
        assert reference.cost(vectors, ours) == pytest.approx(reference.cost(vectors, chosen), rel=1e-5, abs=1e-5)
        if set(ours) == set(chosen):
            assert [found[members[place]] for place in chosen] == pytest.approx(sizes)


@given(
    n=st.integers(1, 40),
    c=st.integers(2, 5),
    d=st.integers(1, 6),
    batch_size=st.integers(1, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_mini_batches_are_chosen_as_the_literal_version_chooses_them(n, c, d, batch_size, share, seed):
    scan = made(n, c, d, seed)
    k = max(1, round(share * n))
    subset = CRAIG("batch", batch_size=batch_size).select(scan, k, generator=generator(seed))
    batches = [batch.tolist() for batch in mini_batches(n, batch_size, generator=generator(seed))]
    expected = reference.by_batches(built(scan), batches, k)
    found = raw(scan, subset)
    assert len(found) == k
    assert sum(found.values()) == pytest.approx(n)
    assert found == pytest.approx(expected, rel=1e-5)


def shuffled(subset, scan, seed=0):
    """The faulty form: the answer is mapped back through another order than the gradients were read in."""
    order = torch.randperm(len(scan), generator=generator(seed))
    return order[scan.at(subset.rows)]


def test_every_group_has_its_medoid_and_the_rows_are_those_of_the_medoids():
    """An answer mapped back through a shuffled order hits groups at random, and swaps the weights."""
    sizes = list(range(1, 41))
    scan, _ = groups(sizes, rows=np.random.default_rng(1).permutation(5000)[: sum(sizes)])
    which = scan.features.argmax(1)
    subset = CRAIG().select(scan, 40, generator=generator())
    hit = which[scan.at(subset.rows)]
    assert sorted(hit.tolist()) == list(range(40))
    assert list(raw(scan, subset).values()) == pytest.approx([sizes[group] for group in hit])
    assert len(which[shuffled(subset, scan)].unique()) < 35, "this test must see the fault"


@pytest.mark.parametrize("per", ["class", "batch", "all"])
@pytest.mark.parametrize("greedy", ["lazy", "stochastic"])
@pytest.mark.parametrize("k", [5, 37, 199, 200])
def test_weights_add_up_to_n_and_not_to_n_and_k(per, greedy, k):
    """A count that starts at one for each medoid, and then counts it again, adds up to n + k."""
    scan = made(200, 4, 6, 0)
    own = {"batch_size": 8} if per == "batch" else {}
    subset = CRAIG(per, greedy, **own).select(scan, k, generator=generator())
    weights = subset.weights.double() * subset.scale
    assert len(subset) == k
    assert float(weights.sum()) == pytest.approx(200)
    assert subset.scale == pytest.approx(200 / k)
    if per != "batch":
        assert float(weights.min()) >= 1 - 1e-6


def test_the_whole_pool_is_covered_as_well_as_can_be_greedily():
    """With an offset counted twice most rows are never looked at, and the cover is no better than a random one."""
    scan, which = groups([1] * 60 + [30] * 4)
    subset = CRAIG("all").select(scan, 4, generator=generator())
    assert sorted(which[subset.rows].tolist()) == [60, 61, 62, 63]


def test_distances_are_plain_and_not_squared():
    """On a line, 0 0 0 0 3 3 5: the median costs least, as the paper's bound has it; by squares it would be 3."""
    features = np.array([[0.0], [0], [0], [0], [3], [3], [5]])
    scan = Scan.from_arrays(logits=np.zeros((7, 2)), features=features, targets=[0] * 7, head_bias=False)
    assert CRAIG().select(scan, 1, generator=generator()).rows.tolist() == [0]
    squares = [((features - point) ** 2).sum() for point in features]
    assert int(np.argmin(squares)) == 4, "this test must see the difference"


def test_duplicates_share_a_medoid_the_first_of_them():
    scan, _ = groups([1] * 5)
    index = torch.arange(5).repeat_interleave(4)
    twins = Scan.from_arrays(logits=scan.logits[index], features=scan.features[index], targets=scan.targets[index])
    subset = CRAIG().select(twins, 5, generator=generator())
    assert subset.rows.tolist() == [0, 4, 8, 12, 16]
    assert raw(twins, subset) == {i: pytest.approx(4.0) for i in (0, 4, 8, 12, 16)}
    more = CRAIG().select(twins, 6, generator=generator())
    assert more.rows.tolist() == [0, 1, 4, 8, 12, 16]
    assert raw(twins, more) == pytest.approx({0: 3.0, 1: 1.0, 4: 4.0, 8: 4.0, 12: 4.0, 16: 4.0})


@pytest.mark.parametrize("exponent", [-60, 60])
@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_tiny_and_huge_gradients_are_covered_as_others(exponent, memory):
    scan = made(60, 3, 5, 2, bias=False)
    scaled = Scan.from_arrays(
        logits=scan.logits, features=scan.features * 2.0**exponent, targets=scan.targets, head_bias=False
    )
    one, other = (CRAIG(memory=memory).select(seen, 12, generator=generator()) for seen in (scan, scaled))
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.weights, other.weights)


def test_one_class_at_a_time_is_read(monkeypatch):
    scan, read = made(90, 3, 4, 0), []
    original = Scan.features_of

    def spy(self, index):
        read.append(sorted(set(self.targets[index].tolist())))
        return original(self, index)

    monkeypatch.setattr(Scan, "features_of", spy)
    CRAIG().select(scan, 9, generator=generator())
    assert read == [[0], [1], [2]]


def test_the_mini_batch_that_is_found_last_gives_a_part_and_all_add_up_to_n():
    scan = made(64, 2, 5, 4)
    subset = CRAIG("batch", batch_size=8).select(scan, 20, generator=generator(2))
    held = set(scan.at(subset.rows).tolist())
    parts = [len(held & set(batch.tolist())) for batch in mini_batches(64, 8, generator=generator(2))]
    assert sorted(parts) == [0, 0, 0, 0, 0, 4, 8, 8]
    assert sum(raw(scan, subset).values()) == pytest.approx(64)


def test_mini_batches_of_one_sample_are_samples():
    scan = made(40, 3, 8, 1)
    one = CRAIG("batch", batch_size=1).select(scan, 12, generator=generator())
    other = CRAIG("all").select(scan, 12, generator=generator())
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.weights, other.weights)


def test_each_class_needs_a_sample_where_classes_are_covered_one_by_one():
    scan = made(40, 10, 5, 0)
    assert CRAIG().least_per_class == 1
    with pytest.raises(SelectionError, match="k is 3 but the scan holds 10 classes"):
        CRAIG().select(scan, 3, generator=generator())
    for selector in (CRAIG("all"), CRAIG("batch", batch_size=4)):
        assert selector.least_per_class == 0
        assert len(selector.select(scan, 3, generator=generator())) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("craig(per=classes)", r"per is 'classes'.*Did you mean 'class'"),
        ("craig(greedy=lasy)", r"greedy is 'lasy'.*Did you mean 'lazy'"),
        ("craig(eps=0.2)", r"eps is for greedy='stochastic' and has no effect"),
        ("craig(batch_size=32)", r"batch_size has no effect with per='class'"),
        ("craig(per=batch, memory=2)", r"memory has no effect with per='batch'"),
        ("craig(per=batch, batch_size=0)", r"batch_size is 0"),
        ("craig(memory=-1)", r"memory is -1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        SELECTORS.build(spec)


def test_flops_by_hand():
    # Two classes of five, one sample of each: products of 2 + 3 numbers, gains of five and of one pick.
    each = 5 * 5 * 5 + 2 * 5 * (5 + LAZY_LOOKS)
    assert CRAIG().arithmetic(10, 2, classes=2, features=3) == 2 * each
    assert CRAIG("all").arithmetic(10, 2, classes=2, features=3) == 100 * 5 + 2 * 10 * (10 + 2 * LAZY_LOOKS)
    # Five mini-batches of two, one of them.
    own = batch_flops(10, 5, classes=2, features=3)
    assert CRAIG("batch", batch_size=2).arithmetic(10, 2, classes=2, features=3) == own + 2 * 5 * (5 + LAZY_LOOKS)
    scan = made(10, 2, 3, 0)
    assert CRAIG().select(scan, 2, generator=generator()).flops == 2 * each
