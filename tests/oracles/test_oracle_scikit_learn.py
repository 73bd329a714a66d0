"""GradMatch's pursuit and BADGE's draws against scikit-learn and scipy, where they do the same."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.stats import chi2_contingency

from sartor.seen import Scan
from sartor.select.badge import Seeding, likely_gradients
from sartor.select.head_gradients import HeadGradients
from sartor.select.pursuit import pursue

pytestmark = pytest.mark.oracles
WHY = "{} is not installed; `make oracles` does it, in an environment of its own."


def one_class(seed, n=40, c=4, d=30):
    rng = np.random.default_rng(seed)
    return Scan.from_arrays(
        logits=rng.normal(size=(n, c)), features=np.abs(rng.normal(size=(n, d))), targets=np.zeros(n, dtype=np.int64)
    )


def built(gradients):
    outer = gradients.errors.double()[:, :, None] * gradients.inputs.double()[:, None, :]
    return outer.flatten(1).numpy()


@pytest.mark.parametrize("seed", range(8))
def test_the_pursuit_is_orthogonal_matching_pursuit_while_all_its_weights_are_positive(seed):
    """Scikit-learn's takes the largest |product| and lets weights be negative: until one is, both do the same."""
    linear = pytest.importorskip("sklearn.linear_model", reason=WHY.format("scikit-learn"))
    gradients = HeadGradients.of(one_class(seed), torch.arange(40))
    atoms = built(gradients)
    target = atoms.sum(0)
    agreed = 0
    for k in range(1, 25):
        weights = linear.orthogonal_mp(atoms.T.copy(), target, n_nonzero_coefs=k)
        products = atoms @ (target - atoms.T @ weights)
        if weights.min() < 0 or -products.min() >= products.max():
            break
        chosen, ours = pursue(gradients, k, ridge=0.0)
        found = np.zeros(len(atoms))
        found[chosen] = ours
        np.testing.assert_allclose(found, weights, rtol=1e-4, atol=1e-6 * weights.max())
        agreed = k
    assert agreed >= 5, "too few steps are compared"


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_the_weights_are_the_non_negative_least_squares_of_scipy(seed, ridge):
    gradients = HeadGradients.of(one_class(seed), torch.arange(40))
    atoms = built(gradients)
    chosen, ours = pursue(gradients, 15, ridge=ridge)
    penalty = ridge * (atoms**2).sum(1).mean()
    held = np.hstack([atoms[chosen], np.sqrt(penalty) * np.eye(len(chosen))])
    weights, _ = nnls(held.T, np.concatenate([atoms.sum(0), np.zeros(len(chosen))]))
    np.testing.assert_allclose(ours, weights, rtol=1e-4)


def test_badge_draws_as_the_k_means_plus_plus_of_scikit_learn():
    """Three of five from a random first, with one trial a centre; chi-square of both counts, for given seeds."""
    cluster = pytest.importorskip("sklearn.cluster", reason=WHY.format("scikit-learn"))
    scan = Scan.from_arrays(
        logits=[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.5, 0.0], [0.0, 0.3]],
        features=[[5.0, 0.0], [0.0, 4.0], [0.0, 4.5], [1.0, 1.0], [3.0, 0.0]],
    )
    points, trials = built(likely_gradients(scan, slice(None))), 3000
    state, source = np.random.RandomState(0), torch.Generator().manual_seed(0)
    theirs, ours = Counter(), Counter()
    for _ in range(trials):
        _, picks = cluster.kmeans_plusplus(points, 3, random_state=state, n_local_trials=1)
        theirs[tuple(picks.tolist())] += 1
        seeding, first = (
            Seeding(5, lambda index: likely_gradients(scan, index)),
            torch.randint(5, (1,), generator=source),
        )
        ours[tuple(seeding.grow(int(first), 3, generator=source).tolist())] += 1
    orders = [order for order in permutations(range(5), 3) if theirs[order] + ours[order] >= 10]
    counts = [[found[order] for order in orders] for found in (theirs, ours)]
    rest = [trials - sum(row) for row in counts]
    assert chi2_contingency([[*row, one + 1] for row, one in zip(counts, rest)]).pvalue > 1e-3
    assert len(orders) > 30
