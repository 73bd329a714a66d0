from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.errors import ConfigError
from sartor.prune.acdc import ACDC
from sartor.prune.base import uses_dense_gradient
from sartor.prune.distribution import kept_of
from sartor.prune.masks import Masks

TOTAL = 20


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))


def start(pruner: ACDC) -> tuple[nn.Module, Masks, torch.optim.Optimizer]:
    model = network()
    masks = pruner.init(model, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, masks.attach(optimizer), optimizer


def take(pruner: ACDC, model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer, step: int) -> None:
    source = torch.Generator().manual_seed(step)
    optimizer.zero_grad()
    logits = model(torch.randn(8, 12, generator=source))
    nn.functional.cross_entropy(logits, torch.randint(4, (8,), generator=source)).backward()
    assert pruner.update(masks, step=step, total_steps=TOTAL)
    masks.apply_to_gradients()
    optimizer.step()


def phases(pruner: ACDC, total: int) -> list[tuple[int, float]]:
    """Steps at which the network becomes dense (0) or sparse (1)."""
    return [(step, pruner.reached(step, total)) for step in range(total) if pruner.moves(step, total)]


def test_the_phases_are_those_of_the_published_runs() -> None:
    """ImageNet: 100 epochs, sparse from 10, 20, ... 70, dense from 15, ... 65 and 75, sparse from 85 on."""
    sparse, dense = [*range(10, 71, 10), 85], [*range(15, 66, 10), 75]
    assert phases(ACDC(), 100) == sorted([(epoch, 1.0) for epoch in sparse] + [(epoch, 0.0) for epoch in dense])
    cifar = ACDC(start=0.05, phase=0.1, stop=0.85)  # 200 epochs, sparse from 10, 50, ... 170, dense from 30, ... 150
    wanted = [(epoch, 1.0) for epoch in range(10, 171, 40)] + [(epoch, 0.0) for epoch in range(30, 151, 40)]
    assert phases(cifar, 200) == sorted(wanted)


@given(st.integers(1, 80), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
@settings(max_examples=150, deadline=None)
def test_it_begins_dense_ends_sparse_and_alternates_between(total: int, a: float, b: float, phase: float) -> None:
    pruner = ACDC(start=min(a, b), phase=phase, stop=max(a, b))
    reached = [pruner.reached(step, total) for step in range(-1, total)]
    assert set(reached) <= {0.0, 1.0}
    assert (reached[0], reached[-1]) == (0.0, 1.0)
    moves = [step for step, _ in phases(pruner, total)]
    assert len(moves) % 2 == 1
    length = max(1, int(phase * total + 0.5))
    gaps = [after - before for before, after in pairwise(moves)]
    assert all(gap == length for gap in gaps[:-1])
    assert not gaps or gaps[-1] >= length


def test_lost_weights_come_back_at_zero_without_memory_and_may_live_on() -> None:
    pruner = ACDC(sparsity=0.8, start=0.2, phase=0.2, stop=0.9)
    model, masks, optimizer = start(pruner)
    weight = model[0].weight
    for step in range(8):
        take(pruner, model, masks, optimizer, step)
    first = masks["0.weight"].clone()
    assert masks.kept("0.weight") == 24
    optimizer.zero_grad()
    model(torch.ones(2, 12)).square().sum().backward()
    slot = optimizer.state[weight]["momentum_buffer"]
    slot[~first] = 7.0
    kept = weight.detach().clone()
    pruner.update(masks, step=8, total_steps=TOTAL)
    assert masks.density() == 1
    assert bool((weight[~first] == 0).all())
    assert bool((slot[~first] == 0).all()), "a peer left stale memory behind"
    assert torch.equal(weight[first], kept[first])
    for step in range(9, TOTAL):
        take(pruner, model, masks, optimizer, step)
    last = masks["0.weight"]
    assert int(last.sum()) == 24
    assert bool((last & ~first).any()), "a weight that was lost is alive in the end"


@pytest.mark.parametrize("kind", ACDC.distributions)
def test_sparse_phases_have_exact_counts_and_dense_ones_all(kind: str) -> None:
    pruner = ACDC(sparsity={"0": 0.9, "all": 0.5}, distribution=kind, start=0.2, phase=0.2, stop=0.8)
    model, masks, optimizer = start(pruner)
    for step in range(TOTAL):
        take(pruner, model, masks, optimizer, step)
        if pruner.reached(step, TOTAL):
            assert masks.counts.kept == {"0.weight": kept_of(0.9, 120), "2.weight": kept_of(0.5, 40)}
        else:
            assert masks.density() == 1


def test_the_dense_gradient_is_paid_for_when_weights_come_back() -> None:
    pruner = ACDC(start=0.2, phase=0.2, stop=0.9)
    assert [step for step in range(TOTAL) if uses_dense_gradient(pruner, step, TOTAL)] == [4, 8, 18]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": 0.0}, "phase is 0"),
        ({"start": 0.9}, "start is 0.9, after stop, 0.85"),
        ({"distribution": "global"}, "global-raw"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ACDC(**options)  # type: ignore[arg-type]
