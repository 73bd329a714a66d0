"""Graph cut: similar to all, not to each other, as literally."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import submodular as reference
from sartor.errors import ConfigError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.graph_cut import Cut, GraphCut
from sartor.select.similarity import Held


def generator():
    return torch.Generator().manual_seed(0)


@given(
    n=st.integers(1, 12),
    share=st.floats(0, 1),
    metric=st.sampled_from(["cosine", "euclidean"]),
    lam=st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    memory=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_it_is_greedy_on_the_literal_similarities(n, share, metric, lam, memory, seed):
    features = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    k = max(1, round(share * n))
    similarity = reference.similarities(features.astype(float), metric)

    def value(chosen):
        return reference.graph_cut(similarity, chosen, lam)

    subset = GraphCut(metric, lam, memory).select(Scan.from_arrays(features=features), k, generator=generator())
    assert value(subset.rows.tolist()) == pytest.approx(value(reference.greedy(value, n, k)), rel=1e-5, abs=1e-5)


@given(n=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_gains_are_differences_of_values(n, seed):
    values = np.random.default_rng(seed).random((n, n))
    similarity = torch.from_numpy(values + values.T).float()
    literal, cut, chosen = similarity.double().numpy(), Cut(Held(similarity), 0.7), []
    for pick in np.random.default_rng(seed).permutation(n)[:4].tolist():
        value = reference.graph_cut(literal, chosen, 0.7)
        free = [j for j in range(n) if j not in chosen]
        gains = [reference.graph_cut(literal, [*chosen, j], 0.7) - value for j in free]
        np.testing.assert_allclose(cut.gains(torch.tensor(free)), gains, atol=1e-5)
        cut.add(pick)
        chosen.append(pick)


@given(n=st.integers(1, 15), seed=st.integers(0, 10**6))
def test_up_to_a_half_no_gain_is_negative(n, seed):
    """A gain without its first part, what all are worth, would fall below zero at the first redundant sample."""
    features = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    similarity = reference.similarities(features.astype(float), "cosine")
    cut = Cut(Held(torch.from_numpy(similarity).float()), 0.5)
    for pick in range(n):
        assert float(cut.gains(torch.arange(pick, n)).min()) >= -1e-6
        cut.add(pick)


def test_redundancy_is_avoided_by_lam_alone():
    # Five samples one way, two another way, nearly opposite.
    features = np.array([[1.0, 0.0]] * 5 + [[-1.0, 0.1]] * 2, dtype=np.float32)
    scan = Scan.from_arrays(features=features)
    typical = GraphCut(lam=0).select(scan, 2, generator=generator())
    assert typical.rows.tolist() == [0, 1]
    spread = GraphCut(lam=2).select(scan, 2, generator=generator())
    assert spread.rows.tolist() == [0, 5]
    assert spread.weights.tolist() == [1.0, 1.0]


def test_classes_keep_their_shares():
    rng = np.random.default_rng(0)
    scan = Scan.from_arrays(features=rng.normal(size=(30, 4)), targets=np.repeat([0, 1, 2], [15, 10, 5]))
    subset = GraphCut(balanced=True).select(scan, 6, generator=generator())
    assert torch.bincount(scan.targets[subset.rows]).tolist() == [3, 2, 1]
    assert len(GraphCut(balanced=True).select(scan, 2, generator=generator())) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("graph-cut(metric=dot)", r"metric is 'dot'; it must be one of cosine, euclidean"),
        ("graph-cut(lam=-0.1)", r"lam is -0\.1; it must lie in \[0, inf\)"),
        ("graph-cut(memory=-2)", r"memory is -2"),
        ("graph-cut(greedy=lazy)", r"has no option 'greedy'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        SELECTORS.build(spec)


def test_flops_by_hand():
    # Products of each pair once; n sums over n; two passes over n for a pick.
    assert GraphCut().arithmetic(10, 2, classes=0, features=3) == 10 * 10 * 3 + 10 * 10 + 2 * 10 * 2
    assert GraphCut(memory=0).arithmetic(10, 2, classes=0, features=3) == 2 * 10 * 12 * 3 + 10 * 10 + 2 * 10 * 2
    assert GraphCut(balanced=True).arithmetic(10, 2, classes=2, features=3) == 2 * (25 * 3 + 25 + 2 * 5)
    scan = Scan.from_arrays(features=np.random.default_rng(0).random((10, 3)))
    assert GraphCut().select(scan, 2, generator=generator()).flops == 440
