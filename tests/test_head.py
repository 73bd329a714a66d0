"""The tap finds the head, whatever way it is called, and goes without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.errors import SelectionError
from sartor.head import HeadTap


class Keyworded(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.fc, self.spare = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(input=self.tokens(x).mean(dim=1))


def test_it_catches_the_input_however_it_is_passed_and_keeps_nothing_else():
    model, x = Keyworded(), torch.randn(3, 5, 4)
    tap = HeadTap(model, None)
    logits = model(x)
    assert list(tap.calls) == ["fc"], "outputs of tokens are no tables, and are not held"
    torch.testing.assert_close(tap.take(logits), model.tokens(x).mean(dim=1))
    assert tap.name == "fc"
    assert not model.tokens._forward_hooks
    torch.testing.assert_close(tap.take(model(x + 1)), model.tokens(x + 1).mean(dim=1))
    tap.remove()
    assert not any(module._forward_hooks for module in model.modules())
    assert not tap.calls


def test_a_named_head_that_does_not_run_is_refused():
    model = Keyworded()
    tap = HeadTap(model, "spare")
    with pytest.raises(SelectionError, match=r"head 'spare' did not run but the logits are \(3, 2\)"):
        tap.take(model(torch.randn(3, 5, 4)))
    tap.remove()


def test_a_model_without_a_linear_has_no_head():
    model = nn.Flatten()
    with pytest.raises(SelectionError, match="with head=NAME, one of: none"):
        HeadTap(model, None).take(model(torch.randn(3, 2)))
