"""Similarities, held or computed, of gradients that are never built and of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import submodular as reference
from reference.gradmatch import built_gradients
from sartor.seen import Scan
from sartor.select import similarity
from sartor.select.similarity import Computed, Held, Vectors, distances, fits, similarities, similarity_flops


def made(n, c, d, seed, *, bias=True, alike=False, dtype=np.float32):
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(n, d)), 0).astype(dtype)
    logits, targets = rng.normal(size=(n, c)).astype(dtype), rng.integers(0, c, n)
    if alike and n > 1:  # every other sample is the one before again
        for table in (features, logits, targets):
            table[1::2] = table[: n - 1 : 2]
    return Scan.from_arrays(logits=logits, features=features, targets=targets, head_bias=bias)


def literal(scan, of):
    if of == "features":
        return scan.features.double().numpy()
    return built_gradients(scan.errors(slice(None)), scan.features, bias=scan.head_bias)


def vectors(scan, of, members=None):
    return (Vectors.of_features if of == "features" else Vectors.of_gradients)(scan, members)


@given(
    n=st.integers(1, 13),
    d=st.integers(1, 6),
    of=st.sampled_from(["features", "gradients"]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    bias=st.booleans(),
    alike=st.booleans(),
    whole=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_they_are_those_of_the_built_vectors_held_or_computed(n, d, of, metric, bias, alike, whole, seed):
    scan = made(n, 3, d, seed, bias=bias, alike=alike)
    expected = reference.similarities(literal(scan, of), metric)
    taken = vectors(scan, of, None if whole else torch.arange(n))
    before, similarity.TILE = similarity.TILE, 4
    try:
        held, computed = (similarities(taken, metric, memory=memory) for memory in (1.0, 0.0))
        assert isinstance(held, Held)
        assert isinstance(computed, Computed)
        for found in (held, computed):
            np.testing.assert_allclose(found.rows(torch.arange(n)), expected, atol=2e-6)
            positions = torch.tensor([n - 1, 0])
            assert torch.equal(found.rows(positions), found.rows(torch.arange(n))[positions])
            assert torch.equal(found.rows(positions[1:]), found.rows(positions)[1:])
    finally:
        similarity.TILE = before


def test_some_members_are_taken_in_their_order():
    scan = made(12, 3, 4, 0)
    members = torch.tensor([7, 2, 11])
    taken = vectors(scan, "gradients", members)
    built = literal(scan, "gradients")[members.numpy()]
    np.testing.assert_allclose(taken.between(slice(None), slice(None)), built @ built.T, rtol=1e-6)
    np.testing.assert_allclose(taken.norms(), np.linalg.norm(built, axis=1), rtol=1e-6)


def test_samples_that_are_the_same_are_at_no_distance_however_far_out_they_lie():
    """Distances from products in float32 would leave 1e-3 of the norm between them."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(50, 64)) * 0.01 + 100).astype(np.float32)
    scan = Scan.from_arrays(features=np.concatenate([points, points]))
    taken = vectors(scan, "features")
    apart = distances(taken, slice(0, 50), slice(50, 100))
    assert torch.equal(apart.diagonal(), torch.zeros(50, dtype=torch.float64))
    exact = np.linalg.norm(points.astype(float)[:, None] - points.astype(float), axis=2)
    np.testing.assert_allclose(apart, exact, atol=1e-3, rtol=1e-3)


def test_a_vector_of_zeros_has_cosine_0_with_all():
    scan = Scan.from_arrays(features=[[0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    found = similarities(vectors(scan, "features"), "cosine", memory=1.0).rows(torch.arange(4))
    assert found.tolist() == [[0.5] * 4, [0.5, 1, 0.5, 0], [0.5] * 4, [0.5, 0, 0.5, 1]]


@pytest.mark.parametrize("memory", [0.0, 1.0])
def test_where_no_two_vectors_differ_all_are_alike(memory):
    scan = Scan.from_arrays(features=np.ones((5, 3)))
    assert torch.equal(
        similarities(vectors(scan, "features"), "euclidean", memory=memory).rows(torch.arange(5)), torch.ones(5, 5)
    )


@pytest.mark.parametrize("memory", [0.0, 1.0])
@pytest.mark.parametrize("exponent", [-100, 100])
def test_tiny_and_huge_vectors_are_compared_as_others(memory, exponent):
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    one, other = (
        similarities(vectors(Scan.from_arrays(features=table), "features"), "euclidean", memory=memory)
        for table in (features, features * np.float32(2.0**exponent))
    )
    torch.testing.assert_close(one.rows(torch.arange(20)), other.rows(torch.arange(20)))


def test_of_a_whole_scan_only_blocks_are_read(monkeypatch):
    """Tables may be half-precision files larger than the memory."""
    monkeypatch.setattr(similarity, "TILE", 8)
    scan = made(50, 3, 4, 0, dtype=np.float16)
    read = []
    for name in ("features_of", "errors"):
        original = getattr(Scan, name)

        def spy(self, index, original=original):
            found = original(self, index)
            read.append(len(found))
            return found

        monkeypatch.setattr(Scan, name, spy)
    computed = similarities(vectors(scan, "gradients"), "euclidean", memory=0.0)
    computed.rows(torch.arange(5))
    assert max(read) == 8


def test_gradients_are_never_built():
    n, c, d = 40, 20_000, 20_000  # 64 GB
    generator = torch.Generator().manual_seed(0)
    scan = Scan.from_arrays(
        logits=torch.randn(n, c, generator=generator),
        features=torch.randn(n, d, generator=generator),
        targets=torch.zeros(n, dtype=torch.int64),
    )
    found = similarities(vectors(scan, "gradients", torch.arange(n)), "euclidean", memory=1.0)
    assert float(found.rows(torch.arange(n)).min()) == 0


def test_what_fits_and_what_it_costs():
    assert fits(16384, 1.0)
    assert not fits(16385, 1.0)
    assert not fits(1, 0.0)
    assert similarity_flops(10, 7, product=5, metric="cosine", memory=1.0) == 10 * 10 * 5
    assert similarity_flops(10, 7, product=5, metric="cosine", memory=0.0) == 2 * 10 * 7 * 5
    assert similarity_flops(10, 7, product=5, metric="euclidean", memory=0.0) == 2 * 10 * 7 * 5 + 10 * 10 * 5
