"""What every selector owes: exactly k distinct rows of the scan, the same for the same seed, and nothing disturbed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.history import History
from sartor.registry import SELECTORS
from sartor.scanning import scan
from sartor.seen import Scan
from sartor.types import Selector

N, CLASSES = 60, 3
SPECS = [
    *SELECTORS,
    "random(balanced=True)",
    "el2n(keep=switch)",
    "el2n(keep=lowest, balanced=True)",
    "moderate(center=mean, per_class=True)",
    "moderate(balanced=True)",
    "gradmatch(per='class-gradient')",
    "gradmatch(per=batch, batch_size=8)",
    "gradmatch(per=batch, batch_size=1, ridge=0.5)",
    "gradmatch(per=all)",
    "forgetting(keep=lowest)",
    "forgetting(balanced=True)",
    "aum(keep=highest, balanced=True)",
    "dual(beta=False)",
    "dual(c_d=2, balanced=True)",
    "ccs(beta=0, strata=3)",
    "ccs(score=forgetting, balanced=True)",
    "ccs(score=el2n)",
    "ccs(score=margin, beta=0.1)",
    "ccs(score='bald(passes=3)')",
    "least-confidence(balanced=True)",
    "margin(keep=highest)",
    "entropy(keep=lowest, balanced=True)",
    "loss(keep=lowest)",
    "el2n(members=3)",
    "grand(layers=all, balanced=True)",
    "bald(passes=3, balanced=True)",
    "alse(score=variation-ratio)",
    "facility-location(metric=euclidean, balanced=True)",
    "facility-location(greedy=stochastic, memory=0)",
    "graph-cut(metric=euclidean, lam=2, balanced=True)",
    "craig(greedy=stochastic)",
    "craig(per=batch, batch_size=8)",
    "craig(per=all, memory=0)",
    "glister(greedy=greedy, step=0.1)",
    "glister(greedy=stochastic, eps=0.1)",
    "k-center(balanced=True)",
    "k-center(start=random)",
    "k-center(start=labelled)",
    "herding(balanced=False)",
    "badge(start=random)",
]
every = pytest.mark.parametrize("spec", SPECS)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(size=(N, CLASSES)).astype(np.float32),
        "features": rng.normal(size=(N, 5)).astype(np.float32),
        "targets": rng.integers(0, CLASSES, N),
        "rows": np.sort(rng.permutation(500)[:N]),
        "gradient_norms": rng.random(N).astype(np.float32),
    }


def whole(**changes):
    """A scan with all parts."""
    given = {**arrays(), **changes}
    other = {**arrays(1), "rows": given["rows"]}
    seen = {"progress": 0.25, "lr": 0.1, "history": history_of(given["rows"])}
    beside = Scan.from_arrays(**{**other, "rows": np.arange(600, 600 + N)})
    members = [Scan.from_arrays(rows=np.sort(given["rows"]), logits=arrays(seed)["logits"]) for seed in (1, 2, 3)]
    return Scan.from_arrays(**given, **seen, validation=beside, labelled=beside, members=members)


def history_of(rows, visits=25):
    """Records in which some samples are learnt, some forgotten, some never right."""
    history, draws = History(torch.as_tensor(rows).sort().values), torch.Generator().manual_seed(4)
    difficulty = torch.linspace(-2, 4, len(rows))[:, None]
    for _ in range(visits):
        logits = difficulty * torch.tensor([[1.0, 0.0, 0.0]]) + torch.randn(len(rows), 3, generator=draws)
        history.visit(history.rows, logits, torch.zeros(len(rows), dtype=torch.int64))
    return history


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@every
def test_it_is_a_selector_and_says_what_it_needs(spec):
    selector = SELECTORS.build(spec)
    assert isinstance(selector, Selector)
    assert selector.needs <= {*whole().parts, "history", "gradients"}
    assert SELECTORS.describe(spec.partition("(")[0]).endswith((".", ";", ":"))


@every
@pytest.mark.parametrize("k", [CLASSES, 17, N - 1, N])
def test_exactly_k_distinct_rows_out_of_the_scan_with_weights_of_mean_1(spec, k):
    seen = whole()
    subset = SELECTORS.build(spec).select(seen, k, generator=generator())
    assert len(subset) == len(subset.rows.unique()) == len(subset.weights) == k
    assert torch.equal(subset.rows, subset.rows.sort().values)
    seen.at(subset.rows)
    assert float(subset.weights.min()) > 0
    assert float(subset.weights.double().mean()) == pytest.approx(1, abs=1e-6)
    assert subset.scale > 0


@every
def test_the_same_seed_gives_the_same_subset(spec):
    one, other = (SELECTORS.build(spec).select(whole(), 20, generator=generator(5)) for _ in range(2))
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.weights, other.weights)


@every
def test_the_order_in_which_samples_are_listed_changes_nothing(spec):
    listed, order = arrays(), np.random.default_rng(3).permutation(N)
    one = SELECTORS.build(spec).select(whole(), 20, generator=generator())
    other = SELECTORS.build(spec).select(whole(**{k: v[order] for k, v in listed.items()}), 20, generator=generator())
    assert torch.equal(one.rows, other.rows)
    torch.testing.assert_close(one.weights, other.weights)


@every
def test_the_global_random_state_and_the_scan_are_left_alone(spec):
    seen = whole()
    before = {name: seen.parts[name].clone() for name in ("logits", "features", "targets")}
    torch.manual_seed(11)
    state = torch.get_rng_state()
    SELECTORS.build(spec).select(seen, 20, generator=generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(seen.parts[name], value) for name, value in before.items())


@every
@pytest.mark.parametrize("k", [0, N + 1])
def test_a_k_out_of_reach_is_refused(spec, k):
    with pytest.raises(SelectionError, match=f"k is {k};"):
        SELECTORS.build(spec).select(whole(), k, generator=generator())


@every
def test_each_part_that_it_needs_is_missed_by_name_and_no_other(spec):
    selector, full = SELECTORS.build(spec), whole()
    for part in selector.needs:
        without = Scan(full.rows, {name: value for name, value in full.parts.items() if name != part})
        with pytest.raises(SelectionError, match=f"the scan has no {part};"):
            selector.select(without, 20, generator=generator())
    only = Scan(full.rows, {name: value for name, value in full.parts.items() if name in selector.needs})
    assert len(selector.select(only, 20, generator=generator())) == 20


@every
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_samples_that_are_all_alike_are_no_trouble(spec, value):
    same = {"logits": np.full((N, CLASSES), value), "features": np.full((N, 5), value)}
    assert len(SELECTORS.build(spec).select(whole(**same), 20, generator=generator())) == 20


@every
def test_it_works_on_a_scan_of_a_view_and_leaves_the_model_alone(spec):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    pool = Pool.from_arrays(torch.randn(N, 4), torch.arange(N) % CLASSES)
    view = pool.only(torch.arange(1, N, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    selector = SELECTORS.build(spec)
    given = {"progress": 0.75, "lr": 0.1, "validation": pool.only(torch.arange(0, N, 2))}
    given |= {
        "history": history_of(pool.rows),
        "committee": [nn.Linear(4, CLASSES)] * 2,
        "labelled": given["validation"],
    }
    subset = selector.select(scan(model, view, needs=selector.needs, **given), 9, generator=generator())
    assert set(subset.rows.tolist()) <= set(view.rows.tolist())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every
def test_unlabelled_samples_are_an_error_where_labels_are_needed(spec):
    selector = SELECTORS.build(spec)
    pool = Pool.from_arrays(torch.randn(N, 4))
    given = {"progress": 0.5, "history": history_of(pool.rows), "committee": [nn.Linear(4, CLASSES) for _ in range(2)]}
    given |= {"lr": 0.1, "validation": pool, "labelled": pool}
    if selector.needs & {"targets", "gradient_norms"}:
        with pytest.raises(SelectionError, match="the pool has no targets"):
            scan(nn.Linear(4, CLASSES), pool, needs=selector.needs, **given)
    else:
        seen = scan(nn.Linear(4, CLASSES), pool, needs=selector.needs, **given)
        assert len(selector.select(seen, 5, generator=generator())) == 5


@every
def test_misspelt_options_are_refused(spec):
    with pytest.raises(ConfigError, match="has no option 'keeep'"):
        SELECTORS.build(f"{spec.partition('(')[0]}(keeep=1)")
