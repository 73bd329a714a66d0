"""Which channels stay, against Torch-Pruning's own choice with the same importance and normaliser."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from reference.channels import built, disturb
from sartor.prune.channels import plan

pytestmark = pytest.mark.oracles
WHY = "torch-pruning is not installed; `make oracles` does it, in an environment of its own."
IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def kept_by_torch_pruning(model, sparsity, *, together, normaliser):
    """The rows of each convolution and Linear that Torch-Pruning keeps, by parameter name."""
    torch_pruning = pytest.importorskip("torch_pruning", reason=WHY)
    small = copy.deepcopy(model)
    linear = [module for module in small.modules() if isinstance(module, nn.Linear)]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer=normaliser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            small,
            IMAGE,
            importance=importance,
            pruning_ratio=sparsity,
            global_pruning=together,
            ignored_layers=linear[-1:],
            **{option: {} for option in ("num_heads", "in_channel_groups", "out_channel_groups")},
        )
    weighted = {
        module: f"{name}.weight" for name, module in small.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    kept = {name: list(range(len(module.weight))) for module, name in weighted.items()}
    for group in pruner.step(interactive=True):
        for dependency, removed in group:
            module = dependency.target.module
            if module in weighted and "out" in dependency.handler.__name__:
                kept[weighted[module]] = [row for row in kept[weighted[module]] if row not in set(removed)]
        group.prune()
    return kept


@pytest.mark.parametrize("name", ["resnet56", "resnet18"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_kept_sets_are_those_of_torch_pruning(name, scope):
    model = disturb(built(name))
    mine = plan(model, IMAGE, 0.5, importance="group-norm", scope=scope)
    theirs = kept_by_torch_pruning(model, 0.5, together=scope == "global", normaliser="mean")
    assert len(theirs) > 20
    for weight, rows in theirs.items():
        whole = torch.arange(len(model.get_parameter(weight)))
        assert mine.kept.get(weight, {}).get(0, whole).tolist() == rows, weight


def test_raw_norms_reach_the_sparsity_that_torch_pruning_falls_short_of():
    """Its version 1.6.1 leaves a group whole if all of its channels would go, and says nothing."""
    model = built("resnet18")
    theirs = kept_by_torch_pruning(model, 0.9, together=True, normaliser=None)
    mine = plan(model, IMAGE, 0.9, importance="group-norm", scope="global", normaliser="none")
    assert len(mine.units) == 288
    assert len(theirs["stage4.0.conv2.weight"]) > 400
    assert mine.groups["stage4.0.conv2"][0] < 100
