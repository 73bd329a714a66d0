from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.prune.schedule import cosine_drop, is_update_step


def test_cosine_falls_from_the_initial_share_to_zero() -> None:
    assert cosine_drop(0, 100, 0.3) == pytest.approx(0.3)
    assert cosine_drop(50, 100, 0.3) == pytest.approx(0.15)
    assert cosine_drop(25, 100, 0.4) == pytest.approx(0.2 * (1 + 0.5**0.5))
    assert cosine_drop(100, 100, 0.3) == 0.0
    assert cosine_drop(101, 100, 0.3) == 0.0, "the cosine must not rise again after the stop"
    assert cosine_drop(0, 0, 0.3) == 0.0


def test_updates_come_at_multiples_below_the_stop_and_never_at_step_zero() -> None:
    assert [step for step in range(40) if is_update_step(step, 10, 30)] == [10, 20]
    assert [step for step in range(40) if is_update_step(step, 10, 30.5)] == [10, 20, 30]
    assert [step for step in range(6) if is_update_step(step, 1, 4)] == [1, 2, 3]
    assert not any(is_update_step(step, 10, 0) for step in range(40))


@given(st.integers(1, 500), st.integers(0, 600), st.floats(0.01, 1))
def test_the_share_never_rises(stop: int, step: int, initial: float) -> None:
    assert 0 <= cosine_drop(step + 1, stop, initial) <= cosine_drop(step, stop, initial) <= initial
