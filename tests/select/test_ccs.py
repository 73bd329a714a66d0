"""CCS drops the hardest, covers the rest evenly, and keeps to k whatever the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import ccs as reference
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.ranking import size_of
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ccs import CCS, equal_widths, stratum_budgets

OWN = f"{__file__}:Hard"
"""A score of one's own, by the file that it stands in."""


@dataclass(frozen=True)
class Hard:
    """Ranks by the first feature; higher is harder."""

    hardest: ClassVar[str] = "highest"
    balanced: bool = False
    negative: bool = False

    @property
    def needs(self):
        return frozenset({"features"})

    def scores(self, scan):
        return scan.features[:, 0] * (-1 if self.negative else 1)

    def arithmetic(self, n, k, *, classes, features):
        return 0.0


class OfTheHead(Hard):
    """The same, by the gradient of the head and the members of a scan."""

    needs_linear_head: ClassVar[bool] = True
    members_from: ClassVar[str] = "dropout"


@dataclass(frozen=True)
class Undeclared:
    """Ranks, and does not say which end is hard."""

    needs = frozenset[str]()

    def scores(self, scan):
        return scan.rows.double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scan_of(margins, targets=None):
    """A scan whose samples have these areas under the margin."""
    margins = torch.as_tensor(margins, dtype=torch.float32)
    history = History(torch.arange(len(margins)))
    history.visit(history.rows, torch.stack([margins, margins * 0], 1), torch.zeros(len(margins)).long())
    return Scan.from_arrays(rows=history.rows, history=history, targets=targets, features=-margins[:, None])


def chosen(selector, seen, k, seed=0):
    return selector.select(seen, k, generator=generator(seed)).rows


@given(scores=st.lists(st.integers(-40, 40), min_size=1, max_size=40), strata=st.integers(1, 60))
def test_strata_are_those_of_the_literal_version(scores, strata):
    found = equal_widths(torch.tensor(scores, dtype=torch.float32), strata).tolist()
    assert [[i for i, place in enumerate(found) if place == s] for s in range(strata)] == reference.strata(
        scores, strata
    )


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(any), share=st.floats(0, 1))
def test_budgets_are_those_of_the_literal_version_and_add_up(sizes, share):
    k = round(share * sum(sizes))
    expected = reference.budgets(sizes, k)
    filled = [size for size in sizes if size]
    found = stratum_budgets(torch.tensor(filled), k, len(sizes)).tolist()
    assert found == [budget for budget, size in zip(expected, sizes) if size]
    assert sum(found) == k


@given(
    n=st.integers(1, 60),
    share=st.floats(0, 1),
    beta=st.floats(0, 0.99),
    strata=st.integers(1, 20),
    seed=st.integers(0, 10**6),
)
def test_what_is_chosen_covers_the_strata_of_all_but_the_hardest(n, share, beta, strata, seed):
    margins = np.random.default_rng(seed).integers(-100, 100, n)
    k = max(1, round(share * n))
    rows = chosen(CCS(beta=beta, strata=strata), scan_of(margins), k, seed).tolist()
    assert len(set(rows)) == len(rows) == k
    dropped = min(size_of(beta, n), n - k)
    left = sorted(margins.tolist())[dropped:]
    expected = reference.budgets([len(stratum) for stratum in reference.strata(left, strata)], k)
    counts, low, high = [0] * strata, min(left), max(left)
    for value in margins[rows].tolist():
        assert value >= low
        counts[min(strata - 1, (value - low) * strata // (high - low)) if high > low else 0] += 1
    assert counts == expected


def test_a_case_by_hand():
    # Without the two hardest: four at 0, one at 4, three at 10. Of two strata, [0, 5) and [5, 10], the smaller one
    # gives min(3, 5 // 2) = 2, the other 3.
    margins = [-9, 0, 10, 0, -8, 4, 10, 0, 10, 0]
    rows = chosen(CCS(beta=0.2, strata=2), scan_of(margins), 5).tolist()
    assert len({2, 6, 8} & set(rows)) == 2
    assert len({1, 3, 5, 7, 9} & set(rows)) == 3


@pytest.mark.parametrize("value", [0.0, -3.0, 5.0])
def test_constant_scores_are_one_stratum(value):
    """Faulty: strata of width 0, or upside down, hold nobody, and nothing is selected."""
    seen = scan_of([value] * 40)
    assert len(chosen(CCS(), seen, 9)) == 9
    drawn = torch.cat([chosen(CCS(), seen, 9, seed) for seed in range(60)])
    assert torch.equal(drawn.unique(), torch.arange(40)), "ties fall to chance, not to the first rows"


def test_negative_scores_lose_neither_end():
    """Faulty: the upper end is 1.0001 times the maximum, which lies below it where that is negative."""
    margins = np.linspace(-10, -1, 50)
    assert chosen(CCS(beta=0, strata=5), scan_of(margins), 50).tolist() == list(range(50))
    assert equal_widths(torch.from_numpy(margins), 5).tolist() == sorted(list(range(5)) * 10)


def test_balanced_gives_each_class_a_share_of_its_own_size():
    """Faulty: the size of the last class stands for all, so that 900 and 100 become 50 and 50."""
    targets = [0] * 900 + [1] * 100
    rows = chosen(CCS(balanced=True), scan_of(np.random.default_rng(0).normal(size=1000), targets), 500)
    assert [(rows < 900).sum(), (rows >= 900).sum()] == [450, 50]


def test_balanced_drops_the_hardest_of_each_class():
    margins = [*range(10), *range(100, 110)]
    rows = chosen(CCS(beta=0.5, balanced=True), scan_of(margins, [0] * 10 + [1] * 10), 10)
    assert rows.tolist() == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]


def test_the_history_is_left_as_it_was():
    """Faulty: dropping the hardest edits the caller's table of scores."""
    seen = scan_of(np.arange(20))
    before = {name: table.clone() for name, table in seen.history.state_dict().items()}
    chosen(CCS(), seen, 5)
    assert all(torch.equal(table, before[name]) for name, table in seen.history.state_dict().items())


@pytest.mark.parametrize("score", ["aum", f"'{OWN}'"])
def test_the_hard_end_is_the_one_that_the_score_declares(score):
    seen = scan_of([5, -1, 7, -2, 6, 8])  # the features are the margins with another sign
    for seed in range(5):
        assert {1, 3}.isdisjoint(chosen(SELECTORS.build(f"ccs(score={score}, beta=0.34)"), seen, 3, seed).tolist())
    assert SELECTORS.build(f"ccs(score={score})").needs == ({"history"} if score == "aum" else {"features"})


@pytest.mark.parametrize("score", ["el2n", "loss", "entropy", "margin", "least-confidence"])
def test_scores_of_one_moment_have_the_unsure_end_as_the_hard_one(score):
    lead = torch.tensor([5, 0.1, 7, 0.2, 6, 8])
    seen = Scan.from_arrays(logits=torch.stack([lead, lead * 0], 1), targets=[0] * 6)
    for seed in range(5):
        assert {1, 3}.isdisjoint(chosen(CCS(score=score, beta=0.34), seen, 3, seed).tolist())


def test_no_more_are_dropped_than_k_leaves_and_those_that_come_back_are_the_easier_ones():
    seen = scan_of([5, -1, 7, -2, 6, 8, 1, 2, 3, 4])
    assert chosen(CCS(beta=0.5), seen, 10).tolist() == list(range(10))
    assert chosen(CCS(beta=0.5), seen, 9).tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_score_needs_a_hard_end_and_options_that_change_it():
    with pytest.raises(
        ConfigError, match=r"score is 'dual', which does not rank samples by difficulty; use alse, aum, "
    ):
        CCS(score="dual")
    with pytest.raises(ConfigError, match="does not rank samples by difficulty"):
        CCS(score=f"{__file__}:Undeclared")
    with pytest.raises(ConfigError, match="no selector called 'aun'"):
        CCS(score="aun")
    with pytest.raises(ConfigError, match="keep of aum has no effect on its scores; leave it out"):
        CCS(score="aum(keep=highest)")
    with pytest.raises(ConfigError, match=r"balanced of .* has no effect on its scores"):
        CCS(score=f"{OWN}(balanced=True)")
    seen = scan_of([5, -1, 7, -2])
    assert chosen(CCS(score=f"{OWN}(negative=True)", beta=0.5), seen, 2).tolist() == [1, 3]


@pytest.mark.parametrize("options", [{"beta": 1.0}, {"beta": -0.1}, {"strata": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is .*; it must lie in"):
        CCS(**options)


def test_scores_that_are_not_finite_are_named():
    seen = scan_of([5, -1, 7, -2])
    seen.features[2] = torch.inf
    with pytest.raises(SelectionError, match="scores of row 2 are not finite"):
        CCS(score=OWN).select(seen, 2, generator=generator())


def test_what_the_score_asks_of_the_network_is_passed_on():
    asking = CCS(score=f"{__file__}:OfTheHead")
    assert asking.needs_linear_head
    assert asking.members_from == "dropout"
    for quiet in (CCS(), CCS):
        assert not hasattr(quiet, "needs_linear_head")
        assert not hasattr(quiet, "members_from")
