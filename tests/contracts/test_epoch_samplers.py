"""What every sampler owes: distinct rows of those it is given, positive weights, and nothing disturbed."""

from __future__ import annotations

import re

import pytest
import torch

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.network_view import NetworkView
from sartor.recipes import Dense
from sartor.recipes.sampling import OFFERED, begin_memory
from sartor.registry import SAMPLERS
from sartor.select.coreset_file import as_csv
from sartor.types import EpochSampler, Subset

N, K = 40, 12
SPECS = [
    *SAMPLERS,
    "redraw(every=0)",
    "redraw(balanced=True)",
    "infobatch(ratio=0.9, delta=1)",
    "sieve(share=1.0)",
    "crest(batch_size=5, candidates=2)",
]
every = pytest.mark.parametrize("spec", SPECS)
ROWS = torch.arange(N) * 7 + 3
TARGETS = torch.arange(N) % 3


@pytest.fixture(autouse=True)
def coreset(tmp_path, monkeypatch):
    """A file that the sampler of that name finds."""
    monkeypatch.chdir(tmp_path)
    rows = ROWS[::3][:K]
    (tmp_path / "coreset.csv").write_bytes(as_csv(Subset.of(rows), [f"id-{row}" for row in rows.tolist()]))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def history(visits=3):
    """Records in which samples are learnt in the order of their rows."""
    found, draws = History(ROWS), generator(4)
    for _ in range(visits):
        logits = torch.linspace(-2, 4, N)[:, None] * torch.tensor([[1.0, 0.0]]) + torch.randn(N, 2, generator=draws)
        found.visit(ROWS, logits, torch.zeros(N, dtype=torch.int64))
    return found


def view():
    """A network and the pool that has the rows among others."""
    inputs, targets = torch.randn(int(ROWS.max()) + 1, 4, generator=generator(2)), torch.zeros(int(ROWS.max()) + 1)
    targets[ROWS] = TARGETS.float()
    with torch.random.fork_rng():
        network = torch.nn.Linear(4, 3)
    torch.nn.init.eye_(network.weight), torch.nn.init.zeros_(network.bias)
    return NetworkView.of(network, Pool.from_arrays(inputs, targets.long()).only(ROWS))


def asked(sampler, seed=0, k=None, rows=ROWS, **changes):
    """Ask a sampler for a subset as the recipe does."""
    offered = {"history": history(), "subset": Subset.of(ROWS[:K]), "epoch": 2, "epochs": 10, "network": view()}
    offered |= {"memory": begin_memory(sampler, offered["network"].pool)} | changes
    size = (N if getattr(sampler, "free", False) else K) if k is None else k
    given = {name: offered[name] for name in getattr(sampler, "needs", ())}
    return sampler.sample(rows, size, generator=generator(seed), targets=TARGETS, **given)


@every
def test_it_is_a_sampler_and_asks_for_what_there_is(spec):
    sampler = SAMPLERS.build(spec)
    assert isinstance(sampler, EpochSampler)
    assert set(getattr(sampler, "needs", ())) <= OFFERED
    assert sampler.due(0), "the first epoch has a subset"
    assert SAMPLERS.describe(spec.partition("(")[0]).endswith(".")


@every
@pytest.mark.parametrize("changes", [{}, {"history": History(ROWS), "subset": None, "epoch": 0}, {"epoch": 9}])
def test_distinct_rows_in_order_positive_weights_of_mean_1_and_k_of_them_unless_it_is_free(spec, changes):
    sampler = SAMPLERS.build(spec)
    subset = asked(sampler, **changes)
    assert torch.equal(subset.rows, subset.rows.unique())
    assert torch.isin(subset.rows, ROWS).all()
    assert len(subset.weights) == len(subset)
    assert float(subset.weights.min()) > 0
    assert float(subset.weights.double().mean()) == pytest.approx(1, abs=1e-6)
    assert 1 <= len(subset) <= N
    assert getattr(sampler, "free", False) or len(subset) == K


@every
def test_the_same_seed_gives_the_same_subset(spec):
    one, other = (asked(SAMPLERS.build(spec), seed=5) for _ in range(2))
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.weights, other.weights)
    assert one.scale == other.scale


@every
def test_the_global_random_state_and_the_records_are_left_alone(spec):
    kept, before = history(), history()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    asked(SAMPLERS.build(spec), history=kept)
    assert torch.equal(torch.get_rng_state(), state)
    for name, table in before.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], table, rtol=0, atol=0, equal_nan=True)


@every
@pytest.mark.parametrize("k", [0, N + 1])
def test_a_k_out_of_reach_is_refused(spec, k):
    with pytest.raises(SelectionError, match=rf"k is {k}\b"):
        asked(SAMPLERS.build(spec), k=k)


@every
def test_misspelt_options_are_refused(spec):
    with pytest.raises(ConfigError, match="has no option 'keeep'"):
        SAMPLERS.build(f"{spec.partition('(')[0]}(keeep=1)")


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("file")])
def test_a_training_with_it_runs_twice_alike(spec):
    inputs = torch.randn(60, 4, generator=generator(1))
    data = (inputs, (inputs[:, 0] > 0).long())
    fraction = None if getattr(SAMPLERS.build(spec), "free", False) else 0.4
    recipe = Dense(epochs=4, batch_size=10, sampler=spec, fraction=fraction, probe=0)
    digests = []
    for _ in range(2):
        model = torch.nn.Linear(4, 2)
        torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
        digests.append(recipe.fit(model, data).results["digest"])
    assert digests[0] == digests[1]


def test_a_sampler_that_asks_for_what_there_is_not_is_refused(monkeypatch):
    class Wishing:
        """Wants to know the weather."""

        needs = frozenset({"weather", "epoch"})

        def due(self, epoch):
            return True

        def sample(self, rows, k, *, generator, targets=None, **_):
            return Subset.of(rows[:k])

    monkeypatch.setitem(SAMPLERS._entries, "wishing", Wishing)
    with pytest.raises(
        ConfigError, match=re.escape("wishing needs weather; samplers are given epoch, epochs, history")
    ):
        Dense(sampler="wishing", fraction=0.5)
