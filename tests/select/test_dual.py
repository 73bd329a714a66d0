"""DUAL scores by windows that slide, and draws exactly k in proportion to what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import dual as reference
from reference.history import Trajectories
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.seen import Scan
from sartor.select.dual import DUAL, beta_parameters, draw_weighted, log_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scan_of(probabilities, **given):
    """A scan whose samples had these probabilities of their label, (visits, n)."""
    history = History(torch.arange(len(probabilities[0])))
    for p in torch.as_tensor(np.asarray(probabilities)):
        history.visit(history.rows, torch.stack([p, 1 - p], 1).log().clamp(min=-200), torch.zeros(len(p)).long())
    return Scan.from_arrays(rows=history.rows, history=history, **given)


@given(n=st.integers(1, 12), visits=st.integers(10, 24), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_scores_are_the_mean_over_all_windows_and_the_highest_are_kept_without_beta(n, visits, share, seed):
    probabilities = np.random.default_rng(seed).uniform(0.05, 0.95, (visits, n))
    kept, seen, k = Trajectories(range(n)), scan_of(probabilities), max(1, round(share * n))
    for row in range(n):
        for p in probabilities[:, row]:
            kept.visit(row, [np.log(p), np.log(1 - p)], 0)
    expected = [np.mean(kept.uncertainty_of_windows(row)) for row in range(n)]
    np.testing.assert_allclose(DUAL().scores(seen), expected, rtol=1e-4)
    chosen = DUAL(beta=False).select(seen, k, generator=generator()).rows.tolist()
    assert chosen == sorted(np.argsort(expected)[::-1][:k])


def test_windows_move_on_with_the_visits():
    """Faulty: the window never moves, so that only the first ten visits count."""
    late = [0.5] * 10 + [0.1, 0.9] * 5
    early = late[::-1]
    scores = DUAL().scores(scan_of(np.stack([late, early, [0.5] * 20], 1)))
    assert scores[0] == pytest.approx(float(scores[1]), rel=1e-4)
    assert scores[0] > 0.1
    assert scores[2] < 1e-6


def test_the_score_is_of_undecided_samples_and_of_the_harder_ones_among_them():
    hard, easy, learnt, hopeless = [0.1, 0.4] * 5, [0.6, 0.9] * 5, [0.99] * 10, [0.01] * 10
    scores = DUAL().scores(scan_of(np.stack([hard, easy, learnt, hopeless], 1)))
    assert scores.argsort(descending=True)[:2].tolist() == [0, 1]
    assert scores[2:].max() < 1e-6
    expected = np.std(hard, ddof=1) * (1 - np.mean(hard))
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_the_beta_distribution_by_hand_and_the_smaller_the_share_the_easier_it_lies():
    scores, probabilities = torch.tensor([0.0, 3, 2] + [1.0] * 9), torch.tensor([0.9] + [0.5] * 9 + [0.7] * 2)
    a, b = beta_parameters(scores, probabilities, 0.1, 4.0)  # the ten highest are rows 1 to 10, the mean is 0.52
    assert b == pytest.approx(15 * 0.48 * (1 - 0.9**4))
    assert a + b == pytest.approx(16)
    means = [np.divide(*beta_parameters(scores, probabilities, kept, 4.0)) for kept in (1.0, 0.5, 0.2, 0.1, 0.01)]
    assert means == sorted(means)
    assert beta_parameters(scores, probabilities, 0.1, 8.0)[1] > b


@given(n=st.integers(2, 30), kept=st.floats(0.01, 0.99), c_d=st.floats(0.5, 12), seed=st.integers(0, 10**6))
def test_weights_are_score_times_density(n, kept, c_d, seed):
    draws = np.random.default_rng(seed)
    scores, probabilities = torch.from_numpy(draws.uniform(0.01, 0.3, n)), torch.from_numpy(draws.uniform(0.2, 0.9, n))
    logs = log_weights(scores, probabilities, *beta_parameters(scores, probabilities, kept, c_d))
    expected = np.log(reference.weights(scores.tolist(), probabilities.tolist(), kept, c_d))
    np.testing.assert_allclose(logs - logs[0], expected - expected[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_sample_is_drawn_as_often_as_drawing_one_after_the_other_would(k):
    weights, source, rounds = [1.0, 2.0, 4.0, 0.5], generator(3), 4000
    drawn = torch.zeros(4)
    for _ in range(rounds):
        drawn[draw_weighted(torch.tensor(weights).double().log(), k, torch.arange(4), generator=source)] += 1
    chances = np.array(reference.chance_of_each(weights, k))
    assert chances.sum() == pytest.approx(k)
    sigma = np.sqrt(rounds * chances * (1 - chances))
    assert (np.abs(drawn.numpy() - rounds * chances) < 4 * sigma).all()


def test_samples_without_weight_come_last_and_exactly_k_are_drawn():
    logs = torch.tensor([-torch.inf, 0.0, -torch.inf, -2000.0, 300.0], dtype=torch.float64)
    for seed in range(20):
        three = draw_weighted(logs, 3, torch.arange(5), generator=generator(seed))
        assert sorted(three.tolist()) == [1, 3, 4]
        assert {1, 3, 4} < set(draw_weighted(logs, 4, torch.arange(5), generator=generator(seed)).tolist())


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_samples_that_never_change_are_drawn_evenly(p):
    seen, drawn = scan_of(np.full((12, 20), p)), torch.zeros(20)
    for seed in range(400):
        drawn[DUAL().select(seen, 5, generator=generator(seed)).rows] += 1
    # Chi-squared of draws without replacement, 19 degrees of freedom; each is drawn in 1 of 4.
    assert float(((drawn - 100) ** 2 / (100 * 0.75)).sum()) < 46  # p = 0.0005


def test_balanced_draws_within_each_class():
    probabilities = np.random.default_rng(0).uniform(0.1, 0.9, (12, 40))
    seen = scan_of(probabilities, targets=[0] * 30 + [1] * 10)
    for beta in (True, False):
        chosen = DUAL(beta=beta, balanced=True).select(seen, 8, generator=generator()).rows
        assert (chosen < 30).sum() == 6


def test_samples_with_too_few_visits_are_named():
    seen = scan_of(np.full((9, 4), 0.5))
    with pytest.raises(
        SelectionError, match=r"row 2 and 1 more were looked at fewer than 10 times \(least: 9\); record"
    ):
        DUAL().select(seen, 2, generator=generator())


def test_options_without_effect_or_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="c_d is for beta=True and has no effect"):
        DUAL(beta=False, c_d=5.5)
    with pytest.raises(ConfigError, match=r"c_d is 0; it must lie in \(0, inf\)"):
        DUAL(c_d=0)
