"""Norms of single samples' gradients: any inputs, any batch size, and the network is left as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sartor.per_sample
from sartor.errors import SelectionError
from sartor.per_sample import gradient_norms


class Two(nn.Module):
    """Takes two inputs, by place or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.left(x) * self.right(y)


def literal(model, inputs, targets):
    """A backward pass for each sample."""
    norms = []
    for i, target in enumerate(targets):
        one = {k: v[i : i + 1] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs
        logits = model(**one) if isinstance(inputs, dict) else model(*(v[i : i + 1] for v in inputs))
        weights = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(logits, target[None]), weights)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    return torch.stack(norms)


@pytest.fixture
def two() -> nn.Module:
    torch.manual_seed(0)
    return Two().eval()


@pytest.mark.parametrize("room", [1, 2**28])
def test_inputs_by_place_and_by_name(two, room, monkeypatch):
    monkeypatch.setattr(sartor.per_sample, "ROOM", room)
    x, y, targets = torch.randn(5, 3), torch.randn(5, 2), torch.arange(5) % 4
    expected = literal(two, (x, y), targets)
    torch.testing.assert_close(gradient_norms(two, (x, y), targets), expected)
    torch.testing.assert_close(gradient_norms(two, {"x": x, "y": y}, targets), expected)


def test_what_does_not_train_counts_nothing_and_nothing_is_disturbed(two):
    two.left.weight.requires_grad_(False)
    x, y, targets = torch.randn(3, 3), torch.randn(3, 2), torch.tensor([0, 1, 2])
    before = {name: value.clone() for name, value in two.state_dict().items()}
    torch.testing.assert_close(gradient_norms(two, (x, y), targets), literal(two, (x, y), targets))
    assert all(p.grad is None for p in two.parameters())
    assert all(torch.equal(value, before[name]) for name, value in two.state_dict().items())
    for p in two.parameters():
        p.requires_grad_(False)
    with pytest.raises(SelectionError, match="no weight of the network trains"):
        gradient_norms(two, (x, y), targets)


def test_a_network_that_looks_at_values_is_refused_clearly():
    class Looks(nn.Linear):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    with pytest.raises(SelectionError, match=r"Looks cannot be differentiated sample by sample .*grand\(layers=last\)"):
        gradient_norms(Looks(3, 2), torch.randn(2, 3), torch.tensor([0, 1]))
