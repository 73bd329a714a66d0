from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from reference.saliency import literal_flow, literal_synflow
from sartor.errors import ConfigError
from sartor.prune.masks import Masks
from sartor.prune.scope import resolve
from sartor.prune.synflow import SynFlow, flow, linear_of, thinned


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def layers(model: nn.Sequential) -> list[tuple[list[list[float]], list[float]]]:
    return [(model[k].weight.tolist(), model[k].bias.tolist()) for k in (0, 2, 4)]


def init(pruner: SynFlow, model: nn.Module, inputs: Tensor, seed: int = 0) -> Masks:
    batches = [(inputs, torch.zeros(len(inputs), dtype=torch.int64))]
    return pruner.init(model, generator=torch.Generator().manual_seed(seed), batches=batches)


def test_the_flow_is_the_sum_over_paths() -> None:
    model = network()
    wanted = literal_flow(layers(model))
    twin = copy.deepcopy(model)
    linear_of(twin)
    weights = {f"{k}.weight": twin[k].weight for k in (0, 2, 4)}
    found = flow(twin, weights, torch.ones(1, 4, dtype=torch.float64))
    for score, literal in zip(found.values(), wanted, strict=True):
        torch.testing.assert_close(score, torch.tensor(literal, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("sparsity", "rounds"), [(0.5, 1), (0.8, 7), (0.9, 20)])
def test_masks_are_those_of_the_literal_version(sparsity: float, rounds: int) -> None:
    for seed in range(3):
        model = network(seed)
        wanted = literal_synflow(layers(model), 1 - sparsity, rounds)
        masks = init(SynFlow(sparsity=sparsity, rounds=rounds), model, torch.randn(2, 4))
        assert [masks[f"{k}.weight"].tolist() for k in (0, 2, 4)] == wanted


def test_neither_data_nor_the_generator_matter() -> None:
    digests = set()
    for seed in range(3):
        inputs = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
        digests.add(init(SynFlow(rounds=5, sparsity=0.7), network(), inputs, seed).digest())
    assert len(digests) == 1


def test_no_layer_collapses_and_a_path_is_left_at_extreme_sparsity() -> None:
    """What its authors promise: pruning round by round does not cut a layer through, one round may."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        widths = [20, 40, 3, 40, 10]
        model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))
    masks = init(SynFlow(sparsity=0.98), model, torch.ones(1, 20))
    reached = torch.ones(20)
    for name in masks.names:
        reached = (masks[name].float() @ reached > 0).float()
    assert bool(reached.any())


def test_deep_networks_neither_overflow_nor_lose_their_sign_or_statistics() -> None:
    blocks = [nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30), nn.ReLU()) for _ in range(60)]
    model = nn.Sequential(*blocks, nn.Linear(30, 3))
    with torch.no_grad():
        for block in blocks:
            block[0].weight.mul_(20)
            block[1].running_mean.fill_(-0.5)
    before = copy.deepcopy(model)
    masks = init(SynFlow(sparsity=0.5, rounds=3), model, torch.ones(1, 30))
    assert masks.kept() == round(0.5 * masks.total())
    for name, value in model.state_dict().items():
        old = before.state_dict()[name]
        assert value.dtype == old.dtype
        assert torch.equal(value, old * masks[name] if name in masks.names else old)
    assert model.training


def test_tokens_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(IndexError):
        model(torch.full((1, 3), 7))
    masks = init(SynFlow(sparsity=0.5, rounds=2), model, torch.tensor([[6, 5, 0], [1, 2, 3]]))
    assert masks.names == ("2.weight",)


def test_the_density_falls_exponentially_in_every_scope() -> None:
    scopes = resolve(network(), {"4": 0.5, "all": 0.96})
    half = thinned(scopes, 0.5)
    assert [scope.sparsity for scope in half] == pytest.approx([1 - 0.5**0.5, 0.8])
    assert thinned(scopes, 1.0) == scopes


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="rounds is 0"):
        SynFlow(rounds=0)
