from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sartor.errors import ConfigError
from sartor.models.resnet_cifar import PaddingShortcut
from sartor.registry import MODELS


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "padding", "projection"),
    [
        (8, 75_290, 78_042),
        (14, 172_506, 175_258),
        (20, 269_722, 272_474),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
    ],
)
def test_parameter_counts_of_basic_blocks(depth: int, padding: int, projection: int) -> None:
    for options, expected in (("(shortcut=padding)", padding), ("(shortcut=projection)", projection), ("", projection)):
        model = MODELS.build(f"resnet{depth}{options}", classes=10, input_shape=(3, 32, 32))
        assert parameters(model) == expected
        assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == depth - 1


def test_parameter_counts_of_bottlenecks() -> None:
    assert parameters(MODELS.build("resnet164", classes=10, input_shape=(3, 32, 32))) == 1_704_154
    assert parameters(MODELS.build("resnet164", classes=100, input_shape=(3, 32, 32))) == 1_727_284


@pytest.mark.parametrize(("depth", "expected"), [(8, 12.5), (14, 26.7), (20, 40.8)])
def test_multiplications(depth: int, expected: float) -> None:
    model = MODELS.build(f"resnet{depth}", classes=10, input_shape=(3, 32, 32)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert round(counter.get_total_flops() / 2e6, 1) == expected


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 9, 7), (1, 1, 1)])
def test_any_image_size(shape: tuple[int, ...], shortcut: str) -> None:
    model = MODELS.build(f"resnet8(width=4, shortcut={shortcut})", classes=5, input_shape=shape)
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    assert logits is seen[0]
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_bottlenecks_run(shortcut: str) -> None:
    model = MODELS.build(f"resnet164(width=2, shortcut={shortcut})", classes=5, input_shape=(1, 8, 8))
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_the_padding_shortcut_by_hand() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    made = PaddingShortcut(1, 4, 2)(x)
    assert made.shape == (1, 4, 2, 2)
    assert made[0, 1].tolist() == [[0.0, 2.0], [6.0, 8.0]]
    assert float(made[0, [0, 2, 3]].abs().sum()) == 0


def test_convolutions_start_as_he_et_al_propose() -> None:
    torch.manual_seed(0)
    weight = MODELS.build("resnet8(width=64)", classes=10, input_shape=(3, 8, 8)).stage3[0].conv2.weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("resnet20(shortcut=projections)", (3, 32, 32), "Did you mean 'projection'"),
        ("resnet20(width=0)", (3, 32, 32), "width of resnet20 is 0"),
        ("resnet20", (32, 32), "it takes images"),
        ("resnet21", (3, 32, 32), "no model called 'resnet21'"),
    ],
)
def test_what_they_refuse(spec: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
