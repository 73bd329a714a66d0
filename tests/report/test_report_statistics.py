import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sartor.report.statistics import Interval, equivalence, mean_interval, paired_difference

values = st.lists(st.integers(0, 500).map(lambda hits: hits / 5), min_size=2, max_size=9)


@given(values)
def test_mean_interval_is_the_t_interval(sample: list[float]) -> None:
    found = mean_interval(sample)
    assert found.mean == pytest.approx(np.mean(sample))
    assert found.n == len(sample)
    if len(set(sample)) > 1:
        expected = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    else:
        assert found.low == pytest.approx(found.high) == pytest.approx(found.mean)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=9))
def test_paired_difference_is_the_paired_t_interval(pairs: list[tuple[int, int]]) -> None:
    first = {seed: a / 5 for seed, (a, _) in enumerate(pairs)}
    second = {seed: b / 5 for seed, (_, b) in enumerate(pairs)}
    found = paired_difference(first, second)
    assert found is not None
    if len({a - b for a, b in pairs}) > 1:
        expected = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-7)
    back = paired_difference(second, first)
    assert back is not None
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=1e-7)


def test_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, s = 1, t(2, 0.975) = 4.302653, half = 4.302653 / sqrt(3)
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean_interval([1.0, 2.0, 3.0], level=0.5).half_width < found.half_width


def test_pairing_removes_what_seeds_share() -> None:
    first, second = {0: 90.0, 1: 95.0, 2: 99.0}, {0: 89.0, 1: 94.1, 2: 97.9}
    found = paired_difference(first, second)
    assert found is not None
    assert found.outcome == "better"
    assert mean_interval(list(first.values())).low < mean_interval(list(second.values())).high


def test_only_shared_seeds_count() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 7: 50.0}, {0: 0.0, 1: 1.0, 3: -50.0})
    assert found is not None
    assert (found.n, found.mean) == (2, 1.0)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_rounding_errors_are_no_difference() -> None:
    found = paired_difference({0: 0.1 + 0.2, 1: 0.3, 2: 0.3}, {0: 0.3, 1: 0.3, 2: 0.3})
    assert found == Interval(0.0, 0.0, 0.0, 3)
    assert found.outcome == "unclear"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.1, 0.5, "better"),
        (-0.5, -0.1, "worse"),
        (-0.1, 0.5, "unclear"),
        (0.0, 0.5, "unclear"),
        (-0.5, 0.0, "unclear"),
    ],
)
def test_outcome_reads_the_interval(low: float, high: float, outcome: str) -> None:
    assert Interval((low + high) / 2, low, high, 5).outcome == outcome


def test_one_value_gives_no_interval() -> None:
    found = mean_interval([97.0])
    assert (found.mean, found.n, found.outcome) == (97.0, 1, "unknown")
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


@given(values, st.floats(0.1, 50))
def test_equivalence_is_two_one_sided_tests(sample: list[float], margin: float) -> None:
    found = equivalence(mean_interval(sample), margin)
    if len(set(sample)) > 1:
        above = stats.ttest_1samp(sample, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(sample, margin, alternative="less").pvalue
        assert found == pytest.approx(max(above, below), abs=1e-6)
        ends = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
        assert (found < 0.05) == (-margin < ends.low and ends.high < margin)


def test_equivalence_at_its_ends() -> None:
    assert equivalence(mean_interval([0.1, 0.1]), 0.5) == 0
    assert equivalence(mean_interval([0.5, 0.5]), 0.5) == 1
    assert math.isnan(equivalence(mean_interval([0.1]), 0.5))
    with pytest.raises(ValueError, match="margin is 0"):
        equivalence(mean_interval([0.1, 0.2]), 0)
