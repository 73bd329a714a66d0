from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.probmask import bisected_shift, sorted_projection
from sartor.errors import PruningError
from sartor.prune.simplex import project, shift

VALUES = st.one_of(
    st.floats(-0.5, 1.5, width=32), st.sampled_from([0.0, 1.0, 0.5, -0.25, 1.25, 1e-30, 1 + 2**-23]), st.floats(0, 2)
)


def projected(scores: list[float], budget: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    row = torch.tensor(scores, dtype=dtype)
    project(row, budget)
    return row


@given(st.lists(VALUES, min_size=1, max_size=30), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_it_is_the_projection_found_by_sorting_and_spends_the_budget(scores: list[float], share: float) -> None:
    budget = share * len(scores)
    row = projected(scores, budget)
    assert row.tolist() == pytest.approx(sorted_projection(scores, budget), abs=1e-6)
    assert bool(((row >= 0) & (row <= 1)).all())
    before = sum(min(max(s, 0.0), 1.0) for s in scores)
    assert float(row.sum()) == pytest.approx(min(before, budget), abs=1e-9)


@given(st.lists(st.floats(0, 1.0078125, width=32), min_size=1, max_size=30), st.floats(0, 1))
@settings(deadline=None)
def test_float32_scores_are_exact_to_their_own_rounding(scores: list[float], share: float) -> None:
    row = projected(scores, share * len(scores), torch.float32)
    assert row.tolist() == pytest.approx(sorted_projection(scores, share * len(scores)), abs=1e-6)


@given(st.lists(VALUES, min_size=2, max_size=12), st.floats(0.05, 0.95), st.integers(0, 2**31))
@settings(deadline=None)
def test_no_other_point_of_the_set_is_nearer(scores: list[float], share: float, seed: int) -> None:
    budget, row = share * len(scores), torch.tensor(scores, dtype=torch.float64)
    nearest = projected(scores, budget)
    other = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    other *= min(1.0, budget / float(other.sum()))
    assert float((row - nearest).norm()) <= float((row - other).norm()) + 1e-9


def test_scores_within_the_budget_are_only_clamped() -> None:
    assert projected([0.2, -0.5, 1.3], 1.5).tolist() == [0.2, 0.0, 1.0]
    assert shift(torch.tensor([0.2, -0.5, 1.3]), 1.25) == 0.0
    assert shift(torch.zeros(0), 0.0) == 0.0


@pytest.mark.parametrize(("scores", "budget"), [([1.0, 1.0, 1.0, 1.0], 0.0), ([3.0, 0.5], 1.0), ([0.25] * 8, 1.0)])
def test_budgets_at_a_corner(scores: list[float], budget: float) -> None:
    assert projected(scores, budget).tolist() == pytest.approx(sorted_projection(scores, budget), abs=1e-12)


@pytest.mark.parametrize("kind", ["equal", "uniform", "late"])
def test_a_million_scores_keep_their_sum_where_twenty_halvings_in_float32_do_not(kind: str) -> None:
    source, n = torch.Generator().manual_seed(0), 1_000_000
    rows = {
        "equal": torch.full((n,), 0.7),
        "uniform": torch.rand(n, generator=source),
        "late": (torch.rand(n, generator=source) < 0.1).float() + 0.006 * torch.randn(n, generator=source),
    }
    row = rows[kind]
    budget = 0.1 * n - 0.3
    halved = (row - bisected_shift(row, budget)).clamp(0, 1)
    assert abs(float(halved.double().sum()) - budget) > 1e-3, "the original's own tolerance is out of its reach"
    exact = row.double()
    project(exact, budget)
    assert float(exact.sum()) == pytest.approx(budget, abs=1e-6)
    project(row, budget)
    assert float((row.double() - exact).abs().max()) < 1e-6
    assert float(row.double().sum()) == pytest.approx(budget, rel=1e-6)


def test_scores_that_are_close_together_or_tiny_are_told_apart() -> None:
    for row in (1e-30 * torch.arange(1, 9).double(), 0.5 + 1e-15 * torch.arange(8).double()):
        budget = float(row.sum()) / 2
        assert projected(row.tolist(), budget).tolist() == pytest.approx(
            sorted_projection(row.tolist(), budget), rel=1e-6, abs=1e-12
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    row = torch.tensor([0.5, bad, 0.5])
    with pytest.raises(PruningError, match="must be finite"):
        project(row, 0.5)
    with pytest.raises(PruningError, match="at least 0"):
        project(torch.ones(2), -1.0)


def test_it_works_in_place_on_a_part_of_a_row() -> None:
    row = torch.ones(10)
    project(row[:4], 1.0)
    assert row.tolist() == [0.25] * 4 + [1.0] * 6
