from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reference.networks import mobile_logits
from sartor.costs import count_flops
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.registry import MODELS

SMALL, LARGE = (3, 32, 32), (3, 224, 224)
SHAPE = {"expansions": (1, 6, 6, 6, 6, 6, 6), "counts": (1, 2, 3, 4, 3, 3, 1)}


def shape_only(spec: str, classes: int, shape: tuple[int, ...]) -> nn.Module:
    with torch.device("meta"):
        return MODELS.build(spec, classes=classes, input_shape=shape)


@pytest.mark.parametrize(
    ("spec", "classes", "shape", "parameters", "millions"),
    [
        ("mobilenetv2", 10, SMALL, 2_236_682, 87.98),
        ("mobilenetv2(stem=imagenet)", 10, SMALL, 2_236_682, 6.13),
        ("mobilenetv2", 1000, LARGE, 3_504_872, 300.8),  # 3.4 M and 300 M in table 4 of the paper
        ("mobilenetv2(width=0.5)", 1000, LARGE, 1_968_680, 97.1),  # 1.95 M and 97 M in the authors' list
        ("mobilenetv2(width=1.4)", 1000, LARGE, 6_108_776, 582.2),  # 6.9 M and 585 M in table 4
    ],
)
def test_parameters_and_multiplications(
    spec: str, classes: int, shape: tuple[int, ...], parameters: int, millions: float
) -> None:
    model = shape_only(spec, classes, shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape, device="meta"))
    assert counter.get_total_flops() / 2e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(
    ("stem", "strides"), [("cifar", (1, 1, 1, 2, 2, 1, 2, 1)), ("imagenet", (2, 1, 2, 2, 2, 1, 2, 1))]
)
def test_it_computes_what_the_literal_version_computes(stem: str, strides: tuple[int, ...]) -> None:
    model = build_model(f"mobilenetv2(stem={stem}, width=0.2)", classes=5, input_shape=(3, 33, 18), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    x = 3 * torch.randn(2, 3, 33, 18, generator=generator).double()
    torch.testing.assert_close(model.eval()(x), mobile_logits(x, model.state_dict(), strides=strides, **SHAPE))


def test_the_stem_follows_the_longest_side() -> None:
    for shape, stride in (((3, 64, 64), 1), ((1, 28, 28), 1), ((3, 20, 65), 2), (LARGE, 2)):
        assert shape_only("mobilenetv2", 10, shape).stem[0].stride == (stride, stride)


def test_the_multiplications_of_a_block_are_those_by_hand() -> None:
    model = MODELS.build("mobilenetv2", classes=3, input_shape=(3, 8, 8))
    counted = count_flops(model, torch.zeros(1, 3, 8, 8))
    assert counted.by_weight["stage3.0.expand.0.weight"] == 2 * 24 * 144 * 8 * 8
    assert counted.by_weight["stage3.0.depthwise.0.weight"] == 2 * 144 * 9 * 4 * 4
    assert counted.by_weight["stage3.0.project.0.weight"] == 2 * 144 * 32 * 4 * 4
    assert counted.forward == sum(counted.by_weight.values())


def test_what_a_convolution_is_drawn_for_keeps_the_size_of_its_input() -> None:
    """A channel by itself reads 9 numbers, whatever the number of channels."""
    model = build_model("mobilenetv2", classes=10, input_shape=SMALL, seed=0)
    assert model.stage6[1].depthwise[0].weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)
    assert model.stage6[1].expand[0].weight.std().item() == pytest.approx((2 / 160) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("mobilenetv2(width=0)", SMALL, "the width of mobilenetv2 is 0; it must be above 0"),
        ("mobilenetv2(stem=imagnet)", SMALL, "Did you mean 'imagenet'"),
        ("mobilenetv2(dropout=-1)", SMALL, "dropout of mobilenetv2 is -1"),
        ("mobilenetv2", (32, 32), "mobilenetv2 is asked to take .* it takes images"),
        ("mobilenetv2", {"pixels": SMALL}, "mobilenetv2 takes one tensor"),
    ],
)
def test_what_it_refuses(spec: str, shape: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
