"""The history of a training: what is recorded when, at what cost, and that it comes back bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import contextmanager
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import sartor
import sartor.recording
import sartor.train
from reference.history import Trajectories
from sartor.comparison import load
from sartor.dist import joined
from sartor.errors import ConfigError, SelectionError, Stopped, TrainingError
from sartor.history import History
from sartor.prune.rigl import RigL
from sartor.recipes import Dense, SWaST
from sartor.recipes.finished import read_finished
from sartor.recipes.forecaster import Forecaster, model_for
from sartor.recording import Recorder
from sartor.registry import SAMPLERS
from sartor.run_folder import SUMS
from sartor.train import Trainer
from side_by_side import side_by_side, values

HISTORY = "history.safetensors"
MODEL = "cnn(width=4)"
QUICK = {"batch_size": 40, "evaluate_every": 9, "probe": 0}
COUNTED = ("visits", "forgotten", "times_right", "right", "rows")


@pytest.fixture(scope="module")
def splits():
    whole = load("digits", None)
    return dataclasses.replace(whole, train=whole.train.only(whole.train.rows[:300]))


def fit(splits, recipe, make=None, **rest):
    model = model_for(splits, MODEL, recipe.seed) if make is None else make()
    return recipe.fit(model, splits.train, splits.test, device="cpu", **rest)


def alike(one, other):
    """Whether two histories are the same to the last bit."""
    return all(
        torch.equal(table.nan_to_num(), other.state_dict()[name].nan_to_num())
        for name, table in one.state_dict().items()
    )


def test_nothing_is_kept_or_charged_where_nothing_asks_for_it(splits, tmp_path):
    result = fit(splits, SWaST(**QUICK, epochs=2, every=1, fraction=0.3, selector="moderate"), out=tmp_path / "run")
    assert result.history is None
    assert not (tmp_path / "run" / HISTORY).exists()
    assert "record" not in result.results["flops_by_purpose"]


def spied_logits(monkeypatch):
    """Logits of every training forward, with the samples that they are of, as lists of (rows, logits, targets)."""
    seen, held = [], []
    forward, step = sartor.train.forward, Trainer.train_step

    def watching(model, inputs):
        logits = forward(model, inputs)
        if model.training:
            held.append(logits.detach().clone())
        return logits

    def stepping(self, batch, preserved=None):
        held.clear()
        came = step(self, batch, preserved)
        seen.append((batch.rows.tolist(), held[0], batch.targets.tolist(), len(held)))
        return came

    monkeypatch.setattr(sartor.train, "forward", watching)
    monkeypatch.setattr(Trainer, "train_step", stepping)
    return seen


def check_against_trajectories(history, seen):
    kept = Trajectories(history.rows.tolist())
    visits = dict.fromkeys(history.rows.tolist(), 0)
    for rows, logits, targets, _ in seen:
        for row, values_, target in zip(rows, logits.tolist(), targets):
            kept.visit(row, values_, target)
            visits[row] += 1
    assert history.visits.tolist() == list(visits.values())
    for row, place in zip(history.rows.tolist(), range(len(history))):
        if visits[row]:
            assert bool(history.right[place]) == kept.right(row)[-1]
            assert int(history.forgotten[place]) == kept.forgotten(row)
            assert int(history.times_right[place]) == sum(kept.right(row))
            assert float(history.margin_sum[place]) == pytest.approx(sum(kept.margins(row)), rel=1e-5, abs=1e-5)
    return visits


@pytest.mark.parametrize(
    "recipe",
    [
        Dense(**QUICK, epochs=3, record="batch"),
        Dense(**QUICK, epochs=3, record="batch", label_smoothing=0.2, precision="bf16"),
        SWaST(**QUICK, epochs=5, fraction=0.3, every=2, selector="moderate", pruner="rigl(every=2)", record="batch"),
    ],
    ids=["plain", "smoothed", "swast"],
)
def test_mini_batches_are_recorded_as_they_are_trained(splits, monkeypatch, recipe):
    """Training mode, weights of the moment, only what is trained: against whole trajectories."""
    seen = spied_logits(monkeypatch)
    result = fit(splits, recipe)
    visits = check_against_trajectories(result.history, seen)
    assert sum(visits.values()) == sum(account["trained"] for account in result.results["samples"].values())
    assert len(result.history) == result.results["n"] == 270


def test_an_evaluation_after_each_epoch_sees_everyone_by_the_same_weights_and_is_charged(splits):
    recipe = SWaST(**QUICK, epochs=4, fraction=0.2, every=2, selector="random", record="epoch", scoring="fp32")
    result = fit(splits, recipe)
    history, pool = result.history, splits.train
    assert history.visits.tolist() == [4] * 270
    with torch.no_grad():
        logits = result.model(pool.gather(history.rows))
    losses = F.cross_entropy(logits, pool.targets_of(history.rows), reduction="none")
    torch.testing.assert_close(history.loss, losses, rtol=1e-4, atol=1e-5)
    forecaster = Forecaster(splits, MODEL)
    forward = forecaster.flops.masked(result.masks.densities())
    assert result.results["samples"]["record"] == {"trained": 0, "forward": 4 * 270}
    assert result.results["flops_by_purpose"]["record"] == pytest.approx(4 * 270 * forward, rel=1e-12)
    assert result.results["flops"] == pytest.approx(forecaster(recipe).flops, rel=1e-12)


def test_epochs_that_train_nothing_are_not_visited_again(splits):
    options = {"fraction": 0.2, "every": 4, "warmup": 1, "selection_timing": "skip", "selector": "random"}
    recipe = SWaST(**QUICK, epochs=8, **options, record="epoch")
    result = fit(splits, recipe)
    assert result.history.visits.tolist() == [5] * 270
    assert result.results["flops"] == pytest.approx(Forecaster(splits, MODEL)(recipe).flops, rel=1e-12)


def test_blocks_change_nothing(splits, monkeypatch):
    recipe = Dense(**QUICK, epochs=2, record="epoch")
    whole = fit(splits, recipe)
    monkeypatch.setattr(sartor.train, "BLOCK", 128)
    parts = fit(splits, recipe)
    assert alike(whole.history, parts.history)
    assert whole.results["flops_by_purpose"] == parts.results["flops_by_purpose"]


@pytest.mark.parametrize("kind", ["batch", "epoch"])
def test_recording_changes_nothing_in_the_training(splits, kind):
    recipe = SWaST(**QUICK, epochs=4, fraction=0.3, every=2, selector="moderate", pruner="rigl(every=2)")
    plain, recorded = fit(splits, recipe), fit(splits, recipe.with_options(record=kind))
    assert plain.results["digest"] == recorded.results["digest"]
    extra = recorded.results["flops_by_purpose"].keys() - plain.results["flops_by_purpose"].keys()
    assert extra == ({"record"} if kind == "epoch" else set())


@pytest.mark.parametrize("kind", ["batch", "epoch"])
@pytest.mark.parametrize("stop", [4, 6, 7, 15])
def test_a_stopped_run_goes_on_to_the_same_history_bit_for_bit(splits, tmp_path, kind, stop):
    """Stopped within an epoch, after its last step but before the pass over all samples, and at its end."""
    recipe = SWaST(**QUICK, epochs=5, fraction=0.4, warmup=2, every=2, selector="forgetting", record=kind)
    whole = fit(splits, recipe, out=tmp_path / "whole")
    calls = iter(range(10**6))
    with pytest.raises(Stopped):
        fit(splits, recipe, out=tmp_path / "run", stopping=lambda: next(calls) == stop)
    assert not (tmp_path / "run" / HISTORY).exists()
    again = fit(splits, recipe, out=tmp_path / "run")
    assert (tmp_path / "run" / HISTORY).read_bytes() == (tmp_path / "whole" / HISTORY).read_bytes()
    assert again.results["digest"] == whole.results["digest"]
    assert again.results["flops"] == whole.results["flops"]


def test_the_file_is_plain_tensors_and_comes_back_with_the_finished_run(splits, tmp_path):
    recipe = Dense(**QUICK, epochs=2, record="batch")
    first = fit(splits, recipe, out=tmp_path / "run", labels={"data": "digits", "model": MODEL})
    read = sartor.History.from_tables(load_file(tmp_path / "run" / HISTORY))
    assert alike(read, first.history)
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "run" / SUMS).read_text().splitlines())
    assert sums[HISTORY] == hashlib.sha256((tmp_path / "run" / HISTORY).read_bytes()).hexdigest()
    assert alike(fit(splits, recipe, out=tmp_path / "run", labels={"model": MODEL}).history, first.history)


def test_sartor_select_reads_it(tmp_path):
    whole = load("digits", None)
    recipe = Dense(batch_size=128, epochs=2, probe=0, record="batch")
    fit(whole, recipe, out=tmp_path / "run", labels={"data": "digits", "model": MODEL})
    history = read_finished(tmp_path / "run").history
    assert history.visits.tolist() == [2] * len(history)


@pytest.mark.parametrize(
    ("recipe", "recording"),
    [
        (Dense(), "none"),
        (Dense(record="epoch"), "epoch"),
        (Dense(sampler="redraw", fraction=0.5), "none"),
        (Dense(sampler="infobatch"), "batch"),
        (Dense(sampler="sieve", fraction=0.5, record="batch"), "batch"),
        (SWaST(), "none"),
        (SWaST(selector="forgetting"), "batch"),
        (SWaST(selector="aum", record="epoch"), "epoch"),
        (SWaST(selector="none"), "none"),
        (SWaST(selector="none", record="batch"), "batch"),
    ],
)
def test_what_is_recorded_follows_from_the_options_and_who_reads_it(recipe, recording):
    assert recipe.recording == recording


def test_other_ways_of_recording_are_refused():
    with pytest.raises(ConfigError, match="record"):
        Dense(record="batches")


class Doubting(RigL):
    """Two passes a step, the second by weights that are moved a little."""

    passes = 2

    @contextmanager
    def forward(self, model, masks):
        self.__dict__["turn"] = 1 - self.__dict__.get("turn", 1)
        moved = self.__dict__["turn"] * torch.arange(10.0)
        with torch.no_grad():
            model.classifier.bias.add_(moved)
        yield
        with torch.no_grad():
            model.classifier.bias.sub_(moved)


def test_of_several_passes_the_first_is_recorded(splits, monkeypatch):
    monkeypatch.setattr(SWaST, "make_pruner", lambda self: Doubting(sparsity=0.5, every=2))
    seen = spied_logits(monkeypatch)
    result = fit(splits, SWaST(**QUICK, epochs=2, selector="none", preserve="none", record="batch"))
    assert {passes for *_, passes in seen} == {2}
    check_against_trajectories(result.history, seen)


def test_a_step_that_fails_is_not_recorded(splits, tmp_path):
    history = History(torch.arange(4))
    recorder = Recorder(history, "batch", sartor.dist.World())
    recorder.begin()
    recorder.hold(torch.ones(2, 3))
    recorder.hold(torch.zeros(2, 3))
    assert float(recorder.held.sum()) == 6, "the first pass"
    recorder.begin()
    assert recorder.held is None
    assert not history.seen.any()
    with pytest.raises((TrainingError, SelectionError), match=r"lower --lr|diverged"):
        fit(splits, Dense(**QUICK, epochs=2, lr=1e38, record="batch"), out=tmp_path / "run")


def test_losses_of_mini_batches_reach_selector_and_sampler_while_training(splits, monkeypatch):
    asked = []
    sampler = SAMPLERS["infobatch"]
    original = sampler.sample

    def spied(self, rows, k, **rest):
        asked.append(
            (int(rest["history"].visits.min()), int(rest["history"].visits.max()), rest["epoch"], rest["epochs"])
        )
        return original(self, rows, k, **rest)

    monkeypatch.setattr(sampler, "sample", spied)
    fit(splits, Dense(**QUICK, epochs=3, warmup=1, sampler="infobatch(delta=1)"))
    assert [epoch for *_, epoch, _ in asked] == [1, 2]
    assert asked[0] == (1, 1, 1, 3)
    assert (asked[1][0], asked[1][1]) == (1, 2)


def plain(seed=0):
    """A network without batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


COMPANY = [
    Dense(epochs=3, batch_size=50, probe=0, record="batch"),
    Dense(epochs=2, batch_size=50, probe=0, record="epoch"),
    Dense(epochs=4, batch_size=50, probe=0, sampler="infobatch(ratio=0.7)"),
    Dense(epochs=4, batch_size=50, probe=0, sampler="sieve(every=1)", fraction=0.3),
    Dense(epochs=4, batch_size=50, probe=0, sampler="crest(threshold=0.3)", fraction=0.3),
    SWaST(
        epochs=4, batch_size=50, probe=0, fraction=0.2, every=2, selector="alse(snapshots=2)", pruner="rigl(every=3)"
    ),
    SWaST(epochs=4, batch_size=50, probe=0, fraction=0.0075, every=2, warmup=1, selector="forgetting", pruner="none"),
]


def recorded(splits, recipe, rank):
    """A training in company: its history, its subsets, what it cost."""
    del rank
    result = fit(splits, recipe, make=plain)
    tables = None if result.history is None else result.history.state_dict()
    return [tables, result.subset, result.results["flops_by_purpose"], result.results["samples"]]


@pytest.mark.parametrize("recipe", COMPANY, ids=range(len(COMPANY)))
def test_several_processes_record_what_one_does(splits, recipe):
    """The same looks and subsets; numbers but for the rounding of gradients. Of 2 samples a third process has none."""
    tables, subset, flops, samples = recorded(splits, recipe, 0)
    for found in values(side_by_side(partial(recorded, splits, recipe), 3)):
        assert (found[2], found[3]) == (flops, samples)
        assert torch.equal(found[1].rows, subset.rows)
        for name, table in (tables or {}).items():
            if name in COUNTED:
                assert torch.equal(found[0][name], table), name
            else:
                torch.testing.assert_close(found[0][name], table, rtol=1e-3, atol=1e-4, equal_nan=True)


FAR = torch.tensor([0, 2049, 2050, 2**24, 2**24 + 1, 2**40 + 1])


class Labels:
    """As much of a pool as a recorder takes."""

    def targets_of(self, rows):
        return rows % 2


def visited(rank):
    """Each of two processes visits half of the rows, its logits in half precision; they tell which row they are of."""
    history = History(FAR)
    with joined() as world:
        recorder = Recorder(history, "batch", world)
        rows = FAR[rank::2]
        recorder.begin()
        logits = torch.stack([torch.zeros(3), torch.arange(3.0) + 10 * rank], 1)
        recorder.hold(logits.half())
        recorder.visit(rows, Labels())
    return [history.rows.tolist(), history.visits.tolist(), history.loss.tolist()]


def test_rows_of_many_processes_are_exact_whatever_the_type_of_the_losses():
    """InfoBatch's own program sends row numbers in the type of the losses: wrong above 2048 in half precision."""
    first, second = values(side_by_side(visited, 2))
    assert first == second
    assert first[:2] == [FAR.tolist(), [1] * 6]
    logits = torch.stack([torch.zeros(6), torch.tensor([0.0, 10, 1, 11, 2, 12])], 1)
    assert first[2] == pytest.approx(F.cross_entropy(logits, FAR % 2, reduction="none").tolist(), rel=1e-5, abs=1e-4)
