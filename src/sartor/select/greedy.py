"""Greedy maximisers of submodular set functions."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from sartor.errors import ConfigError, check_choice, check_range
from sartor.ranking import top_indices

EPS = 0.05
"""By which share of the optimum a stochastic choice may fall further short than an exact one, unless told otherwise."""
ROUNDING = 1e-10
"""Gains that differ by less than this share of the largest first one are equal: float64 adds them up far better."""
LOOK = 8
"""How many gains a lazy choice brings up to date at once; twice as many at each further look."""


@runtime_checkable
class SetFunction(Protocol):
    """A set function f on the positions 0 ... n - 1, and a set S that grows from nothing."""

    def __len__(self) -> int: ...

    def gains(self, candidates: Int64[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Return f(S + j) - f(S) for each candidate j."""
        ...

    def add(self, pick: int) -> None:
        """Let a position enter S."""
        ...


def plain_greedy(function: SetFunction, k: int) -> Int64[Tensor, "k"]:
    """Choose k positions, in order: each time the one of largest gain, of equal ones (within rounding) the lowest.

    All gains are asked for at every step: for functions that have them at hand, of whatever kind they are.
    """
    everything, free = torch.arange(len(function)), np.ones(len(function), dtype=bool)
    slack, chosen = None, list[int]()
    for _ in range(k):
        gains = np.where(free, function.gains(everything).numpy(), -np.inf)
        slack = _slack(gains) if slack is None else slack
        chosen.append(_first_best(gains, slack))
        free[chosen[-1]] = False
        function.add(chosen[-1])
    return torch.tensor(chosen, dtype=torch.int64)


def lazy_greedy(function: SetFunction, k: int) -> Int64[Tensor, "k"]:
    """Choose what `plain_greedy` chooses, but bring only those gains up to date that may be the largest.

    f must be submodular: then an old gain is an upper bound of the new one (Minoux 1978).
    """
    bounds = function.gains(torch.arange(len(function))).numpy().copy()
    slack, free = _slack(bounds), np.ones(len(function), dtype=bool)
    stale, chosen = ~free, list[int]()
    for _ in range(k):
        look = LOOK
        while True:
            fresh = np.where(stale | ~free, -np.inf, bounds)
            pick = _first_best(fresh, slack)
            doubtful = _doubtful(bounds, stale, slack, pick, fresh[pick])
            if len(doubtful) == 0:
                break
            if len(doubtful) > look:
                doubtful = doubtful[top_indices(torch.from_numpy(bounds[doubtful]), look).numpy()]
            bounds[doubtful] = function.gains(torch.from_numpy(doubtful)).numpy()
            stale[doubtful] = False
            look *= 2
        chosen.append(pick)
        free[pick] = False
        function.add(pick)
        stale = free.copy()
    return torch.tensor(chosen, dtype=torch.int64)


def stochastic_greedy(function: SetFunction, k: int, *, eps: float, generator: torch.Generator) -> Int64[Tensor, "k"]:
    """Choose k positions, in order: each time the best of n / k * ln(1 / eps) free ones that are drawn at random.

    On average f(S) is at least (1 - 1/e - eps) of the optimum, for n ln(1 / eps) gains whatever k is; f must be
    monotone and submodular (Mirzasoleiman et al. 2015, Alg. 1). Ties as in `plain_greedy`.
    """
    free, slack = torch.arange(len(function)), None
    size, chosen = sample_size(len(function), k, eps), torch.empty(k, dtype=torch.int64)
    for step in range(k):
        left = len(free) - step
        places = torch.randperm(left, generator=generator)[:size]
        drawn, order = free[places].sort()
        gains = function.gains(drawn).numpy()
        slack = _slack(gains) if slack is None else slack
        best = _first_best(gains, slack)
        chosen[step] = drawn[best]
        free[places[order[best]]] = free[left - 1]
        function.add(int(chosen[step]))
    return chosen


def maximise(
    function: SetFunction, k: int, *, greedy: str, eps: float, generator: torch.Generator
) -> Int64[Tensor, "k"]:
    """Choose k positions by the "lazy" or the "stochastic" greedy algorithm."""
    if greedy == "lazy":
        return lazy_greedy(function, k)
    return stochastic_greedy(function, k, eps=eps, generator=generator)


def check_greedy(greedy: str, eps: float) -> None:
    """Raise ConfigError for an algorithm that `maximise` does not know, or an `eps` out of range or without effect."""
    check_choice("greedy", greedy, ("lazy", "stochastic"))
    check_eps(greedy, eps, EPS)


def check_eps(greedy: str, eps: float, default: float) -> None:
    """Raise ConfigError for an `eps` out of (0, 1), or one that no stochastic choice takes."""
    check_range("eps", eps, 0, 1, low_open=True, high_open=True)
    if greedy != "stochastic" and eps != default:
        raise ConfigError(f"eps is for greedy='stochastic' and has no effect with greedy={greedy!r}; leave it out.")


def sample_size(n: float, k: float, eps: float) -> int:
    """Return how many candidates a stochastic choice of k out of n draws at each step."""
    return math.ceil(min(n, n / k * math.log(1 / eps)))


def _slack(first_gains: NDArray[Any]) -> float:
    return ROUNDING * float(np.abs(first_gains).max())


def _first_best(gains: NDArray[Any], slack: float) -> int:
    """Return the first place whose gain is the largest, within rounding."""
    return int(np.argmax(gains >= gains.max() - slack))


def _doubtful(bounds: NDArray[Any], stale: NDArray[Any], slack: float, pick: int, best: float) -> NDArray[Any]:
    """Return the places whose gains may be larger than the best, or equal to it at a lower place than the pick."""
    may_be = stale & (bounds > best)
    may_be[:pick] |= stale[:pick] & (bounds[:pick] >= best - slack)
    return np.flatnonzero(may_be)
