"""Greedy maximisers: the lazy one picks what the plain one picks, the stochastic one what it has drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import submodular as reference
from sartor.select.facility import Coverage
from sartor.select.graph_cut import Cut
from sartor.select.greedy import lazy_greedy, plain_greedy, sample_size, stochastic_greedy
from sartor.select.similarity import Held


class Counted:
    """A set function that notes which gains it is asked for."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def __len__(self):
        return len(self.function)

    def gains(self, candidates):
        self.asked.append(candidates.tolist())
        return self.function.gains(candidates)

    def add(self, pick):
        self.function.add(pick)


def matrix(n, seed, levels=None):
    """Similarities in [0, 1], symmetric, 1 with itself; of so many levels, so that there are many ties."""
    rng = np.random.default_rng(seed)
    values = rng.random((n, n)) if levels is None else rng.integers(0, levels, (n, n)) / levels
    values = np.triu(values, 1)
    return torch.from_numpy(values + values.T + np.eye(n)).float()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    n=st.integers(1, 40),
    share=st.floats(0, 1),
    levels=st.sampled_from([None, 1, 2, 4]),
    lam=st.sampled_from([None, 0.0, 0.3, 0.5, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_lazy_picks_are_those_of_plain_greedy_and_of_full_evaluation(n, share, levels, lam, seed):
    similarity = matrix(n, seed, levels)
    k = max(1, round(share * n))

    def function():
        return Coverage(Held(similarity)) if lam is None else Cut(Held(similarity), lam)

    def value(chosen):
        found = similarity.double().numpy()
        if lam is None:
            return reference.facility_location(found, chosen)
        return reference.graph_cut(found, chosen, lam)

    plain = plain_greedy(function(), k).tolist()
    assert lazy_greedy(function(), k).tolist() == plain
    assert plain == reference.greedy(value, n, k)


@given(n=st.integers(1, 9), share=st.floats(0, 1), lam=st.sampled_from([None, 0.0, 0.5]), seed=st.integers(0, 10**6))
def test_greedy_reaches_its_share_of_the_best_of_all_sets(n, share, lam, seed):
    similarity = matrix(n, seed).double().numpy()
    k = max(1, round(share * n))

    def value(chosen):
        if lam is None:
            return reference.facility_location(similarity, chosen)
        return reference.graph_cut(similarity, chosen, lam)

    held = Held(torch.from_numpy(similarity).float())
    chosen = lazy_greedy(Coverage(held) if lam is None else Cut(held, lam), k).tolist()
    assert value(chosen) >= (1 - 1 / math.e) * reference.largest(value, n, k) - 1e-9


@pytest.mark.parametrize("greedy", [plain_greedy, lazy_greedy])
def test_ties_go_to_the_lowest_position(greedy):
    assert greedy(Coverage(Held(torch.eye(6))), 4).tolist() == [0, 1, 2, 3]
    assert greedy(Coverage(Held(torch.ones(6, 6))), 3).tolist() == [0, 1, 2]
    assert greedy(Coverage(Held(torch.zeros(6, 6))), 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_lazy_greedy_asks_for_few_gains_even_where_all_are_equal():
    for similarity in (torch.eye(400), matrix(400, 0)):
        function = Counted(Coverage(Held(similarity)))
        lazy_greedy(function, 100)
        assert sum(map(len, function.asked)) < 0.2 * 100 * 400


@pytest.mark.parametrize(("n", "k", "eps"), [(50, 10, 0.3), (50, 10, 0.01), (7, 7, 0.5), (30, 1, 0.2)])
def test_stochastic_greedy_takes_the_best_of_those_drawn(n, k, eps):
    """It draws ceil(n / k ln(1 / eps)) free ones a step, and all that are left where there are fewer."""
    similarity = matrix(n, 1)
    function = Counted(Coverage(Held(similarity)))
    chosen = stochastic_greedy(function, k, eps=eps, generator=generator(3)).tolist()
    assert len(set(chosen)) == len(chosen) == k
    fresh = Coverage(Held(similarity))
    for step, (drawn, pick) in enumerate(zip(function.asked, chosen, strict=True)):
        assert len(drawn) == min(n - step, sample_size(n, k, eps)) == min(n - step, math.ceil(n / k * -math.log(eps)))
        assert drawn == sorted(set(drawn) - set(chosen[:step]))
        gains = fresh.gains(torch.tensor(drawn))
        assert float(gains[drawn.index(pick)]) == float(gains.max())
        fresh.add(pick)


def test_stochastic_greedy_that_draws_all_is_greedy():
    similarity = matrix(30, 5)
    drawn = stochastic_greedy(Coverage(Held(similarity)), 8, eps=1e-9, generator=generator())
    assert torch.equal(drawn, plain_greedy(Coverage(Held(similarity)), 8))


def test_every_free_position_can_be_drawn():
    """Places of those chosen are filled from the end: none is lost, none is there twice."""
    function = Counted(Coverage(Held(matrix(20, 2))))
    chosen = stochastic_greedy(function, 20, eps=0.5, generator=generator(1))
    assert sorted(chosen.tolist()) == list(range(20))
    seen = set()
    for seed in range(60):
        function = Counted(Coverage(Held(torch.eye(20))))
        stochastic_greedy(function, 5, eps=0.3, generator=generator(seed))
        seen |= set(function.asked[0])
    assert seen == set(range(20))
