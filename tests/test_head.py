"""The tap finds the head, whatever way it is called, and goes without a trace."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sartor.errors import ConfigError, SelectionError
from sartor.head import HeadTap, needs_linear_head, no_linear_head
from sartor.registry import SELECTORS


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


class Cosine(nn.Module):
    """A head that is no Linear: cosines with a learnt direction for each class."""

    def __init__(self, features: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 10 * F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T


class Encoded(nn.Module):
    def __init__(self, head: nn.Module):
        super().__init__()
        self.body, self.head = nn.Linear(2, 4), head

    def forward(self, x):
        return self.head(features=self.body(x)) if isinstance(self.head, Cosine) else self.head(self.body(x))


def test_a_named_head_may_be_of_any_kind_and_has_no_bias_then():
    model, x = Encoded(Cosine()), torch.randn(5, 2)
    tap = HeadTap(model, "head")
    torch.testing.assert_close(tap.take(model(x)), model.body(x))
    assert tap.bias is None
    tap.remove()
    assert not model.head._forward_hooks


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_of_a_linear_is_told(bias):
    model, x = Encoded(nn.Linear(4, 3, bias=bias)), torch.randn(5, 2)
    for name in (None, "head"):
        tap = HeadTap(model, name)
        tap.take(model(x))
        assert tap.bias is bias


class CosineLinear(nn.Linear):
    """A Linear by inheritance alone: its gradient is not that of W x + b."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


@pytest.mark.parametrize("name", [None, "head"])
def test_a_linear_with_a_forward_of_its_own_is_no_linear_head(name):
    model, x = Encoded(CosineLinear(4, 3)), torch.randn(5, 2)
    tap = HeadTap(model, name)
    torch.testing.assert_close(tap.take(model(x)), model.body(x))
    assert tap.bias is None


def test_a_parametrized_linear_is_a_linear_head():
    model, x = Encoded(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))), torch.randn(5, 2)
    tap = HeadTap(model, None)
    tap.take(model(x))
    assert tap.bias is True


def test_what_cannot_be_a_head_is_refused():
    model, x = Encoded(Cosine()), torch.randn(5, 2)
    with pytest.raises(ConfigError, match=r"head is 'haed'; it must name a module.*Did you mean 'head'"):
        HeadTap(model, "haed")
    with pytest.raises(SelectionError, match="one of: body; or the module that takes the features in; or choose a sel"):
        HeadTap(model, None).take(model(x))
    with pytest.raises(SelectionError, match=r"head 'body' returns \(5, 4\) but the logits are \(5, 3\)"):
        tap = HeadTap(model, "body")
        tap.take(model(x))
    images = Encoded(nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 3, 1), nn.Flatten()))
    tap = HeadTap(images, "head.1")
    with pytest.raises(SelectionError, match=r"head 'head.1' takes \(5, 4, 1, 1\); name a module that takes \(batch, "):
        tap.take(images(x))
    whole = HeadTap(images, "head")
    torch.testing.assert_close(whole.take(images(x)), images.body(x))


def test_selectors_that_need_a_linear_are_told_from_the_others():
    assert needs_linear_head(SELECTORS.build("gradmatch"))
    assert not needs_linear_head(SELECTORS.build("moderate"))
    named = re.search(r"any head: (.*)\.$", str(no_linear_head()))[1].split(", ")
    assert {"el2n", "moderate", "random"} <= set(named)
    assert "gradmatch" not in named
