import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import one_cycle as literal
from sartor.errors import ConfigError
from sartor.schedules import STEPS, Schedule, cosine, one_cycle, read_steps, step_lengths, stepped


@given(st.integers(1, 300), st.floats(0, 0.99))
def test_one_cycle_is_the_literal_walk(steps: int, peak_at: float) -> None:
    made = [one_cycle(step, steps, peak_at) for step in range(steps)]
    assert made == pytest.approx(literal.one_cycle(steps, peak_at), rel=1e-9)
    assert all(0 < share <= 1 for share in made)
    top = made.index(max(made))
    assert made[: top + 1] == sorted(made[: top + 1])
    assert made[top:] == sorted(made[top:], reverse=True)


def test_one_cycle_by_hand() -> None:
    # 10 steps, the peak at 2: up by 1/2 a step, down by 1/8; the value in the middle of each step
    assert [one_cycle(step, 10, 0.2) for step in range(10)] == [
        *(1 / 4, 3 / 4),
        *(15 / 16, 13 / 16, 11 / 16, 9 / 16, 7 / 16, 5 / 16, 3 / 16, 1 / 16),
    ]
    assert [one_cycle(step, 2, 0.0) for step in range(2)] == [3 / 4, 1 / 4]
    assert one_cycle(0, 1, 0.2) == 0.625


def test_cosine_by_hand() -> None:
    assert [cosine(epoch, 4) for epoch in range(3)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5])


def test_one_cycle_counts_steps_and_the_others_epochs() -> None:
    by_step = Schedule("one-cycle", epochs=5, steps=10, peak_at=0.2)
    assert by_step.share(0, 3) == by_step.share(4, 3) == 13 / 16
    by_epoch = Schedule("cosine", epochs=4, steps=10)
    assert by_epoch.share(2, 0) == by_epoch.share(2, 9) == cosine(2, 4)
    assert Schedule().share(7, 9) == 1


def test_the_share_of_an_epoch_is_the_mean_of_its_steps() -> None:
    schedule = Schedule("one-cycle", epochs=5, steps=10, peak_at=0.2)
    assert schedule.mean(0, 0, 4) == (1 / 4 + 3 / 4 + 15 / 16 + 13 / 16) / 4
    assert schedule.mean(3, 4, 0) == 11 / 16, "an epoch without steps has that of the next step"
    assert schedule.mean(4, 10, 0) == schedule.share(4, 9), "and the last one that of the last step"
    assert Schedule("cosine", epochs=3, steps=9).mean(1, 3, 3) == cosine(1, 3), "exactly, not up to rounding"


def test_steps_are_those_of_the_paper_and_shortened_ones_keep_their_shape() -> None:
    whole = [stepped(epoch, 181, STEPS) for epoch in range(181)]
    assert whole == [0.1] + [1.0] * 90 + [0.1] * 45 + [0.01] * 45
    short = [stepped(epoch, 20, STEPS) for epoch in range(20)]
    assert short == [0.1] + [1.0] * 9 + [0.1] * 5 + [0.01] * 5
    assert [stepped(epoch, 2, STEPS) for epoch in range(2)] == [1.0, 0.1]
    for epochs in range(1, 200):
        assert sum(step_lengths((1, 90, 45, 45), epochs)) == epochs
    assert all(step_lengths((1, 90, 45, 45), epochs)[0] >= 1 for epochs in range(4, 200))


def test_a_schedule_of_steps_goes_by_epochs() -> None:
    schedule = Schedule("steps", epochs=4, steps=40, shape="1x0.5,3x2")
    assert [schedule.share(epoch, 10 * epoch) for epoch in range(4)] == [0.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("text", ["", "5", "1x", "x1", "0x1", "2x0", "1.5x1", "1x1;2x2", "1xinf", "1x-1"])
def test_steps_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write EPOCHSxSHARE"):
        read_steps(text)
