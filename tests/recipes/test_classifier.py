"""What SWaST takes for the classifier, and what it says where there is none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.errors import PruningError
from sartor.recipes.classifier import check_classifier

POOL = Pool.from_arrays(torch.randn(6, 8), torch.arange(6) % 3)
OPTIONS = r"prune all layers alike with --variant whole, or give the pruner scopes of its own, such as --pruner"


class Net(nn.Module):
    """A body, a head, and something after it."""

    def __init__(self, head: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head, self.after = nn.Linear(8, 5), head, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.body(x).relu()))


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(3, 5))

    def forward(self, features: Tensor) -> Tensor:
        return 10 * F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T


class Early(Net):
    """The Linear that makes the logits is registered before another one."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 3))
        self.spare = nn.Linear(5, 3)


def test_a_last_linear_is_known_also_where_a_scale_follows() -> None:
    for model in (Net(nn.Linear(5, 3)), Net(nn.Linear(5, 3), nn.Softmax(dim=1))):
        model.train()
        check_classifier(model, POOL, head=None, variant="cut")
        assert model.training
        assert not any(module._forward_hooks for module in model.modules())


def test_a_network_of_one_layer_has_nothing_before_its_classifier() -> None:
    check_classifier(nn.Linear(8, 3), POOL, head=None, variant="trim")
    with pytest.raises(PruningError, match="has only one layer that can be pruned; use --variant whole or trim"):
        check_classifier(nn.Linear(8, 3), POOL, head=None, variant="cut")


def test_a_named_head_with_weights_is_known() -> None:
    block = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), Cosine4())
    for head, model in (("head", Net(block)), ("body", Net(Cosine())), ("head", Early())):
        check_classifier(model, POOL, head=head, variant="trim")


class Cosine4(Cosine):
    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(3, 4))


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (
            Net(Cosine()),
            None,
            rf"variant cut .*the last one, 'body', makes 5 numbers for 3 logits.*--head NAME, {OPTIONS}",
        ),
        (Net(Cosine()), "head", rf"head 'head' is a Cosine without a weight of a Linear or a convolution; {OPTIONS}"),
        (nn.Sequential(nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 3, 1), nn.Flatten()), None, r"\(there is none\)"),
        (
            Early(),
            None,
            r"takes the last Linear, 'spare', for the classifier, but 'head' makes the logits; say --head head",
        ),
    ],
)
def test_where_there_is_none_the_ways_out_are_named(model: nn.Module, head: str | None, message: str) -> None:
    with pytest.raises(PruningError, match=message) as refused:
        check_classifier(model, POOL, head=head, variant="cut")
    assert len(str(refused.value).splitlines()) == 1
