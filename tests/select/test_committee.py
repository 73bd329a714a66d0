"""Members that disagree: BALD, ALSE, and scores averaged over snapshots."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import el2n as el2n_reference
from reference import uncertainty as reference
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.committee import mutual_information, variation_ratio

GENERATOR = torch.Generator()


def scan_of(*members, targets=None):
    """A scan with members that predict the given probabilities."""
    tables = [torch.tensor(member).log().clamp(min=-100) for member in members]
    return Scan.from_arrays(members=[Scan.from_arrays(logits=t) for t in tables], targets=targets)


@given(m=st.integers(2, 5), n=st.integers(1, 8), c=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_scores_are_those_of_the_literal_version(m, n, c, seed):
    logits = np.random.default_rng(seed).normal(size=(m, n, c)) * 4
    members = [[reference.softmax(row) for row in member.tolist()] for member in logits]
    given = torch.tensor(members, dtype=torch.float32)
    of_sample = [[member[i] for member in members] for i in range(n)]
    expected = [reference.mutual_information(sample) for sample in of_sample]
    np.testing.assert_allclose(mutual_information(given), expected, rtol=1e-3, atol=2e-6)
    assert bool((mutual_information(given) >= 0).all())
    np.testing.assert_allclose(variation_ratio(given), [reference.variation_ratio(s) for s in of_sample], atol=1e-6)


def test_disagreement_by_hand():
    one, other = [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    scores = SELECTORS.build("bald").scores(scan_of(one, other))
    torch.testing.assert_close(scores, torch.tensor([math.log(2), 0.0, 0.0]), atol=1e-6, rtol=0)


def test_bald_is_not_entropy():
    """All members are unsure in the first case, and each is sure of another class in the second."""
    one, other = [[0.5, 0.5], [0.95, 0.05]], [[0.5, 0.5], [0.05, 0.95]]
    assert SELECTORS.build("bald").select(scan_of(one, other), 1, generator=GENERATOR).rows.tolist() == [1]


def test_alse_ranks_by_the_mean_or_by_votes():
    members = ([[0.9, 0.1], [0.45, 0.55]], [[0.6, 0.4], [0.45, 0.55]], [[0.45, 0.55], [0.45, 0.55]])
    scan = scan_of(*members)
    torch.testing.assert_close(SELECTORS.build("alse").scores(scan), torch.tensor([0.35, 0.45]))
    votes = SELECTORS.build("alse(score=variation-ratio)").scores(scan)
    torch.testing.assert_close(votes, torch.tensor([1 / 3, 0.0]))
    mean = [reference.entropy([0.65, 0.35]), reference.entropy([0.45, 0.55])]
    torch.testing.assert_close(SELECTORS.build("alse(score=entropy)").scores(scan), torch.tensor(mean))


def test_el2n_of_several_networks_is_the_mean_of_their_own():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 6, 4)).astype(np.float32), rng.integers(0, 4, 6)
    scan = Scan.from_arrays(members=[Scan.from_arrays(logits=member) for member in logits], targets=targets)
    scores = SELECTORS.build("el2n(members=3)").scores(scan)
    each = [[el2n_reference.score(row, t) for row, t in zip(member.tolist(), targets.tolist())] for member in logits]
    np.testing.assert_allclose(scores, np.mean(each, axis=0), rtol=1e-5)
    assert SELECTORS.build("el2n(members=3)").needs == {"members", "targets"}


def test_what_members_each_asks_for():
    for spec, source, count in (("bald(passes=4)", "dropout", 4), ("alse(snapshots=3)", "snapshots", 3)):
        selector = SELECTORS.build(spec)
        assert (selector.members_from, selector.members_count) == (source, count)
    assert SELECTORS.build("el2n(members=2)").members_from == "snapshots"
    assert SELECTORS.build("el2n").members_from is None


@pytest.mark.parametrize("spec", ["bald(passes=1)", "alse(snapshots=1)"])
def test_one_member_is_no_committee(spec):
    with pytest.raises(ConfigError, match=r"is 1; it must lie in \[2, inf\)"):
        SELECTORS.build(spec)


def test_members_that_are_missing_are_named():
    with pytest.raises(SelectionError, match=r"the scan has no members; give scan\(\.\.\., dropout_passes="):
        SELECTORS.build("bald").select(Scan.from_arrays(logits=[[0.0, 1.0]]), 1, generator=GENERATOR)


@given(m=st.integers(2, 7), n=st.integers(1, 8), c=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_equal_members_disagree_about_nothing_at_all(m, n, c, seed):
    """Faulty: entropies in float32, of whose difference 3e-7 is left over, by which samples would then be ranked."""
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, c)) * 4)
    assert mutual_information(logits.softmax(1).float().expand(m, n, c)).tolist() == [0.0] * n


def test_small_disagreements_keep_their_digits():
    base = np.random.default_rng(0).normal(size=(1, 200, 10)) * 3
    logits = torch.from_numpy(base + np.random.default_rng(1).normal(size=(5, 200, 10)) * 1e-3)
    given = logits.softmax(2).float()
    expected = [reference.mutual_information(given[:, i].tolist()) for i in range(200)]
    np.testing.assert_allclose(mutual_information(given), expected, rtol=1e-3, atol=1e-14)


@pytest.mark.parametrize(
    "spec", ["bald", "alse", "alse(score=entropy)", "alse(score=variation-ratio)", "el2n(members=2)"]
)
def test_huge_logits_of_many_classes_give_finite_scores_in_range(spec):
    tables = np.random.default_rng(0).normal(size=(2, 9, 1000)) * 1e4
    tables[:, :3] = 0
    members = [Scan.from_arrays(logits=table.astype(np.float32)) for table in tables]
    scores = SELECTORS.build(spec).scores(Scan.from_arrays(members=members, targets=np.arange(9)))
    assert bool(scores.isfinite().all())
    assert 0 <= float(scores.min()) <= float(scores.max()) <= math.log(1000) + 1e-5


def test_snapshots_that_are_almost_sure_still_differ():
    logits = torch.tensor([[20.0, 0.0], [30.0, 0.0], [40.0, 0.0]])
    scores = SELECTORS.build("alse").scores(Scan.from_arrays(members=[Scan.from_arrays(logits=logits)] * 3))
    assert scores[0] > scores[1] > scores[2] > 0


def test_members_that_cannot_disagree_are_refused():
    one, other = Scan.from_arrays(logits=torch.zeros(2, 3)), Scan.from_arrays(logits=torch.zeros(2, 5))
    with pytest.raises(SelectionError, match="have 3 and 5 classes; take networks for the same ones"):
        SELECTORS.build("bald").select(Scan.from_arrays(members=[one, other]), 1, generator=GENERATOR)
    with pytest.raises(SelectionError, match="the scan has 1 member, which disagrees with nobody"):
        SELECTORS.build("bald").select(Scan.from_arrays(members=[one]), 1, generator=GENERATOR)


def test_equal_shares_of_votes_are_chosen_at_random_not_by_row():
    members = [Scan.from_arrays(logits=torch.tensor([[2.0, 1.0]]).repeat(200, 1)) for _ in range(3)]
    subset = SELECTORS.build("alse(score=variation-ratio)").select(
        Scan.from_arrays(members=members), 20, generator=torch.Generator().manual_seed(0)
    )
    assert int(subset.rows.max()) >= 20
