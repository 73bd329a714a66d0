"""InfoBatch: which samples are easy, that the sum of gradients is unbiased, and the faults of the original program."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from reference import infobatch as literal
from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.recipes import Dense
from sartor.recipes.outcome import Watch
from sartor.registry import SAMPLERS
from sartor.select.infobatch import InfoBatch, easy_ones, rounded_at_random
from sartor.train import Trainer

LOSS = st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.5, 2.0]), st.floats(0, 20, width=32))


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def with_losses(losses, rows=None):
    """A history in which samples have these last losses; nan for one that was never trained."""
    history = History(torch.arange(len(losses)) if rows is None else rows)
    history.loss = torch.tensor(losses)
    return history


def drawn(sampler, losses, *, epoch=0, epochs=10, seed=0):
    rows = torch.arange(len(losses)) * 3 + 1
    history = with_losses(losses, rows)
    return sampler.sample(rows, len(rows), generator=source(seed), history=history, epoch=epoch, epochs=epochs)


@given(losses=st.lists(LOSS, min_size=1, max_size=30))
def test_easy_are_the_losses_below_the_exact_mean(losses):
    assert easy_ones(torch.tensor(losses)).nonzero().squeeze(1).tolist() == sorted(literal.easy(losses))


@pytest.mark.parametrize("loss", [0.0, 0.1, 1 / 3, 1.7, 1e-30])
@pytest.mark.parametrize("n", [1, 3, 7, 10, 1000])
def test_equal_losses_are_not_below_their_mean_however_it_is_rounded(loss, n):
    assert not easy_ones(torch.full((n,), loss)).any()


@given(
    losses=st.lists(LOSS, min_size=1, max_size=30),
    ratio=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 10**6),
)
def test_a_subset_is_all_that_is_hard_and_a_share_of_the_easy_which_count_for_the_others(losses, ratio, seed):
    subset = drawn(InfoBatch(ratio=ratio), losses, seed=seed)
    places = {(row - 1) // 3 for row in subset.rows.tolist()}
    easy = literal.easy(losses)
    assert set(range(len(losses))) - easy <= places
    assert len(places & easy) in literal.sizes(len(easy), Fraction(ratio))
    for row, weight in zip(subset.rows.tolist(), subset.raw().weights.tolist()):
        assert weight == pytest.approx(1 / (1 - ratio) if (row - 1) // 3 in easy else 1.0, rel=1e-6)


def test_a_case_by_hand():
    losses = [0.1, 3.0, 0.2, 0.3, 2.0, math.nan]  # mean of those known: 1.12
    for seed in range(5):
        subset = drawn(InfoBatch(ratio=1 / 3), losses, seed=seed)
        weights = dict(zip(subset.rows.tolist(), subset.raw().weights.tolist()))
        assert {4, 13, 16} <= weights.keys()
        assert [weights[row] for row in (4, 13, 16)] == pytest.approx([1.0] * 3)
        assert len(weights) == 5
        assert sum(weights[row] for row in weights.keys() & {1, 7, 10}) == pytest.approx(3)


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_the_expected_sum_of_weighted_gradients_is_that_of_all_samples(ratio):
    """Over many draws, of 7 easy samples of which no whole number can be left out in each."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(12, 4), torch.arange(12) % 3
    model = torch.nn.Linear(4, 3)
    each = []
    for row in range(12):
        model.zero_grad()
        F.cross_entropy(model(inputs[row : row + 1]), targets[row : row + 1]).backward()
        each.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    gradients = torch.stack(each).double()
    losses = [0.1] * 7 + [3.0] * 5
    sampler, history, rows, stream = InfoBatch(ratio=ratio), with_losses(losses), torch.arange(12), source(3)
    draws = 1500
    sums = torch.zeros(draws, gradients.shape[1], dtype=torch.float64)
    for i in range(draws):
        subset = sampler.sample(rows, 12, generator=stream, history=history, epoch=1, epochs=100)
        sums[i] = (subset.raw().weights.double()[:, None] * gradients[subset.rows]).sum(0)
    deviation = (sums.mean(0) - gradients.sum(0)) / (sums.std(0) / math.sqrt(draws))
    assert float(deviation.abs().max()) < 4.5, "in standard errors, of 15 coordinates"


@pytest.mark.parametrize("number", [0.0, 0.25, 2.0, 2.7])
def test_rounding_at_random_is_right_on_average(number):
    stream = source(1)
    found = [rounded_at_random(number, generator=stream) for _ in range(4000)]
    assert set(found) <= {math.floor(number), math.ceil(number)}
    assert np.mean(found) == pytest.approx(number, abs=0.03)


@pytest.mark.parametrize(("epochs", "delta"), [(200, 0.875), (30, 0.875), (10, 0.7), (3, 0.1), (7, 1.0), (1, 0.5)])
def test_the_last_epochs_take_all_samples_with_weight_1_also_where_their_number_is_no_whole_one(epochs, delta):
    """Original: weights are reset only where the iteration is exactly T delta + 1, so that at T = 30 they stay."""
    losses = [0.1] * 60 + [3.0] * 20
    pruned = []
    for epoch in range(epochs):
        subset = drawn(InfoBatch(delta=delta), losses, epoch=epoch, epochs=epochs)
        if len(subset) < len(losses):
            pruned.append(epoch)
        else:
            assert (set(subset.weights.tolist()), subset.scale) == ({1.0}, 1.0)
    assert pruned == literal.pruned_epochs(epochs, Fraction(str(delta)))


def test_nothing_is_known_at_first_so_all_are_kept():
    subset = drawn(InfoBatch(), [math.nan] * 9)
    assert (len(subset), set(subset.weights.tolist()), subset.scale) == (9, {1.0}, 1.0)


def test_the_program_around_is_left_alone():
    """Original: it puts a function of its own into every DataLoader, and seeds numpy's global state in each epoch."""
    import torch.utils.data.dataloader as dataloader

    step, mine = dataloader._BaseDataLoaderIter.__next__, np.random.get_state()[1].copy()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    drawn(InfoBatch(), [0.1, 0.2, 3.0, 4.0], seed=5)
    assert dataloader._BaseDataLoaderIter.__next__ is step
    assert (np.random.get_state()[1] == mine).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_go_is_refused():
    for options in ({"ratio": 0}, {"ratio": 1.0}, {"delta": 0.0}, {"delta": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            InfoBatch(**options)
    with pytest.raises(SelectionError, match="k is 3 of 5; infobatch settles itself"):
        InfoBatch().sample(torch.arange(5), 3, generator=source(), history=with_losses([1.0] * 5), epoch=0, epochs=1)
    assert SAMPLERS.build("infobatch(ratio=0.3)") == InfoBatch(ratio=0.3)


def blobs(n=300):
    inputs = torch.randn(n, 6, generator=source(1))
    return inputs, (inputs[:, 0] > 0).long()


QUICK = {"epochs": 6, "batch_size": 20, "sampler": "infobatch", "holdout": 0.0, "probe": 0, "lr": 0.3}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(6, 2)


def test_a_training_leaves_out_what_its_own_losses_say(tmp_path, monkeypatch):
    """First all, as nothing is known; then the easy ones by half; at the end, if asked in half of the epochs, all."""
    seen = []
    original = Trainer.train_epoch

    def spied(self, subset, epoch, **rest):
        easy = literal.easy(self.recorder.history.loss.tolist())
        seen.append((len(subset), subset.scale, len(easy), {round(w, 5) for w in subset.weights.tolist()}))
        original(self, subset, epoch, **rest)

    monkeypatch.setattr(Trainer, "train_epoch", spied)
    result = Dense(**QUICK).fit(network(), blobs())
    assert seen[0][:3] == (300, 1.0, 0)
    assert (seen[5][0], seen[5][3]) == (300, {1.0}), "5 of 6 epochs end within 0.875"
    for size, scale, easy, weights in seen[1:5]:
        assert (scale, weights) == (1.0, {1.0, 2.0})
        assert size in {300 - easy + kept for kept in literal.sizes(easy, Fraction(1, 2))}
    assert sum(size for size, *_ in seen) == result.results["samples"]["train"]["trained"] < 6 * 300
    full = Dense(**{**QUICK, "sampler": "infobatch(delta=0.5)"})
    seen.clear()
    full.fit(network(), blobs())
    assert [size for size, *_ in seen[3:]] == [300] * 3


def test_raw_weights_enter_the_loss_as_they_are(monkeypatch):
    """A subset's weights have mean 1; those in the loss are 1 and 2, or survivors would not make up for the others."""
    used = []
    original = Trainer.backward

    def spied(self, batch, preserved):
        used.extend(batch.weights.tolist())
        return original(self, batch, preserved)

    monkeypatch.setattr(Trainer, "backward", spied)
    kept = []
    selection = Watch.selection
    monkeypatch.setattr(Watch, "selection", lambda self, e, s: (kept.append(s), selection(self, e, s))[1])
    Dense(**QUICK).fit(network(), blobs())
    assert sorted({round(weight, 5) for weight in used}) == [1.0, 2.0]
    assert all(float(subset.weights.mean()) == pytest.approx(1, abs=1e-6) for subset in kept)
    assert max(subset.scale for subset in kept) > 1.1


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "constant"])
def test_the_learning_rate_runs_its_whole_course_over_fewer_steps(schedule, monkeypatch):
    """Step by step, a shorter epoch goes through the same part of the schedule as a whole one."""
    used, original = [], Trainer.train_step
    monkeypatch.setattr(
        Trainer, "train_step", lambda self, *rest: (used.append(self.lr_share * self.lr), original(self, *rest))[1]
    )
    options = {**QUICK, "epochs": 8, "schedule": schedule}
    free = Dense(**options).fit(network(), blobs())
    for line in (line for line in free.metrics if line["kind"] == "epoch"):
        assert np.mean(used[: line["steps"]]) == pytest.approx(line["lr"], rel=1e-9)
        del used[: line["steps"]]
    whole = Dense(**{**options, "sampler": None}).fit(network(), blobs())
    assert free.results["steps"] < whole.results["steps"]
    rates = [[line["lr"] for line in found.metrics if line["kind"] == "epoch"] for found in (free, whole)]
    assert rates[0] == pytest.approx(rates[1], rel=0.02)


def test_options_that_do_not_go_with_it_are_refused():
    for options, message in (
        ({"fraction": 0.5}, "leave fraction out"),
        ({"selection_timing": "skip"}, "skip is for subsets of a fraction"),
        ({"record": "epoch"}, "goes by mini-batches"),
        ({"steps": 10}, "steps is for all data"),
    ):
        with pytest.raises(ConfigError, match=message):
            Dense(sampler="infobatch", **options)
    assert Dense(sampler="infobatch", warmup=3, epochs=5).timetable(10)[2].draws is False


def test_a_pool_of_one_sample_and_of_copies_can_be_drawn_from():
    pool = Pool.from_arrays(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    assert len(drawn(InfoBatch(), [0.3])) == 1
    assert len(drawn(InfoBatch(), [0.3] * len(pool))) == 4
