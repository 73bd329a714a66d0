"""Uncertainty by the network's own account: which samples it is unsure of, and the digits of those it is sure of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import uncertainty as reference
from sartor.errors import ConfigError
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.scores import losses
from sartor.select.uncertainty import entropy, least_confidence, margin

GENERATOR = torch.Generator()
SHAPES = {"n": st.integers(1, 20), "c": st.integers(2, 8), "scale": st.sampled_from([0.0, 1.0, 8.0])}


def table(n, c, scale, seed):
    return (np.random.default_rng(seed).normal(size=(n, c)) * scale).astype(np.float32)


@given(**SHAPES, seed=st.integers(0, 10**6))
def test_scores_are_those_of_the_literal_version(n, c, scale, seed):
    logits = table(n, c, scale, seed)
    rows = [[float(value) for value in row] for row in logits]
    seen = torch.from_numpy(logits)
    near = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(least_confidence(seen), [reference.least_confidence(row) for row in rows], **near)
    np.testing.assert_allclose(margin(seen), [reference.margin(row) for row in rows], **near)
    np.testing.assert_allclose(entropy(seen), [reference.entropy(reference.softmax(row)) for row in rows], **near)
    targets = np.random.default_rng(seed).integers(0, c, n)
    expected = [reference.loss(row, target) for row, target in zip(rows, targets.tolist())]
    np.testing.assert_allclose(losses(seen, torch.from_numpy(targets)), expected, **near)


def test_scores_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.4, 0.0]]).log()
    torch.testing.assert_close(least_confidence(logits), torch.tensor([0.5, 0.4]))
    torch.testing.assert_close(margin(logits), torch.tensor([0.25, 0.2]))
    certain_of_two = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    torch.testing.assert_close(entropy(logits), torch.tensor([1.5 * math.log(2), certain_of_two]))
    torch.testing.assert_close(losses(logits, torch.tensor([1, 0])), torch.tensor([math.log(4), -math.log(0.6)]))


@pytest.mark.parametrize("name", ["least-confidence", "margin", "entropy"])
@pytest.mark.parametrize("options", [{}, {"balanced": True}])
def test_equal_samples_are_drawn_not_taken_by_row(name, options):
    """The first rows are often of one class; what is better than the equal ones is kept."""
    logits = torch.tensor([[9.0, 0.0]]).repeat(100, 1)
    logits[70] = 0
    seen = Scan.from_arrays(logits=logits, targets=[0] * 100)
    found = [
        SELECTORS.build(name, **options).select(seen, 20, generator=torch.Generator().manual_seed(seed)).rows
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert all(70 in rows and int(rows.max() - rows.min()) > 50 for rows in found)


@pytest.mark.parametrize("name", ["least-confidence", "margin", "entropy", "loss"])
def test_huge_logits_give_finite_scores(name):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]])
    scores = SELECTORS.build(name).scores(Scan.from_arrays(logits=logits, targets=[1, 1, 2]))
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", ["least-confidence", "entropy", "loss"])
def test_samples_of_which_the_network_is_almost_sure_still_differ(name):
    """1 - p in float32 is 0 for all of them, so that ties, not certainty, would decide."""
    lead = torch.tensor([[20.0, 0.0], [30.0, 0.0], [40.0, 0.0]])
    scores = SELECTORS.build(name).scores(Scan.from_arrays(logits=lead, targets=[0, 0, 0]))
    assert scores[0] > scores[1] > scores[2] > 0


@pytest.mark.parametrize("spec", ["least-confidence", "margin", "entropy", "loss"])
def test_the_least_certain_are_chosen_whether_balanced_or_not(spec):
    """Scripts of the field keep the most certain ones where classes are not balanced, and rank by the raw logit."""
    sure = torch.tensor([9.0, 0.1, 7.0, 0.2, 8.0, 0.3])
    logits = torch.stack([sure, torch.zeros(6)], 1) + torch.tensor([[50.0], [0], [0], [0], [0], [90.0]])
    scan = Scan.from_arrays(logits=logits, targets=[0, 0, 0, 0, 0, 0])
    for end in (spec, f"{spec}(balanced=True)"):
        assert SELECTORS.build(end).select(scan, 3, generator=GENERATOR).rows.tolist() == [1, 3, 5]
    other = "highest" if spec == "margin" else "lowest"
    assert SELECTORS.build(f"{spec}(keep={other})").select(scan, 3, generator=GENERATOR).rows.tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", ["least-confidence", "margin", "entropy"])
def test_no_labels_are_looked_at(name):
    scan = Scan.from_arrays(logits=table(20, 4, 1.0, 0))
    assert len(SELECTORS.build(name).select(scan, 5, generator=GENERATOR)) == 5
    assert SELECTORS.build(f"{name}(balanced=True)").needs == {"logits", "targets"}


@pytest.mark.parametrize("name", ["least-confidence", "margin", "entropy", "loss", "grand", "bald", "alse"])
def test_an_unknown_end_is_refused(name):
    with pytest.raises(ConfigError, match="keep is 'top'; it must be one of highest, lowest"):
        SELECTORS.build(f"{name}(keep=top)")
