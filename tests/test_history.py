"""A history knows of every sample what keeping its whole trajectory would tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.history import Trajectories
from sartor.errors import ConfigError, SelectionError
from sartor.history import WINDOW, History

ROWS = torch.tensor([3, 8, 11, 40, 41])


def one(history, row, logits, target=0):
    history.visit(torch.tensor([row]), torch.tensor([logits]), torch.tensor([target]))


def recorded(visits, targets, *, split, seed=0):
    """Histories of visits (epochs, n, c), in shuffled batches of `split`, and the trajectories."""
    history, kept = History(ROWS), Trajectories(ROWS.tolist())
    draws = np.random.default_rng(seed)
    for logits in visits:
        for batch in np.array_split(draws.permutation(len(ROWS)), split):
            history.visit(ROWS[batch], torch.from_numpy(logits[batch]), torch.from_numpy(targets[batch]))
        for row, values, target in zip(ROWS.tolist(), logits.tolist(), targets.tolist()):
            kept.visit(row, values, target)
    return history, kept


@given(
    epochs=st.integers(1, 25),
    classes=st.integers(2, 5),
    split=st.integers(1, 5),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e30]),
    seed=st.integers(0, 10**6),
)
def test_visits_in_any_batches_add_up_to_what_whole_trajectories_tell(epochs, classes, split, scale, seed):
    draws = np.random.default_rng(seed)
    visits = (draws.normal(size=(epochs, len(ROWS), classes)) * scale).astype(np.float32)
    targets = draws.integers(0, classes, len(ROWS))
    history, kept = recorded(visits, targets, split=split, seed=seed)
    rows = ROWS.tolist()
    assert history.visits.tolist() == [epochs] * len(rows)
    assert history.forgotten.tolist() == [kept.forgotten(row) for row in rows]
    assert history.times_right.tolist() == [sum(kept.right(row)) for row in rows]
    assert history.right.tolist() == [kept.right(row)[-1] for row in rows]
    np.testing.assert_allclose(history.margins, [np.mean(kept.margins(row)) for row in rows], rtol=1e-6, atol=1e-6)
    probabilities = [np.mean(kept.probabilities(row)) for row in rows]
    np.testing.assert_allclose(history.probabilities, probabilities, rtol=1e-4, atol=1e-6)
    windows = [kept.uncertainty_of_windows(row) for row in rows]
    assert history.windows.tolist() == [len(found) for found in windows]
    np.testing.assert_allclose(history.window_scores, [sum(found) for found in windows], rtol=1e-4, atol=1e-5)
    last = [-np.log(np.maximum(kept.probabilities(row)[-1], 1e-300)) for row in rows]
    assert scale > 1 or np.allclose(history.loss, last, rtol=1e-4, atol=1e-5)


def test_samples_may_be_visited_at_different_times_and_unequally_often():
    history = History(ROWS)
    for row, margin in [(8, 2.0), (41, -1.0), (8, 4.0), (8, -3.0)]:
        one(history, row, [margin, 0.0])
    assert history.visits.tolist() == [0, 3, 0, 0, 1]
    assert history.forgotten.tolist() == [0, 1, 0, 0, 0]
    assert history.margins[1] == 1
    assert history.margins[4] == -1
    assert history.seen.tolist() == [False, True, False, False, True]
    assert history.margins[~history.seen].isnan().all()
    assert history.probabilities[~history.seen].isnan().all()
    assert history.loss[~history.seen].isnan().all()


def test_forgetting_is_from_right_to_wrong_and_no_other_change_of_the_prediction():
    """Faulty: every change of the predicted class is counted, whatever the label says."""
    history = History(torch.tensor([0, 1, 2]))
    predicted = {0: [1, 2, 1, 2, 1], 1: [1, 0, 0, 0, 0], 2: [0, 1, 0, 2, 1]}  # the label is 0
    for epoch in range(5):
        for row in history.rows.tolist():
            one(history, row, torch.eye(3)[predicted[row][epoch]].tolist())
    assert history.forgotten.tolist() == [0, 0, 2]
    assert history.times_right.tolist() == [0, 4, 2]


def test_forgetting_follows_the_sample_and_not_its_place_in_the_batch():
    """Faulty: predictions of a shuffled loader are compared with those at the same place one epoch before."""
    draws = torch.Generator().manual_seed(0)
    history, always = History(torch.arange(40)), torch.arange(40) < 20
    for _ in range(10):
        rows = torch.randperm(40, generator=draws)
        history.visit(rows, torch.stack([always[rows].float(), torch.full((40,), 0.5)], dim=1), torch.zeros(40).long())
    assert history.forgotten.sum() == 0
    assert torch.equal(history.times_right, 10 * always.int())


def test_margins_are_of_logits_and_not_of_probabilities():
    """Faulty: differences of probabilities, which never leave [-1, 1]."""
    history = History(torch.tensor([0]))
    one(history, 0, [7.0, 1.0, -50.0])
    one(history, 0, [-90.0, 10.0, 0.0])
    assert history.margins.tolist() == [(6 - 100) / 2]


def test_equal_logits_are_no_right_answer():
    history = History(torch.tensor([0, 1]))
    history.visit(torch.tensor([0, 1]), torch.zeros(2, 3), torch.tensor([0, 2]))
    assert not history.right.any()


def test_windows_slide_by_one_visit_and_their_deviation_has_one_less_in_the_divisor():
    history = History(torch.tensor([0]))
    probabilities = [0.5] * 9 + [0.9, 0.9]
    for p in probabilities:
        one(history, 0, [np.log(p), np.log(1 - p)])
    first, second = np.array(probabilities[:10]), np.array(probabilities[1:11])
    expected = sum(window.std(ddof=1) * (1 - window.mean()) for window in (first, second))
    assert history.windows.tolist() == [2]
    np.testing.assert_allclose(history.window_scores, [expected], rtol=1e-5)


def test_nothing_grows_with_time():
    history = History(torch.arange(1000))
    before = sum(table.nbytes for table in history.state_dict().values())
    for _ in range(3 * WINDOW):
        history.visit(history.rows, torch.randn(1000, 2), torch.zeros(1000).long())
    assert before == sum(table.nbytes for table in history.state_dict().values()) == 89 * 1000


def test_precisions_and_gradients_of_a_training_are_no_trouble():
    history = History(torch.tensor([0, 1]))
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]], dtype=torch.bfloat16, requires_grad=True)
    history.visit(torch.tensor([1, 0]), logits, torch.tensor([0, 0], dtype=torch.int32))
    assert history.margins.tolist() == [-3, 1]
    assert not any(table.requires_grad for table in history.state_dict().values())


def test_rows_may_come_in_any_order_and_are_kept_in_theirs():
    history = History(torch.tensor([9, 2, 5]))
    assert history.rows.tolist() == [2, 5, 9]
    history.visit(torch.tensor([9, 2]), torch.tensor([[4.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert history.margin_sum.tolist() == [1, 0, 4]
    part = history.of(torch.tensor([9, 2]))
    assert part.rows.tolist() == [2, 9]
    assert part.margin_sum.tolist() == [1, 4]
    one(part, 9, [1.0, 0.0])
    assert history.visits.tolist() == [1, 0, 1]


@pytest.mark.parametrize("rows", [[], [1, 1]])
def test_no_rows_and_rows_that_are_there_twice_are_refused(rows):
    with pytest.raises(SelectionError, match="give distinct ones, 1 or more"):
        History(torch.tensor(rows, dtype=torch.int64))


def test_visits_that_cannot_be_meant_are_refused_and_leave_no_trace():
    history = History(ROWS)
    with pytest.raises(SelectionError, match=r"no records of row 9; make it of all rows: History\(pool.rows\)"):
        history.visit(torch.tensor([3, 9]), torch.randn(2, 2), torch.zeros(2).long())
    with pytest.raises(SelectionError, match="row 8 is visited twice in one call"):
        history.visit(torch.tensor([8, 3, 8]), torch.randn(3, 2), torch.zeros(3).long())
    for bad in (torch.nan, torch.inf):
        with pytest.raises(SelectionError, match="the logits of row 40 are not finite; the network has diverged"):
            history.visit(torch.tensor([3, 40]), torch.tensor([[0.0, 1.0], [0.0, bad]]), torch.zeros(2).long())
    assert not history.seen.any()
    with pytest.raises(SelectionError, match="no records of row 4"):
        history.of(torch.tensor([4]))


def test_a_history_goes_on_where_its_tables_were_saved():
    draws = np.random.default_rng(0)
    visits = draws.normal(size=(23, len(ROWS), 3)).astype(np.float32)
    targets = draws.integers(0, 3, len(ROWS))
    whole, _ = recorded(visits, targets, split=1)
    first, _ = recorded(visits[:11], targets, split=1)
    saved = {name: table.clone() for name, table in first.state_dict().items()}
    again = History.from_tables(saved)
    one(first, 3, [0.0, 1.0])
    for logits in visits[11:]:
        again.visit(ROWS, torch.from_numpy(logits), torch.from_numpy(targets))
    assert all(torch.equal(table, again.state_dict()[name]) for name, table in whole.state_dict().items())


@pytest.mark.parametrize("spoil", ["missing", "longer", "unknown", "narrower", "kind"])
def test_tables_of_something_else_are_refused(spoil):
    tables = History(ROWS).state_dict()
    if spoil == "missing":
        del tables["rows"]
    elif spoil == "longer":
        tables["visits"] = torch.zeros(9, dtype=torch.int32)
    elif spoil == "unknown":
        tables["epochs"] = torch.zeros(len(ROWS))
    elif spoil == "narrower":
        tables["window"] = tables["window"][:, :5]
    else:
        tables["right"] = tables["right"].float()
    with pytest.raises(ConfigError, match="not the tables of a history"):
        History.from_tables(tables)
