from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.errors import ConfigError, PruningError
from sartor.prune.scope import classifier_name, normalised, prunable, resolve


class Net(nn.Module):
    """Every kind of layer that must or must not be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.norm1 = nn.BatchNorm2d(4)
        self.layer = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.norm2 = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 5)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(5, 3)


def names(model: nn.Module, sparsity: float | dict[str, float]) -> list[tuple[str, list[str], float]]:
    return [(scope.name, list(scope.weights), scope.sparsity) for scope in resolve(model, sparsity)]


def test_only_weights_of_convolutions_and_linear_modules() -> None:
    """Norms (LayerNorm and GroupNorm too), embeddings and biases were masked by a peer."""
    found = prunable(Net())
    assert list(found) == ["conv1.weight", "layer.0.weight", "layer.3.weight", "hidden.weight", "fc.weight"]
    model = nn.Linear(3, 2)
    assert prunable(model)["weight"] is model.weight


def test_shared_weights_appear_once_and_tied_embeddings_never() -> None:
    shared = nn.Linear(4, 4)
    assert list(prunable(nn.Sequential(shared, nn.ReLU(), shared))) == ["0.weight"]
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert list(prunable(tied)) == ["0.weight"]
    language = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9))
    language[2].weight = language[0].weight
    assert list(prunable(language)) == ["1.weight"]


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(PruningError, match=r"'0\.weight' has no shape yet; run one batch"):
        prunable(nn.Sequential(nn.LazyLinear(3)))


def test_classifier_is_the_last_linear() -> None:
    assert classifier_name(Net()) == "fc"
    assert classifier_name(nn.Linear(2, 2)) == ""
    with pytest.raises(PruningError, match="no Linear"):
        classifier_name(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_scopes() -> None:
    model = Net()
    backbone = ["conv1.weight", "layer.0.weight", "layer.3.weight", "hidden.weight"]
    assert names(model, 0.5) == [("all", [*backbone, "fc.weight"], 0.5)]
    assert names(model, {"classifier": 0.9}) == [("classifier", ["fc.weight"], 0.9)]
    assert names(model, {"backbone": 0.7, "classifier": 0.9}) == [
        ("backbone", backbone, 0.7),
        ("classifier", ["fc.weight"], 0.9),
    ]
    assert names(model, {"Conv2d": 0.5}) == [("Conv2d", backbone[:3], 0.5)]
    assert names(model, {"fc": 0.9, "Linear": 0.1})[1] == ("Linear", ["hidden.weight"], 0.1)


@pytest.mark.parametrize("pattern", ["layer", "layer.*", "layer.?.weight", "lay*"])
def test_patterns_match_parameters_modules_and_enclosing_modules(pattern: str) -> None:
    assert names(Net(), {pattern: 0.5}) == [(pattern, ["layer.0.weight", "layer.3.weight"], 0.5)]


def test_a_weight_belongs_to_the_first_key_that_matches() -> None:
    found = names(Net(), {"conv1": 0, "all": 0.9})
    assert found[0] == ("conv1", ["conv1.weight"], 0)
    assert "conv1.weight" not in found[1][1]


def test_subclasses_count_as_their_base_type() -> None:
    class Standardised(nn.Conv2d):
        pass

    assert names(nn.Sequential(Standardised(1, 2, 1)), {"Conv2d": 0.5}) == [("Conv2d", ["0.weight"], 0.5)]


def test_resolved_weights_are_the_models_own() -> None:
    model = Net()
    assert resolve(model, 0.5)[0].weights["conv1.weight"] is model.conv1.weight


def test_errors_name_what_is_allowed() -> None:
    with pytest.raises(
        PruningError, match=r"'backbon' matches no weight; allowed: all, .*conv1.*Did you mean 'backbone'"
    ):
        resolve(Net(), {"backbon": 0.5})
    with pytest.raises(PruningError, match="earlier keys took all"):
        resolve(Net(), {"all": 0.5, "classifier": 0.9})
    with pytest.raises(PruningError, match="no weights to prune"):
        resolve(nn.BatchNorm1d(3), 0.5)
    with pytest.raises(PruningError, match="no Linear module"):
        resolve(nn.Sequential(nn.Conv2d(1, 1, 1)), {"backbone": 0.5})
    with pytest.raises(ConfigError, match="sparsity of 'all' is 1; it must lie in"):
        resolve(Net(), {"all": 1.0})
    with pytest.raises(ConfigError, match=r"Did you mean 0\.9"):
        resolve(Net(), 90)
    with pytest.raises(ConfigError, match="empty mapping"):
        resolve(Net(), {})
    with pytest.raises(ConfigError, match=r"'0\.9'; it must be a number"):
        resolve(Net(), {"all": "0.9"})  # type: ignore[dict-item]


def test_normalised_weights_are_those_before_a_norm() -> None:
    assert normalised(Net()) == {"conv1.weight", "layer.0.weight", "layer.3.weight"}
    bare = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    assert normalised(bare) == {"0.weight"}, "a norm without parameters normalises too"


def test_a_frozen_model_is_pruned_all_the_same() -> None:
    model = Net().requires_grad_(False)
    assert len(prunable(model)) == 5
    assert isinstance(prunable(model)["fc.weight"], torch.Tensor)
