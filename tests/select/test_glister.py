"""GLISTER: gains of the literal layer that is stepped and differentiated; budgets exact whatever the rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from reference import glister as reference
from reference.gradmatch import built_gradients
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.glister import GLISTER, TaylorGains, by_rounds


def layer_and_scan(n, v, c, d, seed, *, bias=True, lr=0.5):
    """A last layer, and a pool and validation samples as it sees them."""
    rng = np.random.default_rng(seed)
    weight, offset = torch.from_numpy(rng.normal(size=(c, d))), torch.from_numpy(rng.normal(size=c)) if bias else None

    def seen(count, **more):
        features = torch.from_numpy(rng.normal(size=(count, d)).astype(np.float32))
        logits = features.double() @ weight.T + (offset if bias else 0)
        return Scan.from_arrays(
            logits=logits, features=features, targets=rng.integers(0, c, count), head_bias=bias, **more
        )

    return weight, offset, seen(n, validation=seen(v), lr=lr)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(scan):
    return built_gradients(scan.errors(slice(None)), scan.features, bias=scan.head_bias)


def rounds_of(k, rounds):
    rounds = min(rounds, k)
    return [k * (place + 1) // rounds - k * place // rounds for place in range(rounds)]


def literal(weight, offset, scan, k, rounds, step):
    validation = scan.validation
    features, targets = validation.features.double(), validation.targets
    return reference.choose(built(scan), weight, offset, features, targets, step=step, sizes=rounds_of(k, rounds))


@given(
    n=st.integers(1, 30),
    v=st.integers(1, 12),
    c=st.integers(2, 4),
    d=st.integers(1, 5),
    share=st.floats(0, 1),
    rounds=st.integers(1, 40),
    step=st.sampled_from([0.01, 0.5, 3.0]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_it_chooses_what_a_layer_that_is_stepped_chooses(n, v, c, d, share, rounds, step, bias, seed):
    weight, offset, scan = layer_and_scan(n, v, c, d, seed, bias=bias)
    k = max(1, round(share * n))
    expected = literal(weight, offset, scan, k, rounds, step)
    found = by_rounds(TaylorGains(scan, step), k, rounds).tolist()
    assert len(set(found)) == k
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("held", [0, 7])
def test_gains_rank_as_retraining_the_last_layer_by_a_tiny_step_does(bias, held):
    """The change of the validation loss is measured: with nothing chosen, and after a step on seven samples."""
    weight, offset, scan = layer_and_scan(40, 15, 3, 5, 0, bias=bias)
    gradients, validation, chosen = built(scan), scan.validation, list(range(held))
    function = TaylorGains(scan, 0.5)
    if held:
        function.choose(torch.tensor(chosen))
    weight, offset = reference.stepped(weight, offset, gradients[chosen], 0.5)

    def loss(moved, moved_offset):
        outputs = validation.features.double() @ moved.T + (moved_offset if bias else 0)
        return float(cross_entropy(outputs, validation.targets))

    before, tiny = loss(weight, offset), 1e-6
    lowered = [before - loss(*reference.stepped(weight, offset, gradients[[i]], tiny)) for i in range(40)]
    gains = function.gains()
    assert gains.argsort().tolist() == np.argsort(lowered).tolist()
    np.testing.assert_allclose(gains / gains.abs().max(), np.array(lowered) / np.abs(lowered).max(), atol=1e-4)


def redundant():
    """Two validation samples along two axes, the first one worse; a pool of ten along each."""
    features = np.repeat(np.eye(2), 10, axis=0).astype(np.float32)
    validation = Scan.from_arrays(logits=[[-0.5, 0.5], [0.0, 0.0]], features=np.eye(2), targets=[0, 0], head_bias=False)
    return Scan.from_arrays(
        logits=np.zeros((20, 2)), features=features, targets=[0] * 20, validation=validation, head_bias=False, lr=4.0
    )


@pytest.mark.parametrize("selector", [GLISTER(), GLISTER("greedy"), GLISTER("stochastic", eps=1e-9)])
def test_the_validation_gradient_is_brought_up_to_date(selector):
    """Left out, as in one library, all would come from the axis that was worse at first: plain top-k."""
    subset = selector.select(redundant(), 6, generator=generator())
    assert 1 <= int((subset.rows >= 10).sum()) <= 5
    never = GLISTER(step=1e-12).select(redundant(), 6, generator=generator())
    assert never.rows.tolist() == [0, 1, 2, 3, 4, 5], "this test must see the fault"


@pytest.mark.parametrize(("k", "r"), [(20, 15), (14, 15), (1, 15), (15, 15), (7, 3), (8, 3), (2, 3), (30, 7), (30, 1)])
def test_the_budget_is_exact_whether_or_not_the_rounds_divide_it(k, r):
    """Rounds of int(k / r) would choose 30 of 20 (k mod r), or go on for ever (k < r)."""
    _, _, scan = layer_and_scan(30, 5, 3, 4, 0)
    subset = GLISTER(r=r).select(scan, k, generator=generator())
    assert len(subset) == len(subset.rows.unique()) == len(subset.weights) == k
    sizes = rounds_of(k, r)
    assert sum(sizes) == k
    assert max(sizes) - min(sizes) <= 1


def test_greedy_is_a_round_for_each_sample_and_stochastic_greedy_that_draws_all_is_greedy():
    _, _, scan = layer_and_scan(25, 6, 3, 4, 2)
    one, other, drawn = (
        selector.select(scan, 10, generator=generator())
        for selector in (GLISTER("greedy"), GLISTER(r=10), GLISTER("stochastic", eps=1e-12))
    )
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.rows, drawn.rows)


def test_the_step_is_the_learning_rate_or_a_number():
    _, _, scan = layer_and_scan(40, 8, 3, 4, 3, lr=2.0)
    assert GLISTER().needs == {"logits", "features", "targets", "validation", "lr"}
    assert GLISTER(step=2).needs == {"logits", "features", "targets", "validation"}
    by_lr, same, other = (GLISTER(step=step).select(scan, 15, generator=generator()) for step in ("lr", 2, 0.001))
    assert torch.equal(by_lr.rows, same.rows)
    assert not torch.equal(by_lr.rows, other.rows)


def test_the_step_does_not_grow_with_the_number_chosen():
    """A step on the sum would: twice the same choice would move the validation logits twice as far."""
    _, _, scan = layer_and_scan(6, 4, 3, 4, 1)
    once, thrice = TaylorGains(scan, 0.5), TaylorGains(scan, 0.5)
    once.add(2)
    thrice.choose(torch.tensor([2, 2, 2]))
    torch.testing.assert_close(once.gains(), thrice.gains(), rtol=1e-6, atol=1e4)


def test_samples_that_are_the_same_are_taken_from_the_lower_rows():
    _, _, scan = layer_and_scan(4, 5, 3, 40, 0)
    index = torch.arange(4).repeat(50)
    twins = Scan.from_arrays(
        logits=scan.logits[index],
        features=scan.features[index],
        targets=scan.targets[index],
        validation=scan.validation,
        lr=1e-9,
    )
    rows = GLISTER().select(twins, 20, generator=generator()).rows
    best = int(rows[0])
    assert rows.tolist() == list(range(best, 80, 4))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_tiny_and_huge_features_and_logits_are_no_trouble(size):
    _, _, scan = layer_and_scan(30, 5, 3, 4, 0, bias=False)

    def scaled(seen, **more):
        return Scan.from_arrays(
            logits=seen.logits * 1e30, features=seen.features * size, targets=seen.targets, head_bias=False, **more
        )

    subset = GLISTER().select(scaled(scan, validation=scaled(scan.validation), lr=0.1), 20, generator=generator())
    assert len(subset) == 20


def test_a_validation_scan_by_another_network_is_refused():
    _, _, scan = layer_and_scan(10, 5, 3, 4, 0)
    for part, own in (("features", 4), ("logits", 3)):
        wrong = {name: scan.validation.parts[name] for name in ("logits", "features", "targets")}
        wrong[part] = torch.cat([wrong[part], wrong[part]], dim=1)
        other = Scan(scan.rows, {**scan.parts, "validation": Scan.from_arrays(**wrong)})
        message = f"the validation scan has {2 * own} {part} for each sample, the pool {own}; scan both with one"
        with pytest.raises(SelectionError, match=message):
            GLISTER().select(other, 3, generator=generator())


def test_only_blocks_are_read(monkeypatch):
    _, _, scan = layer_and_scan(3000, 1500, 3, 4, 0)
    read, original = [], Scan.features_of

    def spy(self, index):
        found = original(self, index)
        read.append(len(found))
        return found

    monkeypatch.setattr(Scan, "features_of", spy)
    GLISTER(r=2).select(scan, 30, generator=generator())
    assert max(read) == 1024


def test_autocast_around_it_changes_nothing():
    _, _, scan = layer_and_scan(60, 20, 3, 8, 0)
    plain = GLISTER("greedy").select(scan, 20, generator=generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = GLISTER("greedy").select(scan, 20, generator=generator())
    assert torch.equal(plain.rows, inside.rows)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("glister(greedy=lazy)", r"greedy is 'lazy'; it must be one of greedy, r-greedy, stochastic"),
        ("glister(r=0)", r"r is 0; it must lie in \[1, inf\)"),
        ("glister(greedy=greedy, r=5)", r"r is for greedy='r-greedy' and has no effect with greedy='greedy'"),
        ("glister(eps=0.2)", r"eps is for greedy='stochastic' and has no effect with greedy='r-greedy'"),
        ("glister(step=rate)", r"step is 'rate'; it must be one of lr"),
        ("glister(step=0)", r"step is 0; it must lie in \(0, inf\)"),
        ("glister(step=True)", r"step is True"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        SELECTORS.build(spec)


def test_flops_by_hand():
    # 18 samples and 2 validation samples, 3 classes, 4 features: each gradient 12 multiply-adds, each choice 7.
    assert GLISTER(r=2).arithmetic(18, 5, classes=3, features=4) == 2 * (2 * (18 + 2) * 12 + 2 * 5 * 7)
    assert GLISTER("greedy").arithmetic(18, 5, classes=3, features=4) == 2 * (5 * (18 + 2) * 12 + 2 * 5 * 7)
    drawn = GLISTER("stochastic", eps=0.5).arithmetic(18, 5, classes=3, features=4)
    assert drawn == 2 * (5 * (3 + 2) * 12 + 2 * 5 * 7)
    _, _, scan = layer_and_scan(18, 2, 3, 4, 0)
    assert GLISTER(r=2).select(scan, 5, generator=generator()).flops == 2 * (2 * 20 * 12 + 70)
