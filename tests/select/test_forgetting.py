"""Forgetting ranks by events; samples that were never right come out on top, and ties fall to chance."""

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
from sartor.select.forgetting import Forgetting, forgetting_events


def history_of(right):
    """The history of samples that were right or wrong as the table (n, visits) says."""
    right = torch.as_tensor(right)
    history = History(torch.arange(len(right)))
    for column in right.T:
        history.visit(history.rows, torch.stack([column.float(), torch.full((len(right),), 0.5)], 1), column.long() * 0)
    return history


def scan_of(right, **given):
    return Scan.from_arrays(rows=range(len(right)), history=history_of(right), **given)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(n=st.integers(1, 12), visits=st.integers(1, 12), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_scores_are_those_of_whole_trajectories_and_the_ends_are_those_of_the_ranking(n, visits, share, seed):
    right = np.random.default_rng(seed).random((n, visits)) < 0.4
    kept = Trajectories(range(n))
    for row, column in np.ndindex(right.shape):
        kept.visit(row, [float(right[row, column]), 0.5], 0)
    counts = [kept.forgotten(row) for row in range(n)]
    expected = [counts[row] if any(kept.right(row)) else max(counts) + 1 for row in range(n)]
    seen, k = scan_of(right), max(1, round(share * n))
    assert Forgetting().scores(seen).tolist() == expected
    for keep in ("highest", "lowest"):
        chosen = Forgetting(keep=keep).select(seen, k, generator=generator(seed)).rows.tolist()
        assert sorted(expected[row] for row in chosen) == sorted(sorted(expected, reverse=keep == "highest")[:k])


def test_samples_that_were_never_right_rank_above_every_count():
    """Faulty: they were never forgotten either, so they count 0, and the hardest samples rank as the easiest."""
    right = [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0]]
    assert forgetting_events(history_of(right)).tolist() == [0, 2, 3, 1]
    assert Forgetting().select(scan_of(right), 1, generator=generator()).rows.tolist() == [2]
    assert Forgetting(keep="lowest").select(scan_of(right), 1, generator=generator()).rows.tolist() == [0]


def test_ties_fall_to_chance_and_not_to_the_first_rows():
    """Faulty: where most counts are equal, ties by row keep the first samples of the data set, whatever they are."""
    seen, drawn = scan_of([[1, 1, 1]] * 50), torch.zeros(50)
    for seed in range(600):
        drawn[Forgetting(keep="lowest").select(seen, 10, generator=generator(seed)).rows] += 1
    # Chi-squared of draws without replacement, 49 degrees of freedom; each is drawn in 1 of 5.
    assert float(((drawn - 120) ** 2 / (120 * 0.8)).sum()) < 88  # p = 0.0005
    one, other = (Forgetting().select(seen, 10, generator=generator(7)).rows for _ in range(2))
    assert torch.equal(one, other)


def test_only_ties_at_the_border_fall_to_chance():
    right = [[1, 0, 1, 0]] * 3 + [[1, 1, 1, 0]] * 20 + [[1, 1, 1, 1]] * 20
    chosen = Forgetting().select(scan_of(right), 5, generator=generator()).rows.tolist()
    assert chosen[:3] == [0, 1, 2]
    assert all(3 <= row < 23 for row in chosen[3:])


def test_balanced_ranks_within_each_class():
    right = [[1, 0, 1, 0]] * 30 + [[1, 1, 1, 1]] * 8 + [[0, 0, 0, 0]] * 2
    seen = scan_of(right, targets=[0] * 30 + [1] * 10)
    chosen = Forgetting(balanced=True).select(seen, 8, generator=generator()).rows
    assert chosen[6:].tolist() == [38, 39]
    assert (chosen[:6] < 30).all()


def test_samples_that_were_never_looked_at_are_named():
    history = History(torch.arange(6))
    history.visit(torch.tensor([0, 2]), torch.zeros(2, 2), torch.zeros(2).long())
    with pytest.raises(SelectionError, match=r"row 1, row 3, row 4 and 1 more were looked at fewer than 1 times"):
        Forgetting().select(Scan.from_arrays(rows=range(6), history=history), 2, generator=generator())
    part = Scan.from_arrays(rows=[0, 2], history=history)
    assert Forgetting().select(part, 1, generator=generator()).rows.tolist() in ([0], [2])


def test_unknown_ends_are_refused():
    with pytest.raises(ConfigError, match=r"keep is 'switch'; it must be one of highest, lowest"):
        Forgetting(keep="switch")
