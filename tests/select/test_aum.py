"""AUM is the mean margin on logits over all visits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.history import Trajectories
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.seen import Scan
from sartor.select.aum import AUM

GENERATOR = torch.Generator()


def history_of(visits, targets):
    """The history of visits (times, n, c)."""
    history = History(torch.arange(len(targets)))
    for logits in visits:
        history.visit(history.rows, torch.as_tensor(logits, dtype=torch.float32), torch.as_tensor(targets))
    return history


def scan_of(visits, targets):
    return Scan.from_arrays(targets=targets, history=history_of(visits, targets))


@given(n=st.integers(1, 12), c=st.integers(2, 4), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_scores_are_those_of_whole_trajectories_and_the_ends_are_those_of_the_ranking(n, c, share, seed):
    draws = np.random.default_rng(seed)
    visits, targets = draws.normal(size=(4, n, c)).astype(np.float32), draws.integers(0, c, n)
    kept = Trajectories(range(n))
    for logits in visits.tolist():
        for row in range(n):
            kept.visit(row, logits[row], int(targets[row]))
    expected = [np.mean(kept.margins(row)) for row in range(n)]
    seen, k = scan_of(visits, targets), max(1, round(share * n))
    np.testing.assert_allclose(AUM().scores(seen), expected, rtol=1e-5, atol=1e-6)
    order = np.argsort(expected)
    assert AUM().select(seen, k, generator=GENERATOR).rows.tolist() == sorted(order[:k])
    assert AUM(keep="highest").select(seen, k, generator=GENERATOR).rows.tolist() == sorted(order[::-1][:k])


def test_it_is_the_mean_over_all_visits_and_not_the_last_one():
    """Faulty: the sum is set to zero at every epoch, so that the last one decides."""
    visits = [[[9.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]]
    assert AUM().scores(scan_of(visits, [0, 0])).tolist() == [4, 1.5]


def test_margins_of_logits_rank_otherwise_than_those_of_probabilities():
    """Faulty: differences of probabilities, by which the first sample here would be the harder one."""
    seen = scan_of([[[30.0, 0.0], [5.0, 0.0]], [[-10.0, 0.0], [5.0, 0.0]]], [0, 0])
    assert AUM().scores(seen).tolist() == [10, 5]
    assert AUM().select(seen, 1, generator=GENERATOR).rows.tolist() == [1]
    probabilities = [np.mean([1 / (1 + np.exp(-z)) for z in margins]) for margins in ([30, -10], [5, 5])]
    assert probabilities[0] < probabilities[1]


def test_balanced_ranks_within_each_class_and_equal_ones_go_to_the_lower_row():
    margins = np.r_[np.full(6, 1.0), [9.0, 8.0, 7.0]]
    logits = np.stack([margins, np.zeros(9)], 1)
    logits[6:] = logits[6:, ::-1]
    seen = scan_of([logits], [0] * 6 + [1] * 3)
    assert AUM(balanced=True).select(seen, 3, generator=GENERATOR).rows.tolist() == [0, 1, 8]
    assert AUM().select(seen, 3, generator=GENERATOR).rows.tolist() == [0, 1, 2]


def test_samples_that_were_never_looked_at_are_named():
    history = History(torch.arange(3))
    history.visit(torch.tensor([0]), torch.zeros(1, 2), torch.zeros(1).long())
    with pytest.raises(SelectionError, match=r"row 1, row 2 were looked at fewer than 1 times \(least: 0\); record 1"):
        AUM().select(Scan.from_arrays(rows=range(3), history=history), 1, generator=GENERATOR)


def test_unknown_ends_are_refused():
    with pytest.raises(ConfigError, match=r"keep is 'low'.*Did you mean 'lowest'"):
        AUM(keep="low")
