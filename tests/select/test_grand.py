"""GraNd: the closed form of the last layer, and the gradient in all weights, against automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.registry import SELECTORS
from sartor.scanning import scan
from sartor.seen import Scan

GENERATOR = torch.Generator()


def by_hand(model, inputs, target, parameters):
    """The norm of one sample's gradient, by backward."""
    loss = F.cross_entropy(model(inputs[None]), target[None])
    gradients = torch.autograd.grad(loss, parameters)
    return float(torch.cat([g.flatten() for g in gradients]).norm())


@given(n=st.integers(1, 8), c=st.integers(2, 6), d=st.integers(1, 5), bias=st.booleans(), seed=st.integers(0, 10**6))
def test_the_closed_form_is_the_gradient_of_the_last_layer(n, c, d, bias, seed):
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(d, c, bias=bias)
    features = torch.from_numpy(rng.normal(size=(n, d)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, c, n))
    seen = Scan.from_arrays(logits=head(features), features=features, targets=targets, head_bias=bias)
    expected = [by_hand(head, h, t, list(head.parameters())) for h, t in zip(features, targets)]
    np.testing.assert_allclose(SELECTORS.build("grand").scores(seen), expected, rtol=1e-4, atol=1e-6)


def test_all_layers_are_those_of_a_backward_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    pool = Pool.from_arrays(torch.randn(7, 1, 4, 4), torch.arange(7) % 3)
    selector = SELECTORS.build("grand(layers=all)")
    seen = scan(model, pool, needs=selector.needs, batch_size=4)
    expected = [by_hand(model, x, t, list(model.parameters())) for x, t in zip(pool.inputs, pool.targets)]
    np.testing.assert_allclose(selector.scores(seen), expected, rtol=1e-4)


def test_a_partial_last_batch_is_no_longer_than_others():
    """A loss that is the mean over its batch gives samples of a short last batch longer gradients."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    pool = Pool.from_arrays(torch.ones(5, 4), torch.zeros(5, dtype=torch.int64))
    norms = scan(model, pool, needs={"gradient_norms"}, batch_size=4).gradient_norms
    assert float(norms.max() - norms.min()) < 1e-6


def test_the_last_layer_needs_a_linear_and_all_layers_do_not():
    assert SELECTORS.build("grand").needs_linear_head
    assert not SELECTORS.build("grand(layers=all)").needs_linear_head
    seen = Scan.from_arrays(logits=[[0.0, 1.0]], features=[[1.0]], targets=[0], head_bias=None)
    with pytest.raises(SelectionError, match="works with the gradient of the Linear"):
        SELECTORS.build("grand").select(seen, 1, generator=GENERATOR)
    with pytest.raises(ConfigError, match="layers is 'first'"):
        SELECTORS.build("grand(layers=first)")
