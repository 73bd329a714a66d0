"""The sieve: who leaves, who comes, exactly k, and all are used before any returns."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import sieve as literal
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.recipes import Dense
from sartor.registry import SAMPLERS
from sartor.select.sieve import Sieve
from sartor.types import Subset


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def known(losses, visits, rows):
    history = History(rows)
    history.loss, history.visits = torch.tensor(losses), torch.tensor(visits, dtype=torch.int32)
    return history


@given(
    n=st.integers(1, 25),
    share=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
    first=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_it_is_the_literal_one(n, share, first, seed):
    draws = np.random.default_rng(seed)
    rows = torch.from_numpy(np.sort(draws.permutation(200)[:n]))
    losses = draws.choice([math.nan, 0.0, 0.5, 0.5, 1.25, 7.0], n).tolist()
    visits = draws.integers(0, 4, n).tolist()
    k = int(draws.integers(1, n + 1))
    subset = None if first else Subset.of(rows[torch.from_numpy(draws.permutation(n)[:k].copy())])
    found = Sieve(share=share).sample(
        rows, k, generator=source(seed), history=known(losses, visits, rows), subset=subset
    )
    inside = set() if subset is None else set(subset.rows.tolist())
    shuffled = torch.randperm(n - len(inside), generator=source(seed)).tolist()
    assert found.rows.tolist() == literal.sift(rows.tolist(), losses, visits, inside, k, share, shuffled)
    assert (set(found.weights.tolist()), found.scale) == ({1.0}, 1.0)


def test_a_case_by_hand():
    rows = torch.tensor([2, 4, 6, 8, 10, 12])
    history = known([0.9, 0.1, 0.5, 0.1, math.nan, math.nan], [3, 3, 3, 2, 0, 1], rows)
    subset = Subset.of(rows[:3])
    for seed in range(4):
        found = Sieve(share=0.4).sample(rows, 3, generator=source(seed), history=history, subset=subset)
        assert found.rows.tolist() == [2, 6, 10], "4 has the lowest loss within, 10 the fewest visits without"
    assert Sieve(share=0.7).sample(rows, 3, generator=source(), history=history, subset=subset).rows.tolist() == [
        2,
        10,
        12,
    ]


@pytest.mark.parametrize(("n", "k", "leaving"), [(10, 10, 0), (10, 9, 1), (10, 8, 2), (100, 10, 3), (100, 1, 1)])
def test_how_many_leave(n, k, leaving):
    assert Sieve(share=0.3).exchanged(n, k) == leaving


def test_the_same_generator_gives_the_same_queue_and_another_one_another():
    rows = torch.arange(1000)
    history = known([math.nan] * 1000, [0] * 1000, rows)
    first, again, other = (
        Sieve().sample(rows, 10, generator=source(seed), history=history, subset=None).rows for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_row_is_as_likely_to_be_the_next_as_any_other():
    rows, counts, stream = torch.arange(10), torch.zeros(10), source(5)
    history = known([math.nan] * 10, [2] * 10, rows)
    for _ in range(2000):
        counts[Sieve().sample(rows, 3, generator=stream, history=history, subset=None).rows] += 1
    assert float(((counts - 600) ** 2 / 600).sum()) < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_it_is_due_every_so_many_epochs():
    assert [epoch for epoch in range(7) if Sieve(every=3).due(epoch)] == [0, 3, 6]


def test_what_cannot_be_is_refused():
    for options in ({"every": 0}, {"share": 0.0}, {"share": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Sieve(**options)
    history = known([1.0] * 5, [1] * 5, torch.arange(5))
    for k in (0, 6):
        with pytest.raises(SelectionError, match=rf"k is {k}; it must lie in \[1, 5\]"):
            Sieve().sample(torch.arange(5), k, generator=source(), history=history, subset=None)
    with pytest.raises(ConfigError, match="goes by mini-batches as they are trained"):
        Dense(sampler="sieve", fraction=0.3, record="epoch")
    assert SAMPLERS.build("sieve(every=2, share=0.5)") == Sieve(2, 0.5)


def blobs(n=120):
    inputs = torch.randn(n, 6, generator=source(1))
    return inputs, (inputs[:, 0] > 0).long()


def subsets_of(folder):
    files = sorted((folder / "subsets").glob("*.json"))
    return [set(json.loads(path.read_text())["ids"]) for path in files]


@pytest.mark.parametrize("warmup", [0, 2])
def test_in_a_training_all_are_used_before_any_returns(tmp_path, warmup):
    """Of 120 samples 24 at a time, 12 exchanged: 8 exchanges use the other 96 up, also after epochs on all of them."""
    options = {"sampler": "sieve(every=1, share=0.5)", "fraction": 0.2, "warmup": warmup, "holdout": 0.0, "probe": 0}
    recipe = Dense(epochs=warmup + 10, batch_size=12, **options)
    result = recipe.fit(torch.nn.Linear(6, 2), blobs(), out=tmp_path / "run")
    used = subsets_of(tmp_path / "run")
    assert [len(each) for each in used] == [24] * 10
    assert [len(later - earlier) for earlier, later in pairwise(used)] == [12] * 9
    assert len(set().union(*used[:9])) == 120
    assert used[9] - used[8] <= set().union(*used[:8])
    samples = result.results["samples"]
    assert {name: account["forward"] for name, account in samples.items()} == dict.fromkeys(samples, 0), "no scan"
    assert result.history.visits.sum() == warmup * 120 + 10 * 24


def test_those_that_leave_are_the_ones_with_the_lowest_last_losses(tmp_path, monkeypatch):
    asked = []
    original = Sieve.sample

    def spied(self, rows, k, *, history, subset, **rest):
        found = original(self, rows, k, history=history, subset=subset, **rest)
        if subset is not None:
            loss = dict(zip(history.rows.tolist(), history.loss.tolist()))
            before, after = set(subset.rows.tolist()), set(found.rows.tolist())
            asked.append((max(loss[row] for row in before - after), min(loss[row] for row in before & after)))
        return found

    monkeypatch.setattr(Sieve, "sample", spied)
    recipe = Dense(epochs=6, batch_size=12, sampler="sieve(every=2)", fraction=0.2, warmup=0, holdout=0.0, probe=0)
    recipe.fit(torch.nn.Linear(6, 2), blobs())
    assert len(asked) == 2
    assert all(gone <= stayed for gone, stayed in asked)
