from __future__ import annotations

import torch
from torch import nn

from reference.rigl import literal_move
from sartor.prune.base import uses_dense_gradient
from sartor.prune.masks import Masks
from sartor.prune.schedule import cosine_drop
from sartor.prune.set import SET


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))


def init(pruner: SET, model: nn.Module, seed: int = 0) -> Masks:
    return pruner.init(model, generator=torch.Generator().manual_seed(seed))


def test_a_move_is_that_of_the_literal_version() -> None:
    pruner, model = SET(sparsity=0.7, every=2, drop=0.4), network()
    masks = init(pruner, model)
    for step in range(10):
        before = masks.state_dict()
        weights = {name: masks.parameter(name).flatten().tolist() for name in masks.names}
        demands = {name: demand.flatten().tolist() for name, demand in pruner.demands(masks, step).items()}
        pruner.update(masks, step=step, total_steps=40)
        for name in masks.names:
            old = before[name].flatten().tolist()
            count = int(cosine_drop(step, 30, 0.4) * sum(old)) if step in (2, 4, 6, 8) else 0
            assert masks[name].flatten().tolist() == literal_move(weights[name], demands[name], old, count)
            assert masks.kept(name) == sum(old)
        with torch.no_grad():
            for name in masks.names:
                masks.parameter(name).add_(masks[name] * 0.1)


def test_draws_follow_from_the_masks_and_the_step_alone() -> None:
    pruner, model = SET(sparsity=0.7, every=1), network()
    masks = init(pruner, model)
    state = torch.get_rng_state()
    first = pruner.demands(masks, 3)
    torch.manual_seed(5)
    again = SET(sparsity=0.7, every=9).demands(Masks(network(4), masks.state_dict()), 3)
    torch.set_rng_state(state)
    assert all(torch.equal(demand, again[name]) for name, demand in first.items())
    assert not torch.equal(first["0.weight"], pruner.demands(masks, 4)["0.weight"])
    assert not torch.equal(first["0.weight"], pruner.demands(init(pruner, network(), seed=1), 3)["0.weight"])


def test_every_dead_place_is_as_likely_to_grow() -> None:
    pruner, model = SET(sparsity=0.5, every=1, drop=0.25, stop=1.0), nn.Linear(10, 2)
    grown = torch.zeros(2, 10)
    for seed in range(400):
        masks = init(pruner, model, seed)
        with torch.no_grad():
            model.weight.fill_(1.0)[~masks["weight"]] = 0.0
        before = masks["weight"].clone()
        pruner.update(masks, step=1, total_steps=10**6)
        grown += masks["weight"] & ~before
    # 2 of the 10 living ones die, and 2 of the then 12 dead places grow: 2 * 10/12 new ones each time
    assert abs(float(grown.sum()) / 400 - 2 * 10 / 12) < 0.1
    expected = float(grown.mean())
    assert float(((grown - expected) ** 2 / expected).sum()) < 43.8, "chi-squared with 19 degrees of freedom, 0.1 %"


def test_it_needs_no_gradient_at_all() -> None:
    pruner, model = SET(sparsity=0.7, every=1), network()
    masks = init(pruner, model)
    before = masks.digest()
    assert pruner.moves(1, 10)
    assert not uses_dense_gradient(pruner, 1, 10)
    assert pruner.update(masks, step=1, total_steps=10)
    assert masks.digest() != before


def test_grown_weights_start_at_zero_without_memory() -> None:
    """A peer computed the initial value of grown weights and then threw it away, so that stale ones came back."""
    pruner, model = SET(sparsity=0.6, every=1, drop=0.5), network()
    masks = init(pruner, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    masks.attach(optimizer)
    model(torch.randn(4, 12, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()
    weight, old = model[0].weight, masks["0.weight"].clone()
    with torch.no_grad():
        weight[~old] = 9.0
        for slot in ("exp_avg", "exp_avg_sq"):
            optimizer.state[weight][slot][~old] = 9.0
    pruner.update(masks, step=1, total_steps=10)
    born = masks["0.weight"] & ~old
    assert int(born.sum()) > 5
    assert bool((weight[born] == 0).all())
    for slot in ("exp_avg", "exp_avg_sq"):
        assert bool((optimizer.state[weight][slot][born] == 0).all())
