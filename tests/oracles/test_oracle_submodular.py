"""Facility location and graph cut against submodlib and apricot: the same similarities, the same picks in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.facility import Coverage
from sartor.select.graph_cut import Cut
from sartor.select.greedy import lazy_greedy, plain_greedy
from sartor.select.similarity import Held

pytestmark = pytest.mark.oracles
WHY = "{} is not installed; `make oracles` does it, in an environment of its own."

N, D, K = 120, 6, 30
LAMBDAS = (0.0, 0.3, 0.5, 1.5)
seeds = pytest.mark.parametrize("seed", [0, 1, 2])
metrics = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


def features(seed):
    return np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)


def similarity(table, metric):
    """Similarities by scikit-learn, rounded to the numbers that a matrix of float32 holds."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise", reason=WHY.format("scikit-learn"))
    table = table.astype(np.float64)
    if metric == "cosine":
        found = (1 + pairwise.cosine_similarity(table)) / 2
    else:
        distances = pairwise.euclidean_distances(table)
        found = 1 - distances / distances.max()
    return np.float64(np.float32(found))


def without_ties(matrix):
    """Make each sample a little less similar to itself: of a pair far from all others both are worth the same."""
    return np.float64(np.float32(matrix - np.diag(np.random.default_rng(0).random(N)) / 100))


def held(matrix):
    return Held(torch.from_numpy(matrix).float())


def chosen(spec, table):
    return SELECTORS.build(spec).select(Scan.from_arrays(features=table), K, generator=torch.Generator()).rows.tolist()


def submodlib_picks(function, optimizer):
    return [pick for pick, _ in function.maximize(budget=K, optimizer=optimizer, show_progress=False)]


@seeds
@metrics
@pytest.mark.parametrize("optimizer", ["NaiveGreedy", "LazyGreedy"])
def test_facility_location_of_submodlib(seed, metric, optimizer):
    functions = pytest.importorskip("submodlib.functions.facilityLocation", reason=WHY.format("submodlib-py"))
    matrix = without_ties(similarity(features(seed), metric))
    function = functions.FacilityLocationFunction(n=N, mode="dense", separate_rep=False, sijs=matrix)
    coverage = Coverage(held(matrix))
    ours = lazy_greedy(coverage, K).tolist()
    assert ours == submodlib_picks(function, optimizer)
    assert coverage.value() == pytest.approx(function.evaluate(set(ours)), rel=1e-5)


@seeds
@metrics
def test_what_facility_location_covers_is_what_submodlib_covers(seed, metric):
    functions = pytest.importorskip("submodlib.functions.facilityLocation", reason=WHY.format("submodlib-py"))
    table = features(seed)
    matrix = similarity(table, metric)
    function = functions.FacilityLocationFunction(n=N, mode="dense", separate_rep=False, sijs=matrix)
    theirs = function.evaluate(set(submodlib_picks(function, "NaiveGreedy")))
    assert function.evaluate(set(chosen(f"facility-location(metric={metric})", table))) == pytest.approx(
        theirs, rel=1e-5
    )


@seeds
@pytest.mark.parametrize("lam", LAMBDAS)
def test_graph_cut_of_submodlib(seed, lam):
    functions = pytest.importorskip("submodlib.functions.graphCut", reason=WHY.format("submodlib-py"))
    table = features(seed)
    matrix = similarity(table, "cosine")
    function = functions.GraphCutFunction(n=N, mode="dense", lambdaVal=lam, separate_rep=False, ggsijs=matrix)
    ours = plain_greedy(Cut(held(matrix), lam), K).tolist()
    assert ours == submodlib_picks(function, "NaiveGreedy")
    assert chosen(f"graph-cut(lam={lam})", table) == sorted(ours)
    cut, value = Cut(held(matrix), lam), 0.0
    for pick in ours:
        value += float(cut.gains(torch.tensor([pick])))
        cut.add(pick)
    assert value == pytest.approx(function.evaluate(set(ours)), rel=1e-5)


@seeds
@metrics
@pytest.mark.parametrize("optimizer", ["naive", "lazy"])
def test_facility_location_of_apricot(seed, metric, optimizer):
    apricot = pytest.importorskip("apricot", reason=WHY.format("apricot-select"))
    matrix = without_ties(similarity(features(seed), metric))
    theirs = apricot.FacilityLocationSelection(K, metric="precomputed", optimizer=optimizer).fit(matrix)
    function = Coverage(held(matrix))
    assert lazy_greedy(function, K).tolist() == theirs.ranking.tolist()
    assert function.value() == pytest.approx(theirs.gains.sum(), rel=1e-5)


@seeds
@pytest.mark.parametrize("lam", [lam for lam in LAMBDAS if lam])
def test_graph_cut_of_apricot(seed, lam):
    """Apricot weighs the similarity to all, not that to each other: alpha is 1 / lam."""
    apricot = pytest.importorskip("apricot", reason=WHY.format("apricot-select"))
    matrix = similarity(features(seed), "cosine")
    theirs = apricot.GraphCutSelection(K, metric="precomputed", alpha=1 / lam, optimizer="naive").fit(matrix)
    assert plain_greedy(Cut(held(matrix), lam), K).tolist() == theirs.ranking.tolist()
