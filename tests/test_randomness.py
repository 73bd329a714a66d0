import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.randomness import derive, generator

KEYS = st.tuples(st.integers(-5, 5), st.text("ab/1-", max_size=4), st.integers(-5, 5))


def test_derived_numbers_never_change() -> None:
    """Runs of earlier versions can be repeated only while these numbers stay."""
    assert derive(0, "masks") == 4708472516542140289
    assert derive(0, "select", 3) == 7447823241928071520
    assert derive(17, "order", 2) == 7769735358056091956


@given(first=KEYS, second=KEYS)
def test_every_argument_counts(first: tuple[int, str, int], second: tuple[int, str, int]) -> None:
    assert (derive(*first) == derive(*second)) == (first == second)
    assert 0 <= derive(*first) < 2**63


def test_numbers_are_spread_over_the_whole_range() -> None:
    numbers = [derive(seed, "init") for seed in range(1000)]
    halves = sum(number >= 2**62 for number in numbers)
    assert 400 < halves < 600
    assert len({number % 1024 for number in numbers}) > 550


def test_generators_repeat_and_differ() -> None:
    def draws(*key: object) -> list[float]:
        return torch.rand(5, generator=generator(*key)).tolist()

    assert draws(0, "select", 1) == draws(0, "select", 1)
    assert len({tuple(draws(*key)) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1)]}) == 4
    assert generator(0, "a").device == torch.device("cpu")


def test_the_global_state_is_neither_read_nor_moved() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())
    first = torch.rand(3, generator=generator(4, "x"))
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())
    assert before == after
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert torch.equal(first, torch.rand(3, generator=generator(4, "x")))
