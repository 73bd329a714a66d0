"""SWaST brings a selector all that it asks for, charges every pass, and refuses early what it cannot bring."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.comparison import load
from sartor.costs import training_flops
from sartor.errors import SartorError, SelectionError, Stopped
from sartor.recipes import SWaST, supplies, swast
from sartor.recipes.forecaster import Forecaster, model_for
from sartor.recipes.supplies import as_it_was, ends_read
from sartor.recipes.timetable import Slot, subsets
from sartor.registry import SELECTORS
from sartor.scanning import FORWARD_PARTS, samples_passed, scan
from sartor.train import Trainer
from sartor.types import Subset

MODEL = "cnn(width=4, dropout=0.5)"
QUICK = {"epochs": 6, "batch_size": 64, "fraction": 0.1, "every": 2, "warmup": 2, "evaluate_every": 6, "probe": 0}


@dataclass(frozen=True)
class Curious:
    """Chooses the first rows; what it was shown is kept."""

    wishes: str = "targets"
    members_from: str = "dropout"
    members_count: int = 0
    least_visits: int = 1

    @property
    def needs(self):
        return frozenset(self.wishes.split("+"))

    def select(self, scan, k, *, generator):
        SHOWN.append(scan)
        return Subset.of(scan.rows[:k])


SHOWN: list = []
ALL = "logits+features+targets+validation+members+gradient_norms+history+progress+lr"


@pytest.fixture(autouse=True)
def curious(monkeypatch):
    monkeypatch.setitem(SELECTORS._entries, "curious", Curious)
    SHOWN.clear()


@pytest.fixture(scope="module")
def splits():
    whole = load("digits", None)
    return replace(whole, train=whole.train.only(whole.train.rows[:500]))


def fit(splits, recipe, **rest):
    return recipe.fit(model_for(splits, MODEL, recipe.seed), splits.train, splits.test, device="cpu", **rest)


KINDS = [
    "random",
    "el2n",
    "forgetting",
    "grand(layers=all)",
    "bald(passes=3)",
    "alse(snapshots=3)",
    "el2n(members=2)",
    "alse(snapshots=9)",
    "ccs(score='el2n(members=2)')",
    "facility-location(balanced=True)",
    "graph-cut(balanced=True)",
    "k-center(balanced=True)",
    "herding",
    "curious(wishes='validation+logits')",
    "curious(wishes='validation')",
    f"curious(wishes='{ALL}', members_count=2)",
    f"curious(wishes='{ALL}', members_from=snapshots, members_count=4)",
]


SPARSE, DENSE = {"pruner": "rigl(every=3)"}, {"pruner": "none", "preserve": "complete"}


@pytest.mark.parametrize(
    ("selector", "options"), [(kind, (SPARSE, DENSE)[place % 2]) for place, kind in enumerate([*KINDS, KINDS[-1]])]
)
def test_the_ledger_is_the_forecast_whatever_a_selector_needs(splits, selector, options):
    recipe = SWaST(**QUICK, selector=selector, record="epoch", **options)
    results, cost = fit(splits, recipe).results, Forecaster(splits, MODEL)(recipe)
    assert results["flops"] == pytest.approx(cost.flops, rel=1e-12)
    spent = {name: flops for name, flops in results["flops_by_purpose"].items() if flops}
    assert spent == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned
    assert results["samples"]["record"] == {"trained": 0, "forward": 6 * cost.n}


class Counting(nn.Module):
    """Counts the samples that go through it, while it is told to."""

    def __init__(self):
        super().__init__()
        self.counts, self.counted = False, 0
        self.body, self.drop, self.head = nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 10)

    def forward(self, x):
        self.counted += len(x) if self.counts else 0
        return self.head(self.drop(self.body(x.flatten(1)).relu()))


@pytest.mark.parametrize(
    ("selector", "passes", "held"),
    [
        ("el2n", [1, 1], 0),
        ("bald(passes=3)", [3, 3], 0),
        ("alse(snapshots=3)", [2, 3], 0),
        ("el2n(members=2)", [2, 2], 0),
        ("curious(wishes='validation+logits')", [1, 1], 56),
        ("curious(wishes=history)", [0, 0], 0),
    ],
)
def test_as_many_samples_are_charged_as_go_through_the_network(splits, monkeypatch, selector, passes, held):
    """Counted in the network's own forward, selection by selection: after 2 epochs, and after 4."""
    model, counted = Counting(), []
    original = swast.look

    def counting(trainer, *rest, **options):
        model.counts, model.counted = True, 0
        seen = original(trainer, *rest, **options)
        model.counts = False
        counted.append(model.counted)
        return seen

    monkeypatch.setattr(swast, "look", counting)
    recipe = SWaST(**{**QUICK, "holdout": 1 / 9}, selector=selector, pruner="none")
    results = recipe.fit(model, splits.train, splits.test, device="cpu").results
    n = results["n"]
    assert n == 444
    assert counted == [times * n + held for times in passes]
    assert results["samples"].get("select", {"forward": 0})["forward"] == sum(counted)
    forward = 2 * (64 * 8 + 8 * 10)
    assert results["flops_by_purpose"]["select"] - sum(counted) * forward == pytest.approx(
        2 * own_flops(selector, n, recipe), rel=1e-9
    )


def own_flops(selector, n, recipe):
    """The selector's own arithmetic."""
    count = getattr(SELECTORS.build(selector), "arithmetic", None)
    return 0.0 if count is None else count(n, round(recipe.fraction * n), classes=10, features=8)


def test_gradients_of_single_samples_are_charged_forward_and_backward_with_the_dense_gradient(splits):
    recipe = SWaST(**QUICK, selector="grand(layers=all)", pruner="rigl(every=1000)", preserve="none")
    result = fit(splits, recipe)
    n, forecaster = result.results["n"], Forecaster(splits, MODEL)
    densities = forecaster.counts(recipe).densities()
    each = training_flops(forecaster.flops, densities, dense_gradient=True)
    assert result.results["samples"]["select"] == {"forward": 0, "trained": 2 * n}
    assert result.results["flops_by_purpose"]["select"] == pytest.approx(2 * n * each, rel=1e-12)
    assert each == pytest.approx(2 * forecaster.flops.masked(densities) + forecaster.flops.forward)


def test_a_selector_is_shown_what_it_asked_for(splits):
    recipe = SWaST(**QUICK, selector=f"curious(wishes='{ALL}', members_count=2)", pruner="none", schedule="cosine")
    result = fit(splits, recipe)
    assert len(SHOWN) == 2
    for seen, progress, epoch in zip(SHOWN, (3 / 6, 5 / 6), (2, 4)):
        assert len(seen) == result.results["n"] == 450
        assert len(seen.validation) == 50
        assert not set(seen.validation.rows.tolist()) & set(seen.rows.tolist())
        assert seen.validation.logits.shape == (50, 10)
        assert seen.validation.features.shape[1] == seen.features.shape[1]
        assert torch.equal(seen.validation.targets, splits.train.targets_of(seen.validation.rows))
        assert seen.progress == progress
        assert seen.lr == pytest.approx(0.05 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 6)).item()))
        assert len(seen.members) == 2
        assert not torch.equal(seen.members[0].logits, seen.members[1].logits)
        assert seen.gradient_norms.min() > 0
        assert seen.history.visits.min() == 2
    assert not torch.equal(SHOWN[0].members[0].logits, SHOWN[1].members[0].logits)


def test_dropout_draws_by_the_seed_and_the_epoch_of_the_run(splits):
    recipe = SWaST(**QUICK, selector="curious(wishes=members, members_count=2)", pruner="none")
    for seed in (0, 0, 1):
        fit(splits, recipe.with_options(seed=seed, holdout=0.0))
    first, again, other = SHOWN[0:2], SHOWN[2:4], SHOWN[4:6]
    assert all(torch.equal(a.members[1].logits, b.members[1].logits) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].members[1].logits, other[0].members[1].logits)
    SHOWN.clear()
    recipe.with_options(lr=1e-30).fit(
        Counting(), splits.train, splits.test, device="cpu"
    )  # nothing moves but the epoch
    assert not torch.equal(SHOWN[0].members[0].logits, SHOWN[1].members[0].logits)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_snapshots_are_the_network_at_the_ends_of_the_last_epochs(splits, monkeypatch, count):
    """Against copies of the network that are made at each epoch's end."""
    copies = []
    original = Trainer.agree

    def copying(self):
        copies.append(copy.deepcopy(self.model).eval())
        original(self)

    monkeypatch.setattr(Trainer, "agree", copying)
    selector = f"curious(wishes='members+targets', members_from=snapshots, members_count={count})"
    result = fit(splits, SWaST(**QUICK, selector=selector, pruner="rigl(every=2)", scoring="fp32"))
    assert len(copies) == 6
    for seen, done in zip(SHOWN, (2, 4), strict=True):
        assert len(seen.members) == min(count, done)
        for member, network in zip(seen.members, copies[:done][-count:], strict=True):
            pool = splits.train.only(seen.rows)
            assert torch.equal(member.logits, scan(network, pool, needs={"logits"}, precision="fp32").logits)
    assert result.results["samples"]["select"]["forward"] == 450 * (min(count, 2) + min(count, 4))


def test_before_anything_has_trained_the_network_as_it_is_is_the_only_member(splits):
    selector = "curious(wishes=members, members_from=snapshots, members_count=3)"
    fit(splits, SWaST(**{**QUICK, "warmup": 0}, selector=selector, pruner="none"))
    assert [len(seen.members) for seen in SHOWN] == [1, 2, 3]


def test_looking_on_changes_nothing_in_the_training(splits):
    """The same rows, chosen with and without members, held-out samples and gradients, give the same network."""
    digests = set()
    for wishes, source in (("targets", "dropout"), (ALL, "dropout"), (ALL, "snapshots")):
        selector = f"curious(wishes='{wishes}', members_from={source}, members_count=2)"
        recipe = SWaST(**QUICK, selector=selector, pruner="rigl(every=2)", preserve="none")
        digests.add(fit(splits, recipe).results["digest"]["weights"])
    assert len(digests) == 1


def test_an_earlier_state_leaves_no_trace_even_of_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    earlier = {name: value + 1 for name, value in before.items()}
    with pytest.raises(SelectionError), as_it_was(model, earlier):
        assert all(torch.equal(value, earlier[name]) for name, value in model.state_dict().items())
        raise SelectionError("stop")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@given(
    epochs=st.integers(1, 25),
    warmup=st.integers(0, 8),
    every=st.integers(0, 7),
    count=st.integers(1, 6),
    timing=st.sampled_from(["at-warmup-end", "skip"]),
)
def test_what_selections_read_is_kept_until_then_and_no_longer(epochs, warmup, every, count, timing):
    slots = subsets(10, 3, epochs=epochs, warmup=warmup, every=every, timing=timing)
    keeper, trained = supplies.Snapshots(slots, count), []
    for epoch, slot in enumerate(slots):
        if slot.draws:
            ends = trained[-count:]
            states = keeper.before(epoch)
            assert [int(state["network"]["weight"][0]) for state in states] == ends[:-1]
            assert len(states) + 1 == max(1, min(count, len(trained)))
        if slot.size:
            trained.append(epoch)
            keeper.end(epoch, Stub(epoch))
            later = ends_read(slots, count)
            assert all(any(end in ends for draw, ends in later.items() if draw > epoch) for end in keeper.states)
    assert not keeper.states


class Stub:
    """As much of a trainer as a snapshot takes; its network holds the number of the epoch."""

    def __init__(self, epoch):
        self.model, self.flops, self.densities = nn.Linear(1, 1, bias=False), self, {}
        self.model.weight.data.fill_(epoch)

    def masked(self, densities):
        return 1.0

    def looking(self):
        return nullcontext()


def test_a_slot_that_trains_nothing_has_no_end():
    slots = [Slot(5), Slot(0), Slot(0), Slot(2, draws=True), Slot(2, draws=True)]
    assert ends_read(slots, 3) == {3: [], 4: [0]}


@pytest.mark.parametrize("stop", [3, 15, 17, 19, 20])
def test_a_stopped_run_goes_on_with_the_members_that_it_had(splits, tmp_path, stop):
    recipe = SWaST(**QUICK, selector="alse(snapshots=3)", pruner="rigl(every=3)")
    whole = fit(splits, recipe).results
    calls = iter(range(10**6))
    with pytest.raises(Stopped):
        fit(splits, recipe, out=tmp_path / "run", stopping=lambda: next(calls) == stop)
    again = fit(splits, recipe, out=tmp_path / "run").results
    assert again["digest"] == whole["digest"]
    assert again["flops_by_purpose"] == whole["flops_by_purpose"]


REFUSED = [
    (
        "curious(wishes='validation+logits')",
        {"holdout": 0.0},
        "needs held-out samples, but holdout is 0; give --holdout",
    ),
    ("curious(wishes=labelled)", {}, "needs labelled, .*: active learning supplies it"),
    ("curious(wishes=gradients)", {}, "needs gradients, which no training keeps"),
    ("curious(wishes=members, members_from=nowhere, members_count=2)", {}, "does not say which; give it members_from"),
    ("curious(wishes=members)", {}, "does not say which; give it members_from"),
    ("curious(wishes=fetures)", {}, "there is no part 'fetures'.*features"),
    ("forgetting", {"warmup": 0}, "looked at 1 times before the first selection, not 0; give --warmup 1"),
    ("curious(wishes=history, least_visits=3)", {}, "looked at 3 times before the first selection, not 2"),
    ("dual", {}, "looked at 10 times before the first selection, not 2"),
]


@pytest.mark.parametrize(("selector", "options", "message"), REFUSED)
def test_what_cannot_be_supplied_is_refused_before_the_training(splits, tmp_path, selector, options, message):
    recipe = SWaST(**{**QUICK, **options}, selector=selector)
    with pytest.raises(SartorError, match=message):
        fit(splits, recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_networks_that_do_not_serve_are_refused_before_the_training(splits, tmp_path):
    with pytest.raises(SelectionError, match="has no dropout layer"):
        SWaST(**QUICK, selector="bald").fit(
            model_for(splits, "cnn(width=4)"), splits.train, splits.test, out=tmp_path / "run"
        )

    class Branching(nn.Module):
        """What it does depends on what it sees."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(x.flatten(1)) if x.sum() > 0 else self.head(-x.flatten(1))

    with pytest.raises(SelectionError, match="cannot be differentiated sample by sample"):
        SWaST(**QUICK, selector="grand(layers=all)", pruner="none").fit(
            Branching(), splits.train, splits.test, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_what_a_scan_passes_is_counted_part_by_part():
    assert samples_passed(frozenset({"targets", "history"}), 10, held=3, members=4) == (0, 0)
    assert samples_passed(FORWARD_PARTS, 10, held=3, members=4) == (10, 0)
    assert samples_passed(frozenset({"features", "validation"}), 10, held=3) == (13, 0)
    assert samples_passed(frozenset({"members", "validation"}), 10, held=3, members=4) == (40, 0)
    assert samples_passed(frozenset({"gradient_norms", "logits"}), 10) == (10, 10)
