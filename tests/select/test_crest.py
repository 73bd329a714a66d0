"""CREST: against a literal version, by hand, and the faults of the authors' program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reference import crest as literal
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.network_view import NetworkView
from sartor.recipes import Dense
from sartor.registry import SAMPLERS
from sartor.seen import Scan
from sartor.select.crest import CREST
from sartor.select.region import Region, quadratic

N, CLASSES = 48, 3


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def pool(n=N, seed=1):
    inputs = torch.randn(n, 5, generator=source(seed))
    return Pool.from_arrays(inputs, inputs[:, :CLASSES].argmax(1))


def network(seed=0, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4) if norm else nn.Tanh(), nn.Linear(4, CLASSES))


def drawn(sampler, model, data, k, memory, *, subset=None, epoch=0, seed=0):
    view = NetworkView.of(model, data)
    given = {"network": view, "memory": memory, "subset": subset, "epoch": epoch}
    return sampler.sample(data.rows, k, generator=source(seed), **given)


def moved(model, by):
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=source(9)))


def losses_of(model, data, rows):
    with torch.no_grad():
        return F.cross_entropy(model.eval()(data.gather(rows)), data.targets_of(rows), reduction="none")


@settings(max_examples=15, deadline=None)
@given(
    k=st.integers(1, N),
    batch_size=st.sampled_from([4, 5, 100]),
    candidates=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_rows_and_weights_are_those_of_the_literal_version(k, batch_size, candidates, seed):
    model, data = network(seed), pool(seed=seed)
    memory = Region(data.rows)
    subset = drawn(CREST(batch_size=batch_size, candidates=candidates), model, data, k, memory, seed=seed)
    with torch.no_grad():
        features = model[:2](data.gather(data.rows))
        errors = model[2](features).softmax(1) - F.one_hot(data.targets_of(data.rows), CLASSES)
    order = torch.randperm(N, generator=source(seed)).tolist()
    batches = literal.mini_batches(errors.numpy(), features.numpy(), order, candidates, even_sizes(k, batch_size))
    expected = {row: weight for batch in batches for row, weight in batch}
    found = dict(zip(subset.rows.tolist(), (subset.weights.double() * subset.scale).tolist()))
    assert found.keys() == expected.keys()
    assert len(found) == k
    assert found == pytest.approx(expected, rel=1e-5)
    assert sum(found.values()) == pytest.approx(min(N, candidates * k)), "each sample of a random subset counts once"
    assert sorted(memory.watched.tolist()) == sorted(order[: min(N, candidates * k)])


def test_the_quadratic_by_hand():
    slope, curvature, step = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), torch.tensor([1.0, -1.0])
    assert quadratic(1.0, slope, curvature, step) == 1 + (1 - 2) + (2 + 4) / 2


@given(
    values=st.lists(
        st.tuples(*(st.lists(st.floats(-3, 3), min_size=2, max_size=2) for _ in range(2))), min_size=1, max_size=6
    ),
    step=st.lists(st.floats(-2, 2), min_size=2, max_size=2),
    losses=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
)
def test_averages_and_error_are_those_of_the_literal_version(values, step, losses):
    memory = Region(torch.arange(3))
    memory.begin(torch.tensor([1.0, -1.0]), torch.arange(3), losses[0])
    for slope, curvature in values:
        memory.average(torch.tensor(slope), torch.tensor(curvature))
    slope, curvature = literal.averages(*([np.array(v) for v in column] for column in zip(*values)))
    after = [1 + step[0], -1 + step[1]]
    expected = literal.relative_error(losses[0], slope, curvature, [1.0, -1.0], after, losses[1])
    assert memory.error(torch.tensor(after), losses[1]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_averages_go_on_from_one_choice_to_the_next():
    model, data, memory = network(), pool(), Region(pool().rows)
    slopes = []
    original = NetworkView.slope_and_curvature

    def spied(self, *args, **given):
        slopes.append(original(self, *args, **given))
        return slopes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkView, "slope_and_curvature", spied)
        first = drawn(CREST(batch_size=5), model, data, 10, memory)
        moved(model, 0.5)
        drawn(CREST(batch_size=5, threshold=0), model, data, 10, memory, subset=first, epoch=1)
    assert memory.batches == len(slopes) == 4
    slope, curvature = literal.averages(*([np.asarray(v) for v in column] for column in zip(*slopes)))
    np.testing.assert_allclose(memory.slope / (1 - 0.9**4), slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose((memory.squares / (1 - 0.999**4)).sqrt(), curvature, rtol=1e-3, atol=1e-6)


def test_where_nothing_moved_the_error_is_0_and_the_coreset_stays():
    """Original: the loss at the start is that of the coreset in training mode, the later one of all in eval mode."""
    model, data, memory = network(norm=True).train(), pool(), Region(pool().rows)
    first = drawn(CREST(threshold=0), model, data, 12, memory)
    again = drawn(CREST(threshold=0), model, data, 12, memory, subset=first, epoch=1, seed=1)
    assert again is first
    assert memory.told == {"error": 0.0, "kept": True, "left_out": 0}


@pytest.mark.parametrize(("by", "stays"), [(1e-3, True), (1.0, False)])
def test_the_coreset_stays_as_long_as_the_quadratic_tells_the_loss(by, stays):
    model, data, memory = network(), pool(), Region(pool().rows)
    sampler = CREST(batch_size=6)
    first = drawn(sampler, model, data, 12, memory)
    loss, watched, weights = memory.loss, memory.watched, memory.weights
    slope, curvature = memory.slope / (1 - 0.9**2), (memory.squares / (1 - 0.999**2)).sqrt()
    assert loss == pytest.approx(float(losses_of(model, data, watched).mean()), rel=1e-5)
    moved(model, by)
    after = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    found = float(losses_of(model, data, watched).mean())
    expected = literal.relative_error(loss, *(v.double().tolist() for v in (slope, curvature, weights, after)), found)
    second = drawn(sampler, model, data, 12, memory, subset=first, epoch=1, seed=1)
    assert memory.told["error"] == pytest.approx(expected, rel=1e-3)
    assert (second is first) == stays == (expected <= 0.1) == memory.told["kept"]
    assert torch.equal(memory.weights, weights) == stays


def test_it_chooses_anew_at_first_whatever_it_remembers():
    model, data, memory = network(), pool(), Region(pool().rows)
    first = drawn(CREST(), model, data, 12, memory)
    assert drawn(CREST(), model, data, 12, memory, subset=None) is not first
    assert memory.told["error"] is None


@pytest.mark.parametrize(
    ("looks", "out"),
    [
        ([{0: 0.01, 1: 0.5}, {0: 0.02, 2: 0.03}], {0, 2}),
        ([{0: 0.01}, {0: 0.2}], set()),
        ([], set()),
        ([dict.fromkeys(range(6), 0.01)], set(range(6))),
    ],
)
def test_who_is_left_out_is_who_was_looked_at_and_had_small_losses_alone(looks, out):
    assert literal.left_out(looks, 0.1) == out
    memory = Region(torch.arange(6) * 10)
    for look in looks:
        memory.note(with_losses([10 * row for row in look], list(look.values())))
    memory.leave_out(0.1, least=0)
    assert set(memory.learnt.nonzero().squeeze(1).tolist()) == out
    assert memory.highest.isnan().all()


def with_losses(rows, losses):
    """A scan of two classes in which samples have these losses."""
    margins = torch.tensor([math.log(math.expm1(loss)) for loss in losses])
    logits = torch.stack([torch.zeros(len(rows)), margins], 1)
    return Scan.from_arrays(rows=torch.tensor(rows), logits=logits, targets=torch.zeros(len(rows), dtype=torch.int64))


def test_so_many_stay_as_the_random_subsets_take_and_the_lowest_losses_go_first():
    memory = Region(torch.arange(6))
    assert memory.note(with_losses([0, 1, 2, 3], [0.02, 0.01, 0.03, 0.5])) == pytest.approx(0.14, rel=1e-4)
    memory.leave_out(0.1, least=4)
    assert memory.learnt.tolist() == [True, True, False, False, False, False]
    memory.note(with_losses([2, 3], [0.01, 0.01]))
    memory.leave_out(0.1, least=4)
    assert int(memory.learnt.sum()) == 2, "what is left out stays out, and no more go than may"


def test_the_learnt_are_left_out_every_period_and_are_not_drawn_again():
    model, data = network(), pool()
    with torch.no_grad():  # a network that is sure, and right but for the last class
        model[2].weight.zero_(), model[2].bias.copy_(torch.tensor([30.0, 0.0, 0.0]))
    memory, sampler = Region(data.rows), CREST(batch_size=4, candidates=4, period=2, threshold=0)
    known = data.rows[data.targets_of(data.rows) == 0]
    k, subset, out = 4, None, []
    for epoch in range(3, 9):
        subset = drawn(sampler, model, data, k, memory, subset=subset, epoch=epoch, seed=epoch)
        subset = None if epoch % 2 == 0 else subset  # so that others are looked at
        out.append(int(memory.learnt.sum()))
    assert out[:2] == [0, 0]
    assert 0 < out[2] == out[3] < out[4] == out[5]
    assert set(data.rows[memory.learnt].tolist()) <= set(known.tolist())
    assert not torch.isin(memory.watched, data.rows[memory.learnt]).any()
    assert len(memory.watched) == 16


@pytest.mark.parametrize("learnt", [0.0, 0.1])
def test_nothing_is_left_out_where_that_is_not_asked_for(learnt):
    model, data, memory = network(), pool(), Region(pool().rows)
    memory.highest.fill_(0.0)
    memory.since = 0
    drawn(CREST(learnt=learnt), model, data, 3, memory, epoch=25)
    assert int(memory.learnt.sum()) == (36 if learnt else 0)


def test_memory_goes_through_a_file(tmp_path):
    model, data, memory = network(), pool(), Region(pool().rows)
    first = drawn(CREST(), model, data, 12, memory)
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    copy = Region(data.rows)
    copy.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    moved(model, 0.5)
    mine, other = (drawn(CREST(), model, data, 12, m, subset=first, epoch=1, seed=2) for m in (memory, copy))
    assert torch.equal(mine.rows, other.rows)
    assert torch.equal(mine.weights, other.weights)
    assert memory.told == copy.told


def test_the_network_is_left_as_it_was():
    """Original: passes in training mode move batch norm, and leave gradients that are added to those of the step."""
    model, data = network(norm=True).train(), pool()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    memory = Region(data.rows)
    first = drawn(CREST(), model, data, 12, memory)
    drawn(CREST(threshold=0), model, data, 12, memory, subset=first, epoch=1)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_what_does_not_go_is_refused():
    for options in (
        {"every": 0},
        {"threshold": -1.0},
        {"candidates": 0},
        {"batch_size": 0},
        {"learnt": -0.1},
        {"period": 0},
        {"learnt": 0.0, "period": 5},
    ):
        with pytest.raises(ConfigError, match=next(reversed(options))):
            CREST(**options)
    with pytest.raises(ConfigError, match="steps is for all data"):
        Dense(sampler="crest", fraction=0.2, steps=10, warmup=1)
    with pytest.raises(ConfigError, match="sampler and fraction go together"):
        Dense(sampler="crest")
    assert SAMPLERS.build("crest(every=2, threshold=0.3)") == CREST(2, 0.3)


def test_a_network_that_it_cannot_look_at_is_refused_before_anything_is_trained(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            return self.body(x) * 2

    data = (pool().gather(pool().rows), pool().targets)
    recipe = Dense(epochs=2, batch_size=8, sampler="crest", fraction=0.3, probe=0)
    with pytest.raises(SelectionError, match="no Linear returns the model's output"):
        recipe.fit(Scaled(), data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"head is 'bodi'.*body"):
        recipe.with_options(sampler="crest(head=bodi)").fit(Scaled(), data)
    result = recipe.with_options(sampler="crest(head='body.2')").fit(Scaled(), data)
    assert len(result.subset) == 13
