from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reference.channels import built, disturb, outputs, relative
from sartor.errors import PruningError
from sartor.prune.channels import compact
from sartor.prune.magnitude import Magnitude
from sartor.prune.masks import Masks

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
VIT = "vit-s(depth=2, width=48, heads=4)"


def whole(model: nn.Module) -> dict[str, Tensor]:
    """Masks that take nothing."""
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if p.ndim > 1}


def applied(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).masked_fill_(~mask, 0)
    return model


def check_same(model: nn.Module, small: nn.Module, inputs: Tensor) -> None:
    model, small, inputs = copy.deepcopy(model).double(), copy.deepcopy(small).double(), inputs.double()
    assert relative(outputs(small, inputs), outputs(model, inputs)) <= 1e-9


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_channels_that_nothing_reads_leave_whatever_norm_makes_of_them() -> None:
    model = disturb(built("resnet8"))
    masks = whole(model)
    masks["stage1.0.conv2.weight"][:, 5:9] = False
    masks["stage2.0.conv2.weight"][:, ::2] = False
    before = copy.deepcopy(applied(model, masks).state_dict())
    small, plan = compact(model, masks, IMAGE)
    assert plan.groups["stage1.0.conv1"] == (12, 16)
    assert plan.groups["stage2.0.conv1"] == (16, 32)
    assert plan.groups["conv1"] == (16, 16)
    check_same(model, small, IMAGE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, mask in masks.items():
        assert plan.cut(name, mask).shape == small.get_parameter(name).shape
        assert bool(plan.cut(name, mask).all()), "all that was masked is gone"


def test_a_norm_or_a_bias_keeps_a_dead_channel_alive_and_silence_does_not() -> None:
    model = disturb(built("resnet8"))
    masks = whole(model)
    masks["stage1.0.conv1.weight"][3:6] = False
    applied(model, masks)
    norm = model.get_submodule("stage1.0.bn1")
    with torch.no_grad():  # after the norm and the ReLU: 3 says something, 4 nothing, 5 less than nothing
        norm.running_mean[3:6] = 0  # type: ignore[index, operator]
        norm.bias[3:6] = torch.tensor([0.5, 0.0, -0.5])  # type: ignore[index, operator]
    small, plan = compact(model, masks, IMAGE)
    assert plan.kept["stage1.0.conv1.weight"][0].tolist() == [0, 1, 2, 3, *range(6, 16)]
    check_same(model, small, IMAGE)
    layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    masks = {"0.weight": torch.ones(6, 4, dtype=torch.bool)}
    masks["0.weight"][:4] = False
    with torch.no_grad():
        layers[0].bias[:2] = 0
    small, plan = compact(applied(layers, masks), masks, torch.randn(3, 4))
    assert plan.kept["0.weight"][0].tolist() == [2, 3, 4, 5]
    check_same(layers, small, torch.randn(3, 4))


def test_a_living_channel_that_the_example_leaves_silent_stays() -> None:
    layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 0.0], [0.0, 0.0]]))
        layers[0].bias.zero_()
    masks = {"0.weight": torch.tensor([[True, True], [True, True], [False, False]])}
    small, plan = compact(layers, masks, torch.ones(1, 2))
    assert plan.units.tolist() == [0, 1]
    check_same(layers, small, -torch.ones(1, 2))


def test_a_channel_of_a_residual_stage_leaves_when_all_its_makers_or_all_its_readers_are_masked() -> None:
    model = built("resnet8")
    with torch.no_grad():
        for name in ("bn1", "stage1.0.bn2"):
            model.get_parameter(f"{name}.bias").zero_()
    masks = whole(model)
    masks["conv1.weight"][[2, 4]] = False
    masks["stage1.0.conv2.weight"][[2, 6]] = False
    for reader in ("stage1.0.conv1", "stage2.0.conv1", "stage2.0.shortcut.0"):
        masks[f"{reader}.weight"][:, [4, 7]] = False
    missing = [name for name in masks if name not in dict(model.named_parameters())]
    assert not missing
    small, plan = compact(applied(model, masks), masks, IMAGE)
    gone = set(range(16)) - set(plan.kept["conv1.weight"][0].tolist())
    assert gone == {2, 4, 7}, "6 has another maker and its readers"
    check_same(model, small, IMAGE)


def test_heads_leave_whole_and_the_network_counts_them() -> None:
    model = disturb(built(VIT))
    masks = whole(model)
    masks["blocks.0.attention.proj.weight"][:, 12:24] = False
    masks["blocks.1.mlp.2.weight"][:, 10:] = False
    small, plan = compact(applied(model, masks), masks, IMAGE)
    assert plan.attributes["blocks.0.attention"]["num_heads"] == 3
    assert small.get_submodule("blocks.0.attention").num_heads == 3
    assert small.get_submodule("blocks.1.attention").num_heads == 4
    assert plan.groups["blocks.1.mlp.0"] == (10, 192)
    check_same(model, small, IMAGE)


def test_what_fed_only_the_dead_dies_with_it() -> None:
    layers = nn.Sequential(
        nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    masks = whole(layers)
    masks["4.weight"][:] = False
    masks["4.weight"][:, 0] = True
    masks["2.weight"][0, 3:] = False
    small, plan = compact(applied(layers, masks), masks, torch.randn(2, 3))
    assert plan.groups == {"0": (3, 6), "2": (1, 5), "4": (4, 4)}
    assert len(plan.about) == 2, "the second round finds what the first has left"
    check_same(layers, small, torch.randn(5, 3))


@given(st.integers(0, 10_000), st.floats(0.5, 0.98))
@settings(max_examples=30)
def test_chains_lose_what_a_literal_search_finds(seed: int, sparsity: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    widths = (3, 6, 7, 5, 2)
    layers = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))).double()
    masks = {f"{n}.weight": torch.rand(b, a, generator=draws) > sparsity for n, (a, b) in enumerate(pairwise(widths))}
    with torch.no_grad():
        for n in range(4):
            layers[n].weight.copy_(torch.randn(widths[n + 1], widths[n], generator=draws).abs() + 0.1)
    applied(layers, masks)
    example = torch.rand(2, 3, generator=draws, dtype=torch.float64) + 0.1
    reached, needed = [{*range(3)}], [{*range(2)}]
    for n in range(3):
        reached.append({o for o in range(widths[n + 1]) if any(masks[f"{n}.weight"][o, i] for i in reached[-1])})
        weight = masks[f"{3 - n}.weight"]
        needed.insert(0, {i for i in range(widths[3 - n]) if any(weight[o, i] for o in needed[0])})
    wanted = [max(1, len(made & read)) for made, read in zip(reached[1:], needed[:3], strict=True)]
    small, plan = compact(layers, masks, example)
    assert [kept for kept, _ in plan.groups.values()] == wanted
    torch.testing.assert_close(outputs(small, example), outputs(layers, example), rtol=1e-9, atol=1e-12)


def test_unstructured_masks_cut_nothing_and_change_nothing() -> None:
    model = disturb(built("resnet8"))
    masks = Magnitude(sparsity=0.5).init(model, generator=torch.Generator().manual_seed(0))
    assert isinstance(masks, Masks)
    small, plan = compact(model, masks, IMAGE)
    assert plan.sparsity == 0
    assert plan.about == ()
    assert size(small) == size(model)
    assert torch.equal(outputs(small, IMAGE), outputs(model, IMAGE))
    assert small is not model


def test_a_layer_that_is_masked_whole_keeps_a_channel_of_each_group() -> None:
    model = disturb(built("resnet8"))
    masks = whole(model)
    masks["stage3.0.conv2.weight"][:] = False
    small, plan = compact(applied(model, masks), masks, IMAGE)
    assert plan.groups["stage3.0.conv1"] == (1, 64)
    check_same(model, small, IMAGE)


def test_modules_that_are_named_keep_what_they_make() -> None:
    model = disturb(built("resnet8"))
    masks = whole(model)
    masks["stage1.0.conv2.weight"][:, 5:9] = False
    _, plan = compact(applied(model, masks), masks, IMAGE, keep=["stage1"])
    assert plan.sparsity == 0


def test_masks_that_do_not_fit_are_refused_in_words() -> None:
    model = built("resnet8")
    full = torch.ones(16, 3, 3, 3, dtype=torch.bool)
    for masks, words in (
        (
            {"conv.weight": full},
            "there is a mask for 'conv.weight', which is no parameter. Did you mean 'conv1.weight'",
        ),
        (
            {"conv1.weight": full[:5]},
            r"is torch.bool of shape \(5, 3, 3, 3\); it must be torch.bool of shape \(16, 3, 3, 3\)",
        ),
        ({"conv1.weight": full.float()}, r"is torch.float32 of shape .* it must be torch.bool"),
        ({"conv1.weight": ~full}, "weights of 'conv1.weight' that are masked are not zero; call masks.apply"),
    ):
        with pytest.raises(PruningError, match=words):
            compact(model, masks, IMAGE)
    with pytest.raises(PruningError, match="does not take the example of shape"):
        compact(model, {}, torch.zeros(1, 1, 8, 8))
