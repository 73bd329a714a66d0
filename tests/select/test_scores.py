"""EL2N is the error norm; the end of the ranking that is kept is the one that is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import el2n as reference
from sartor.errors import ConfigError, SelectionError
from sartor.seen import Scan
from sartor.select.ranked import keep_top
from sartor.select.scores import EL2N, el2n, nearness_to_median

GENERATOR = torch.Generator()


@given(n=st.integers(1, 20), c=st.integers(2, 6), scale=st.sampled_from([0.0, 1.0, 30.0]), seed=st.integers(0, 10**6))
def test_scores_are_those_of_the_literal_version(n, c, scale, seed):
    rng = np.random.default_rng(seed)
    logits, targets = (rng.normal(size=(n, c)) * scale).astype(np.float32), rng.integers(0, c, n)
    scores = el2n(Scan.from_arrays(logits=logits, targets=targets).errors(slice(None)))
    expected = [reference.score(row, target) for row, target in zip(logits.tolist(), targets.tolist())]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_scores_by_hand():
    scan = Scan.from_arrays(logits=[[0.0, 0.0], [100.0, 0.0], [100.0, 0.0]], targets=[0, 0, 1])
    torch.testing.assert_close(el2n(scan.errors(slice(None))), torch.tensor([0.5**0.5, 0.0, 2**0.5]))


def sure_of_class_0(n, progress=None):
    """The higher the row, the surer the model is of class 0, which is right."""
    logits = torch.stack([torch.arange(n) / 10, torch.zeros(n)], dim=1)
    return Scan.from_arrays(logits=logits, targets=[0] * n, progress=progress)


@pytest.mark.parametrize(
    ("keep", "progress", "rows"),
    [
        ("highest", None, [0, 1, 2]),
        ("lowest", None, [7, 8, 9]),
        ("switch", 0.0, [0, 1, 2]),
        ("switch", 0.49, [0, 1, 2]),
        ("switch", 0.5, [7, 8, 9]),
        ("switch", 1.0, [7, 8, 9]),
    ],
)
@pytest.mark.parametrize("balanced", [False, True])
def test_it_keeps_the_end_that_is_named(keep, progress, rows, balanced):
    selector = EL2N(keep=keep, balanced=balanced)
    assert selector.select(sure_of_class_0(10, progress), 3, generator=GENERATOR).rows.tolist() == rows


def test_the_switch_needs_to_know_the_progress():
    assert EL2N().needs == {"logits", "targets"}
    assert EL2N(keep="switch").needs == {"logits", "targets", "progress"}
    with pytest.raises(SelectionError, match=r"the scan has no progress; give scan\(\.\.\., progress="):
        EL2N(keep="switch").select(sure_of_class_0(10), 3, generator=GENERATOR)


def test_balanced_keeps_the_shares_of_the_classes():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    logits = rng.normal(size=(100, 3)) + 4 * np.eye(3)[targets] * (targets > 0)[:, None]  # class 0 is the hard one
    scan = Scan.from_arrays(logits=logits, targets=targets)
    plain = EL2N().select(scan, 20, generator=GENERATOR).rows
    balanced = EL2N(balanced=True).select(scan, 20, generator=GENERATOR).rows
    assert np.bincount(targets[plain], minlength=3).tolist() != [12, 6, 2]
    assert np.bincount(targets[balanced], minlength=3).tolist() == [12, 6, 2]
    scores = el2n(scan.errors(slice(None)))
    for label in range(3):
        of_class = torch.from_numpy(targets == label)
        kept = torch.zeros(100, dtype=torch.bool).index_fill_(0, balanced, True)
        assert scores[of_class & kept].min() >= scores[of_class & ~kept].max()


def test_equal_scores_go_to_the_lower_rows():
    assert keep_top(torch.ones(6), 2, largest=True).tolist() == [0, 1]
    assert keep_top(torch.ones(6), 2, largest=False).tolist() == [0, 1]


def test_unknown_ends_are_refused():
    with pytest.raises(ConfigError, match=r"keep is 'high'.*Did you mean 'highest'"):
        EL2N(keep="high")


@pytest.mark.parametrize(
    ("switch_at", "progress", "hardest"), [(0.25, 0.2, True), (0.25, 0.25, False), (0, 0.0, False)]
)
def test_the_switch_comes_when_it_is_told_to(switch_at: float, progress: float, hardest: bool):
    logits, targets = np.array([[4.0, 0], [3, 0], [2, 0], [1, 0]]), np.zeros(4, dtype=int)
    scan = Scan.from_arrays(logits=logits, targets=targets, progress=progress)
    rows = EL2N(keep="switch", switch_at=switch_at).select(scan, 1, generator=GENERATOR).rows
    assert rows.tolist() == [3 if hardest else 0]


def test_the_middle_is_around_the_median_of_all_or_of_each_class():
    logits = np.stack([np.arange(9.0), np.zeros(9)], axis=1)  # the first is the hardest of class 0
    scan = Scan.from_arrays(logits=logits, targets=np.zeros(9, dtype=int))
    assert EL2N(keep="middle").select(scan, 3, generator=GENERATOR).rows.tolist() == [3, 4, 5]
    targets = np.array([0] * 6 + [1] * 3)
    scan = Scan.from_arrays(logits=logits, targets=targets)
    chosen = EL2N(keep="middle", balanced=True).select(scan, 3, generator=GENERATOR).rows.tolist()
    assert chosen[-1:] == [7]
    assert set(chosen[:2]) == {2, 3}


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=30), data=st.data())
def test_the_middle_leaves_as_many_on_either_side(scores: list[int], data: st.DataObject):
    k = data.draw(st.integers(1, len(scores)))
    kept = keep_top(nearness_to_median(torch.tensor(scores, dtype=torch.float64)), k, largest=True).tolist()
    places = sorted(sorted(range(len(scores)), key=lambda i: (scores[i], i)).index(row) for row in kept)
    assert places == list(range(places[0], places[0] + k))
    assert abs(places[0] - (len(scores) - 1 - places[-1])) <= 1


def test_a_switch_without_effect_is_refused():
    with pytest.raises(ConfigError, match="switch_at has no effect with keep=highest"):
        EL2N(switch_at=0.3)
    with pytest.raises(ConfigError, match=r"switch_at is 1\.5"):
        EL2N(keep="switch", switch_at=1.5)
