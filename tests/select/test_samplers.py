"""Random subsets: drawn when due, uniform, exact."""

from __future__ import annotations

import pytest
import torch

from sartor.errors import ConfigError, SelectionError
from sartor.registry import SAMPLERS
from sartor.seen import Scan
from sartor.select.random import Random
from sartor.select.samplers import Redraw
from sartor.types import EpochSampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("every", "due"), [(0, [0]), (1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (5, [0, 5]), (9, [0])]
)
def test_it_is_due_every_so_many_epochs(every, due):
    assert [epoch for epoch in range(7) if Redraw(every).due(epoch)] == due


def test_it_draws_k_of_the_rows_without_weights():
    rows = torch.tensor([3, 8, 10, 11, 40])
    subset = Redraw().sample(rows, 3, generator=generator())
    assert len(set(subset.rows.tolist())) == 3
    assert set(subset.rows.tolist()) <= set(rows.tolist())
    assert (subset.weights.tolist(), subset.scale) == ([1.0] * 3, 1.0)
    assert torch.equal(subset.rows, Redraw().sample(rows, 3, generator=generator()).rows)
    assert Redraw().sample(rows, 5, generator=generator()).rows.tolist() == rows.tolist()


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: Redraw().sample(torch.arange(10), 3, generator=g),
        lambda g: Random().select(Scan.from_arrays(rows=torch.arange(10)), 3, generator=g),
    ],
)
def test_every_row_is_as_likely_as_any_other(draw):
    source = generator(1)
    counts = torch.zeros(10)
    for _ in range(2000):
        counts[draw(source).rows] += 1
    assert float(((counts - 600) ** 2 / 600).sum()) < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="every is -1"):
        Redraw(-1)
    for k in (0, 6):
        with pytest.raises(SelectionError, match=rf"k is {k}; it must lie in \[1, 5\]"):
            Redraw().sample(torch.arange(5), k, generator=generator())


def test_the_registry_makes_it():
    assert SAMPLERS.build("redraw(every=3)") == Redraw(3)
    assert all(isinstance(SAMPLERS.build(name), EpochSampler) for name in SAMPLERS)
