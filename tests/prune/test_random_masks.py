from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.errors import ConfigError
from sartor.prune.random import Random
from sartor.prune.rigl import RigL


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rescale", ["auto", "always", "never"])
@pytest.mark.parametrize("kind", ["erk", "er", "uniform"])
def test_it_is_where_rigl_begins_and_it_stays_there(kind: str, rescale: str) -> None:
    model, twin = network(), network()
    pruner = Random(sparsity=0.7, distribution=kind, rescale=rescale)
    masks = pruner.init(model, generator=generator())
    other = RigL(sparsity=0.7, distribution=kind, rescale=rescale).init(twin, generator=generator())
    assert masks.digest() == other.digest()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))
    for step in range(10):
        assert pruner.update(masks, step=step, total_steps=10)
    assert masks.digest() == other.digest()
    assert not any(pruner.moves(step, 10) for step in range(10))


def test_the_draws_are_the_generators() -> None:
    digests = {Random().init(network(), generator=generator(seed)).digest() for seed in (0, 0, 1, 2)}
    assert len(digests) == 3


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="rescale is 'yes'"):
        Random(rescale="yes")
    with pytest.raises(ConfigError, match="distribution is 'global'"):
        Random(distribution="global")
