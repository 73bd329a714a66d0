"""BADGE, k-center, BALD and the scores of uncertainty against scikit-activeml and modAL."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.badge import Seeding, Sides, likely_gradients

pytestmark = pytest.mark.oracles
WHY = "{} is not installed; `make oracles` does it, in an environment of its own."

N, C, D = 150, 4, 7
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def tables(seed, scale=2.0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(N, C)) * scale).astype(np.float32), rng.normal(size=(N, D)).astype(np.float32)


def softmax(logits):
    return torch.from_numpy(logits).double().softmax(1).numpy()


def pool():
    return pytest.importorskip("skactiveml.pool", reason=WHY.format("scikit-activeml"))


def scores(name, logits):
    return SELECTORS.build(name).scores(Scan.from_arrays(logits=logits)).double().numpy()


def fixed(probabilities):
    """A classifier of scikit-activeml that says what it is told."""
    base = pytest.importorskip("skactiveml.base", reason=WHY.format("scikit-activeml"))

    class Fixed(base.SkactivemlClassifier):
        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X):
            return probabilities

    return Fixed(classes=list(range(probabilities.shape[1])))


@seeds
def test_badge_has_the_chances_of_scikit_activeml(seed):
    """At each of their draws, our chances given their draws so far; the first is the same.

    Version 1.0.1 takes the origin for a centre: a distance there is never longer than the gradient itself.
    """
    logits, features = tables(seed)
    query = pool().Badge(random_state=seed)
    unlabelled, k = np.full(N, np.nan), 25
    theirs, utilities = query.query(
        features, unlabelled, fixed(softmax(logits)), fit_clf=False, batch_size=k, return_utilities=True
    )
    scan = Scan.from_arrays(logits=logits, features=features, head_bias=False)
    squares = Sides.of(likely_gradients(scan, slice(None))).squares
    assert SELECTORS.build("badge").select(scan, 1, generator=torch.Generator()).rows.tolist() == theirs[:1]
    state, shorter = Seeding(N, lambda index: likely_gradients(scan, index)), 0
    for drawn, place in enumerate(map(int, theirs[:-1])):
        state._take(place, state._one(place))
        state._bring_up_to_date()
        squared = state.squared.minimum(squares)
        shorter += int((squared < state.squared).sum())
        left = np.isfinite(utilities[drawn + 1])
        assert left.sum() == N - drawn - 1
        np.testing.assert_allclose((squared / squared.sum())[left], utilities[drawn + 1][left], rtol=1e-3, atol=1e-9)
    assert shorter > 0, "the origin matters no more: compare with all distances"


@seeds
@pytest.mark.parametrize("k", [1, 2, 10, 60])
def test_k_center_is_the_core_set_of_scikit_activeml(seed, k):
    _, features = tables(seed)
    known = np.arange(0, N, 15)
    labels = np.full(N, np.nan)
    labels[known] = 0
    theirs = pool().CoreSet(random_state=0).query(features, labels, batch_size=k)
    free = np.setdiff1d(np.arange(N), known)
    labelled = Scan.from_arrays(features=features[known], rows=known)
    scan = Scan.from_arrays(features=features[free], rows=free, labelled=labelled)
    ours = SELECTORS.build("k-center(start=labelled)").select(scan, k, generator=torch.Generator())
    assert ours.rows.tolist() == sorted(theirs.tolist())


@seeds
@pytest.mark.parametrize("members", [2, 10])
def test_bald_is_that_of_scikit_activeml(seed, members):
    logits = [tables(100 * seed + member)[0] for member in range(members)]
    theirs = pool().batch_bald(np.stack([softmax(table) for table in logits]), batch_size=1, eps=1e-12)[0]
    scan = Scan.from_arrays(members=[Scan.from_arrays(logits=table) for table in logits])
    bald = SELECTORS.build("bald")
    np.testing.assert_allclose(bald.scores(scan), theirs, rtol=1e-4, atol=1e-6)
    best = bald.select(scan, 12, generator=torch.Generator()).rows.tolist()
    assert best == sorted(np.argsort(-theirs)[:12].tolist())


@seeds
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_uncertainty_is_that_of_scikit_activeml(seed, scale):
    """Their margin is 1 less ours: higher is less certain in all three."""
    logits, _ = tables(seed, scale)
    for name, method in (
        ("least-confidence", "least_confident"),
        ("entropy", "entropy"),
        ("margin", "margin_sampling"),
    ):
        theirs = pool().uncertainty_scores(softmax(logits), method=method)
        ours = 1 - scores(name, logits) if name == "margin" else scores(name, logits)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@seeds
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_uncertainty_is_that_of_modal(seed, scale):
    """Scores, and the samples that are queried."""
    modal = pytest.importorskip("modAL.uncertainty", reason=WHY.format("modAL-python"))
    logits, features = tables(seed, scale)
    classifier, scan = fixed(softmax(logits)), Scan.from_arrays(logits=logits)
    for name, score, query in (
        ("least-confidence", modal.classifier_uncertainty, modal.uncertainty_sampling),
        ("margin", modal.classifier_margin, modal.margin_sampling),
        ("entropy", modal.classifier_entropy, modal.entropy_sampling),
    ):
        np.testing.assert_allclose(scores(name, logits), score(classifier, features), rtol=1e-4, atol=1e-6)
        queried = query(classifier, features, n_instances=10)
        queried = queried[0] if isinstance(queried, tuple) else queried
        ours = SELECTORS.build(name).select(scan, 10, generator=torch.Generator()).rows.tolist()
        assert ours == sorted(queried.tolist())
