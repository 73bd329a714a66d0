"""Members by dropout: it draws, everything else rests, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.dist import joined
from sartor.errors import ConfigError, SelectionError
from sartor.scanning import scan
from sartor.stochastic import dropout_layers, dropout_on
from side_by_side import side_by_side, values

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


class Reads(nn.Module):
    """A layer on sequences of three, and a head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(2, 3)

    def forward(self, x):
        x = x.unflatten(1, (3, 2))
        made = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return self.head((made[0] if isinstance(made, tuple) else made)[:, -1])


LAYERS = {
    "lstm": lambda: nn.LSTM(2, 2, num_layers=2, dropout=0.5, batch_first=True),
    "attention": lambda: nn.MultiheadAttention(2, 2, dropout=0.5, batch_first=True),
    "encoder-layer": lambda: nn.TransformerEncoderLayer(2, 2, 4, dropout=0.5, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(2, 2, 4, 0.5, batch_first=True), 2, enable_nested_tensor=False
    ),
    "alpha": lambda: nn.AlphaDropout(0.5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_inside_of_other_layers_draws_too(name):
    """Faulty: torch's encoder layers take a way without dropout in eval mode, and all members are alike."""
    torch.manual_seed(0)
    model = Reads(LAYERS[name]()).train()
    one, other, _ = members(model)
    assert not torch.equal(one, other)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    "layer", [nn.LSTM(2, 2), nn.MultiheadAttention(2, 2), nn.TransformerEncoderLayer(2, 2, 4, 0.0)]
)
def test_layers_whose_rate_is_0_do_not_count(layer):
    assert dropout_layers(layer) == []


def test_dropout_that_changes_nothing_is_told():
    class Idle(nn.Linear):
        def __init__(self):
            super().__init__(6, 3)
            self.drop = nn.Dropout(0.5)

    with pytest.warns(UserWarning, match="all passes of Idle are alike: its dropout layers change nothing"):
        members(Idle())


def test_one_process_or_several_draw_the_same(model):
    """Draws belong to a batch, not to the process that has it."""

    def work(rank):
        with joined() as world:
            return members(model, world=world)

    alone = members(model)
    for company in values(side_by_side(work, 3)):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(alone, company, strict=True))


def test_modes_come_back_after_an_error_too(model):
    model.train()
    model[0].eval()
    with pytest.raises(ZeroDivisionError), dropout_on(model):
        raise ZeroDivisionError
    assert [m.training for m in model] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"dropout_passes": -1}, "dropout_passes is -1; it must be a number of passes"),
        ({"dropout_passes": 2, "committee": [nn.Linear(6, 3)]}, "both bring the members; leave one of them out"),
    ],
)
def test_members_that_cannot_be_meant_are_refused(model, given, text):
    with pytest.raises(ConfigError, match=text):
        scan(model, POOL, needs={"members"}, **given)


def test_a_committee_may_be_any_iterable_and_the_model_itself_is_not_run():
    """Faulty: a generator that is counted is empty when its networks are to be run."""

    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("the model was run")

    seen = scan(Never(), POOL, needs={"members"}, committee=(nn.Linear(6, 3) for _ in range(2)))
    assert len(seen.members) == 2
