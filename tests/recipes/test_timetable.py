import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.loader import even_sizes
from sartor.recipes.timetable import Slot, default_warmup, everything, fixed_steps, subsets


def drawn(slots: list[Slot]) -> list[int]:
    """Numbers t = 1, 2, ... of the epochs before which a subset is drawn."""
    return [epoch + 1 for epoch, slot in enumerate(slots) if slot.draws]


# T = 300, R = 20: (fraction, warm-up, first selection if read literally, data cost of the two readings and of skip),
# computed by hand from the paper's formula and Algorithm 1, in passes over all data divided by 300.
CASES = [
    (0.20, 30, 40, 0.304, 0.280, 0.200),
    (0.15, 23, 40, 0.261, 0.215, 0.152),
    (0.10, 15, 20, 0.157, 0.145, 0.100),
    (0.05, 8, 20, 0.110, 0.075, 0.052),
    (0.01, 2, 20, 0.073, 0.017, 0.012),
]


@pytest.mark.parametrize(("fraction", "warmup", "first", "literal", "at_end", "skip"), CASES)
def test_the_readings_of_line_5_cost_what_they_cost(fraction, warmup, first, literal, at_end, skip) -> None:
    n = 10_000
    assert default_warmup(300, fraction) == warmup == math.ceil(300 * fraction / 2 - 1e-9)
    costs = {}
    for timing in ("literal", "at-warmup-end", "skip"):
        slots = subsets(n, round(fraction * n), epochs=300, warmup=warmup, every=20, timing=timing)
        assert len(slots) == 300
        costs[timing] = sum(slot.size for slot in slots) / (300 * n)
        if timing == "literal":
            assert drawn(slots)[0] == first
            assert all(number % 20 == 0 for number in drawn(slots))
        if timing == "at-warmup-end":
            assert drawn(slots) == list(range(warmup + 1, 301, 20))
        if timing == "skip":
            assert drawn(slots) == list(range(151, 301, 20))
            assert [slot.size for slot in slots[warmup:150]] == [0] * (150 - warmup)
    assert costs["literal"] == pytest.approx(literal, abs=6e-4)
    assert costs["at-warmup-end"] == pytest.approx(at_end, abs=6e-4)
    assert costs["skip"] == pytest.approx(skip, abs=6e-4)


def test_imagenet_first_selections_read_literally() -> None:
    for fraction, warmup, first in ((0.1, 5, 10), (0.05, 3, 5)):
        assert default_warmup(90, fraction) == warmup
        assert drawn(subsets(1000, 100, epochs=90, warmup=warmup, every=5, timing="literal"))[0] == first


def test_every_0_draws_once() -> None:
    for timing in ("literal", "at-warmup-end", "skip"):
        slots = subsets(100, 10, epochs=10, warmup=2, every=0, timing=timing)
        assert len(drawn(slots)) == 1
        assert slots[-1].size == 10


def test_warm_up_never_takes_all_epochs() -> None:
    assert default_warmup(1, 1.0) == 0
    assert default_warmup(2, 1.0) == 1
    assert default_warmup(40, 0.2) == 4


@given(n=st.integers(1, 3000), steps=st.integers(1, 500), batch_size=st.integers(1, 300))
def test_fixed_steps_takes_exactly_that_many(n: int, steps: int, batch_size: int) -> None:
    slots = fixed_steps(n, steps, batch_size)
    assert sum(slot.steps(batch_size) for slot in slots) == steps
    assert all(slot.stop is None for slot in slots[:-1])


@given(size=st.integers(1, 3000), batch_size=st.integers(1, 300), stop=st.none() | st.integers(0, 50))
def test_a_slot_counts_its_steps(size: int, batch_size: int, stop: int | None) -> None:
    slot = Slot(size, stop=stop)
    sizes = even_sizes(size, batch_size)
    expected = sizes if stop is None else sizes[:stop]
    assert slot.steps(batch_size) == len(expected)


def test_skipped_epochs_cost_nothing() -> None:
    assert Slot(0).steps(32) == 0
    assert everything(7, 2) == [Slot(7), Slot(7)]
