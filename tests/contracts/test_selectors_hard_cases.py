"""What every selector bears: few and many classes, one feature, a class of one, twins, the smallest and largest k."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sartor.errors import SelectionError
from sartor.history import History
from sartor.registry import SELECTORS
from sartor.seen import Scan

every = pytest.mark.parametrize("spec", [*SELECTORS])
balanced = pytest.mark.parametrize("spec", [name for name in SELECTORS if "balanced" in SELECTORS.options(name)])


def generator():
    return torch.Generator().manual_seed(0)


def whole(targets, *, classes, features=4, seed=0, scale=1.0, rows=None):
    """A scan with all parts, of made-up numbers."""
    rng, n = np.random.default_rng(seed), len(targets)
    rows = np.arange(n) if rows is None else rows

    def logits():
        return (rng.normal(size=(n, classes)) * scale).astype(np.float32)

    def table():
        return rng.normal(size=(n, features)).astype(np.float32)

    history = History(torch.as_tensor(rows))
    for _ in range(12):
        history.visit(history.rows, torch.from_numpy(logits()), torch.as_tensor(targets))
    beside = Scan.from_arrays(logits=logits(), features=table(), targets=targets, rows=np.arange(n) + 10_000)
    return Scan.from_arrays(
        logits=logits(),
        features=table(),
        targets=np.asarray(targets),
        rows=rows,
        gradient_norms=rng.random(n).astype(np.float32),
        members=[Scan.from_arrays(logits=logits(), rows=rows) for _ in range(2)],
        validation=beside,
        labelled=beside,
        history=history,
        progress=0.4,
        lr=0.1,
    )


def chosen(spec, scan, k):
    """Select, and check that exactly k distinct rows came, with sound weights."""
    subset = SELECTORS.build(spec).select(scan, k, generator=generator())
    assert len(subset.rows.unique()) == len(subset.rows) == k
    scan.at(subset.rows)
    assert bool(subset.weights.isfinite().all())
    assert float(subset.weights.min()) > 0
    assert float(subset.weights.double().mean()) == pytest.approx(1, abs=1e-5)
    return subset


@every
def test_two_classes(spec):
    chosen(spec, whole(np.arange(30) % 2, classes=2), 7)


@every
def test_a_thousand_classes(spec):
    chosen(spec, whole(np.arange(60) * 16, classes=1000), 60)
    chosen(spec, whole(np.arange(60) % 20 * 50, classes=1000), 25)


@every
def test_one_feature(spec):
    chosen(spec, whole(np.arange(40) % 3, classes=3, features=1), 11)


@every
def test_a_class_of_one_sample(spec):
    targets = np.array([0] * 25 + [1] * 14 + [2])
    for k in (3, 12, 39, 40):
        chosen(spec, whole(targets, classes=4), k)


@balanced
def test_balanced_choices_leave_no_class_empty_while_k_allows(spec):
    targets = np.array([0] * 40 + [1] * 15 + [2] * 2 + [3])
    scan = whole(targets, classes=4)
    for k in (4, 9, 30):
        subset = chosen(f"{spec}(balanced=True)", scan, k)
        assert set(targets[subset.rows].tolist()) == {0, 1, 2, 3}


@every
@pytest.mark.parametrize("k", [3, 10, 24])
def test_twins(spec, k):
    """Every sample is there eight times."""
    once = whole(np.arange(3), classes=3, seed=1)
    at = torch.arange(24) % 3
    tables = {name: once.parts[name][at] for name in ("logits", "features", "targets", "gradient_norms")}
    history = History(torch.arange(24))
    for _ in range(12):
        history.visit(history.rows, tables["logits"], tables["targets"])
    members = [Scan.from_arrays(logits=member.logits[at]) for member in once.members]
    others = {name: once.parts[name] for name in ("validation", "labelled", "progress", "lr")}
    chosen(spec, Scan.from_arrays(**tables, **others, members=members, history=history), k)


@every
def test_one_sample_and_all(spec):
    scan = whole(np.zeros(20, dtype=np.int64), classes=3)
    chosen(spec, scan, 1)
    assert chosen(spec, scan, 20).rows.tolist() == list(range(20))


@every
def test_one_sample_of_several_classes_or_the_same_clear_refusal(spec):
    scan = whole(np.arange(20) % 4, classes=4)
    if getattr(SELECTORS.build(spec), "least_per_class", 0):
        with pytest.raises(SelectionError, match=r"k is 1 but the scan holds 4 classes and each needs a sample"):
            SELECTORS.build(spec).select(scan, 1, generator=generator())
    else:
        chosen(spec, scan, 1)


@every
def test_logits_of_any_size(spec):
    for scale in (1e-6, 1e4):
        chosen(spec, whole(np.arange(30) % 3, classes=3, scale=scale), 9)


@every
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(spec, value):
    logits = np.zeros((5, 3))
    logits[2, 1] = value
    with pytest.raises(SelectionError, match=r"the logits of row 14 are not finite"):
        Scan.from_arrays(logits=logits, rows=np.array([10, 12, 14, 16, 18]))


@every
def test_half_precision_chooses_as_float32_does_but_for_rounding(spec):
    scan = whole(np.arange(60) % 3, classes=3, features=8)
    halves = {name: scan.parts[name].half() for name in ("logits", "features")}
    rounded = Scan(scan.rows, {**scan.parts, **halves})
    exact = Scan(scan.rows, {**scan.parts, **{name: half.float() for name, half in halves.items()}})
    assert torch.equal(chosen(spec, rounded, 20).rows, chosen(spec, exact, 20).rows)


@every
def test_error_states_of_numpy_and_torch_are_left_alone(spec):
    before, threads = np.geterr(), torch.get_num_threads()
    chosen(spec, whole(np.arange(30) % 3, classes=3), 9)
    assert np.geterr() == before
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
