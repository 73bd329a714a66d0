"""Facility location: gains and coverage as literally, the best samples found wherever they lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import submodular as reference
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select import facility
from sartor.select.facility import LAZY_LOOKS, Coverage, FacilityLocation
from sartor.select.similarity import Held


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def groups(sizes, seed=0):
    """Tight groups of points, one after the other, all groups at the same distance from each other."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(seed).normal(size=(len(which), len(sizes))) * 0.001
    return (np.eye(len(sizes))[which] + noise).astype(np.float32), which


def matrix(n, seed):
    values = np.random.default_rng(seed).random((n, n))
    return torch.from_numpy((values + values.T) / 2).float()


@given(n=st.integers(1, 30), share=st.floats(0, 1), chunk=st.integers(1, 200), seed=st.integers(0, 10**6))
def test_gains_and_value_are_those_of_full_evaluation(n, share, chunk, seed):
    similarity, k = matrix(n, seed), max(1, round(share * n))
    coverage, literal = Coverage(Held(similarity)), similarity.double().numpy()
    before, facility.CHUNK = facility.CHUNK, chunk
    try:
        chosen = []
        for pick in np.random.default_rng(seed).permutation(n)[:k].tolist():
            value = reference.facility_location(literal, chosen)
            assert coverage.value() == pytest.approx(value)
            gains = [reference.facility_location(literal, [*chosen, j]) - value for j in range(n)]
            np.testing.assert_allclose(coverage.gains(torch.arange(n)), gains, atol=1e-6 * n)
            coverage.add(pick)
            chosen.append(pick)
    finally:
        facility.CHUNK = before


@given(
    n=st.integers(1, 12),
    share=st.floats(0, 1),
    metric=st.sampled_from(["cosine", "euclidean"]),
    memory=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_it_is_greedy_on_the_literal_similarities(n, share, metric, memory, seed):
    features = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    k = max(1, round(share * n))
    similarity = reference.similarities(features.astype(float), metric)
    chosen = FacilityLocation(metric, memory=memory).select(
        Scan.from_arrays(features=features), k, generator=generator()
    )
    expected = reference.greedy(lambda some: reference.facility_location(similarity, some), n, k)
    value = reference.facility_location(similarity, chosen.rows.tolist())
    assert value == pytest.approx(reference.facility_location(similarity, expected), rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_best_is_found_in_the_last_rows_too(monkeypatch, chunk):
    """An offset that is counted twice would look at the first part of the rows only: 13 % in one library."""
    monkeypatch.setattr(facility, "CHUNK", chunk)
    features, which = groups([1] * 60 + [40] * 3)
    subset = FacilityLocation("euclidean").select(Scan.from_arrays(features=features), 3, generator=generator())
    assert sorted(which[subset.rows].tolist()) == [60, 61, 62]


def test_by_hand():
    # On a line: 0 1 2 ... 10. The middle one first; then 10 saves 4, the others at most 3.
    scan = Scan.from_arrays(features=[[0.0], [1.0], [2.0], [10.0]], rows=[5, 6, 7, 9])
    euclidean = FacilityLocation("euclidean")
    assert euclidean.select(scan, 1, generator=generator()).rows.tolist() == [6]
    assert euclidean.select(scan, 2, generator=generator()).rows.tolist() == [6, 9]
    # All point the same way: any one covers all of them, so the lower rows win.
    subset = FacilityLocation().select(Scan.from_arrays(features=scan.features + 1), 2, generator=generator())
    assert subset.rows.tolist() == [0, 1]
    assert subset.weights.tolist() == [1.0, 1.0]


def test_each_sample_belongs_to_the_most_similar_one_chosen_and_those_chosen_to_themselves():
    coverage = Coverage(Held(torch.tensor([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]])))
    coverage.add(1)
    assert coverage.clusters(torch.tensor([1])).tolist() == [1, 1, 1]
    coverage.add(0)
    coverage.add(2)
    assert coverage.clusters(torch.tensor([1, 0, 2])).tolist() == [0, 1, 2]
    far = Coverage(Held(torch.eye(2)))
    far.add(0)
    assert far.clusters(torch.tensor([0])).tolist() == [0, 0]


def test_classes_are_covered_for_themselves():
    features, which = groups([10, 10, 5, 5])
    targets = np.repeat([0, 1], [20, 10])
    scan = Scan.from_arrays(features=features, targets=targets)
    subset = FacilityLocation("euclidean", balanced=True).select(scan, 6, generator=generator())
    assert torch.bincount(scan.targets[subset.rows]).tolist() == [4, 2]
    assert set(which[subset.rows].tolist()) == {0, 1, 2, 3}
    few = FacilityLocation(balanced=True).select(scan, 1, generator=generator())
    assert few.rows < 20


def test_stochastic_choices_follow_the_generator_and_cover_nearly_as_well():
    features, _ = groups([8] * 30)
    scan = Scan.from_arrays(features=features)
    chosen = [
        FacilityLocation("euclidean", greedy="stochastic").select(scan, 12, generator=generator(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(chosen[0].rows, chosen[1].rows)
    assert not torch.equal(chosen[0].rows, chosen[2].rows)
    similarity = reference.similarities(features.astype(float), "euclidean")
    exact = FacilityLocation("euclidean").select(scan, 12, generator=generator())
    best = reference.facility_location(similarity, exact.rows.tolist())
    assert all(reference.facility_location(similarity, one.rows.tolist()) > 0.9 * best for one in chosen)


def test_labels_are_read_only_where_classes_keep_their_shares():
    assert FacilityLocation().needs == {"features"}
    assert FacilityLocation(balanced=True).needs == {"features", "targets"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("facility-location(metric=cosin)", r"metric is 'cosin'.*Did you mean 'cosine'"),
        ("facility-location(greedy=greedy)", r"greedy is 'greedy'; it must be one of lazy, stochastic"),
        ("facility-location(eps=0.1)", r"eps is for greedy='stochastic' and has no effect with greedy='lazy'"),
        ("facility-location(greedy=stochastic, eps=0)", r"eps is 0; it must lie in \(0, 1\)"),
        ("facility-location(memory=-1)", r"memory is -1; it must lie in \[0, inf"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        SELECTORS.build(spec)


def test_a_k_out_of_reach_is_refused():
    with pytest.raises(SelectionError, match="k is 4; it must lie in"):
        FacilityLocation().select(Scan.from_arrays(features=np.ones((3, 2))), 4, generator=generator())


def test_flops_by_hand():
    # Ten samples of 3 features, 2 of them: products once, then 10 gains and those of two picks, of 10 samples each.
    evaluations = 10 + LAZY_LOOKS * 2
    assert FacilityLocation().arithmetic(10, 2, classes=0, features=3) == 10 * 10 * 3 + 2 * 10 * evaluations
    halves = 2 * (5 * 5 * 3 + 2 * 5 * (5 + LAZY_LOOKS))
    assert FacilityLocation(balanced=True).arithmetic(10, 2, classes=2, features=3) == halves
    drawn = 2 * math.ceil(10 / 2 * -math.log(0.5))
    stochastic = FacilityLocation(greedy="stochastic", eps=0.5, memory=0)
    assert stochastic.arithmetic(10, 2, classes=0, features=3) == 2 * 10 * drawn * 3 + 2 * 10 * drawn
    scan = Scan.from_arrays(features=np.random.default_rng(0).random((10, 3)), targets=[0, 1] * 5)
    subset = FacilityLocation(balanced=True).select(scan, 2, generator=generator())
    assert subset.flops == halves


@pytest.mark.slow
@pytest.mark.parametrize("library", ["apricot", "submodlib"])
def test_other_libraries_reach_the_same_value(library):
    """Their greedy sets are worth the same, where they are installed."""
    module = pytest.importorskip(library, reason=f"{library} is not installed; it is only compared with")
    features = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    similarity = reference.similarities(features.astype(float), "euclidean")
    if library == "apricot":
        theirs = module.FacilityLocationSelection(30, metric="precomputed", optimizer="lazy").fit(similarity).ranking
    else:
        function = module.FacilityLocationFunction(n=300, mode="dense", sijs=similarity, separate_rep=False)
        found = function.maximize(budget=30, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False)
        theirs = [position for position, _ in found]
    ours = FacilityLocation("euclidean").select(Scan.from_arrays(features=features), 30, generator=generator())
    value = reference.facility_location(similarity, ours.rows.tolist())
    assert value == pytest.approx(reference.facility_location(similarity, list(theirs)), rel=1e-6)
