"""Members by dropout: it draws, everything else rests, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import SelectionError
from sartor.scanning import scan
from sartor.stochastic import dropout_layers, dropout_on

POOL = Pool.from_arrays(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def members(model, **options):
    return [m.logits for m in scan(model, POOL, needs={"members"}, dropout_passes=3, batch_size=8, **options).members]


def test_only_dropout_is_on_and_modes_come_back(model):
    model.eval()
    with dropout_on(model):
        assert [type(m).__name__ for m in model.modules() if m.training] == ["Dropout"]
    assert not any(m.training for m in model.modules())
    assert dropout_layers(nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.1), nn.Linear(2, 2)))[0].p == 0.1


def test_passes_differ_and_are_the_same_for_the_same_seed(model):
    one, again, other = members(model), members(model), members(model, seed=1)
    assert not torch.equal(one[0], one[1])
    assert all(torch.equal(a, b) for a, b in zip(one, again))
    assert not torch.equal(one[0], other[0])


def test_batch_norm_rests_and_nothing_is_disturbed(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    members(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_their_mean_is_near_the_network_at_rest(model):
    seen = scan(model, POOL, needs={"members", "logits"}, dropout_passes=400)
    mean = torch.stack([member.logits for member in seen.members]).mean(0)
    assert float((mean - seen.logits).abs().max()) < 0.3


def test_a_network_without_dropout_is_refused_and_a_committee_is_the_way_round(model):
    plain = nn.Linear(6, 3)
    with pytest.raises(SelectionError, match=r"Linear has no dropout.*committee=\[\.\.\.\]"):
        scan(plain, POOL, needs={"members"}, dropout_passes=2)
    torch.manual_seed(1)
    seen = scan(plain, POOL, needs={"members"}, committee=[plain, nn.Linear(6, 3)])
    assert torch.equal(seen.members[0].logits, scan(plain, POOL, needs={"logits"}).logits)
    assert not torch.equal(seen.members[0].logits, seen.members[1].logits)
