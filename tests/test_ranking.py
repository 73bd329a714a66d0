import math
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from reference.ranking import largest_remainder as exact_shares
from reference.ranking import top_mask as sorted_mask
from sartor.ranking import largest_remainder, top_indices, top_mask

FEW_VALUES = st.lists(st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, float("inf"), float("-inf")]), max_size=30)
MANY_VALUES = st.lists(st.floats(-1e6, 1e6, width=32), max_size=30)


@given(values=FEW_VALUES | MANY_VALUES, share=st.floats(0, 1), largest=st.booleans())
def test_top_mask_is_what_sorting_gives(values: list[float], share: float, largest: bool) -> None:
    k = round(share * len(values))
    mask = top_mask(torch.tensor(values), k, largest=largest)
    assert mask.tolist() == sorted_mask(values, k, largest=largest)
    assert top_indices(torch.tensor(values), k, largest=largest).tolist() == mask.nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_of_equal_scores_the_first_win(largest: bool, dtype: torch.dtype) -> None:
    scores = torch.tensor([3, 1, 3, 1, 3, 1], dtype=dtype)
    first, second = ([0, 2], [0, 2, 4, 1]) if largest else ([1, 3], [1, 3, 5, 0])
    assert top_indices(scores, 2, largest=largest).tolist() == first
    assert top_indices(scores, 4, largest=largest).tolist() == sorted(second)


@given(values=FEW_VALUES | MANY_VALUES, share=st.floats(0, 1), largest=st.booleans(), seed=st.integers(0, 99))
def test_a_generator_draws_among_equal_scores_at_the_border_and_changes_nothing_else(
    values: list[float], share: float, largest: bool, seed: int
) -> None:
    k, generator = round(share * len(values)), torch.Generator().manual_seed(seed)
    before, scores = generator.get_state(), torch.tensor(values)
    drawn = top_mask(scores, k, largest=largest, generator=generator)
    plain = top_mask(scores, k, largest=largest)
    assert scores[drawn].sort().values.tolist() == scores[plain].sort().values.tolist()
    if len(set(scores[drawn].tolist()) & set(scores[~drawn].tolist())) == 0:
        assert torch.equal(drawn, plain)
        assert torch.equal(generator.get_state(), before)


def test_a_draw_among_equal_scores_is_even() -> None:
    scores, counts = torch.tensor([2.0, 1.0, 1.0, 0.0, 1.0]), torch.zeros(5)
    for seed in range(600):
        counts += top_mask(scores, 2, generator=torch.Generator().manual_seed(seed))
    assert counts[[0, 3]].tolist() == [600, 0]
    assert counts[[1, 2, 4]].min() > 160


def test_all_equal_scores_and_large_ties_keep_exactly_k() -> None:
    for k in (1, 999, 50_000, 99_999):
        mask = top_mask(torch.zeros(100_000), k)
        assert int(mask.sum()) == k
        assert bool(mask[:k].all())


def test_scores_that_are_strided_are_read_right() -> None:
    scores = torch.tensor([[5.0, 0.0], [1.0, 9.0], [4.0, 8.0]])[:, 0]
    assert top_indices(scores, 2).tolist() == [0, 2]


@pytest.mark.parametrize("k", [-1, 4])
def test_k_out_of_reach(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is {k}; it must lie in \[0, 3\]"):
        top_mask(torch.zeros(3), k)


def test_nothing_can_be_chosen_of_nothing() -> None:
    assert top_mask(torch.zeros(0), 0).tolist() == []


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), min_size=1, max_size=12),
    share=st.floats(0, 1),
    largest=st.booleans(),
)
def test_a_nan_is_refused_or_never_costs_an_entry(values: list[float], share: float, largest: bool) -> None:
    """Exactly k or an error: a score that is no number may not shorten the choice in silence."""
    k = round(share * len(values))
    refused, marked = "", -1
    try:
        marked = int(top_mask(torch.tensor(values), k, largest=largest).sum())
    except ValueError as error:
        refused = str(error).lower()
    assert marked == k or "nan" in refused
    assert not refused or any(math.isnan(value) for value in values)


@example(total=2, shares=[4, 1, 1])
@given(total=st.integers(0, 10_000), shares=st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_largest_remainder_is_hamiltons_method(total: int, shares: list[int]) -> None:
    """Equal remainders go to the lower index, even where their floating-point images differ."""
    if not any(shares):
        shares = [1, *shares]
    given_to = largest_remainder(total, torch.tensor(shares, dtype=torch.float64)).tolist()
    assert given_to == exact_shares(total, shares)


@given(
    total=st.integers(0, 100_000),
    shares=st.lists(st.floats(0.125, 1024, width=32), min_size=1, max_size=12),
)
def test_largest_remainder_keeps_quota_and_order(total: int, shares: list[float]) -> None:
    parts = largest_remainder(total, torch.tensor(shares, dtype=torch.float64)).tolist()
    assert sum(parts) == total
    whole = sum(map(Fraction, shares))
    for part, share in zip(parts, shares):
        assert abs(part - total * Fraction(share) / whole) < 1 + 1e-6
    for a, b in zip(range(len(parts)), range(1, len(parts))):
        if shares[a] > shares[b]:
            assert parts[a] >= parts[b]


def test_time_grows_with_the_groups_not_with_their_square() -> None:
    """Adding all shares up anew for each group takes minutes for ten thousand of them."""
    begin = time.process_time()
    assert int(largest_remainder(10_000, torch.arange(3000) % 7 + 1).sum()) == 10_000
    assert time.process_time() - begin < 2


def test_largest_remainder_by_hand() -> None:
    assert largest_remainder(10, torch.tensor([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert largest_remainder(7, torch.tensor([0.0, 5.0, 2.0])).tolist() == [0, 5, 2]
    assert largest_remainder(0, torch.tensor([3.0, 1.0])).tolist() == [0, 0]
    assert largest_remainder(100, torch.tensor([47.0, 16.0, 15.8, 12.0, 6.1, 3.1])).tolist() == [47, 16, 16, 12, 6, 3]
