from __future__ import annotations

import pytest
import torch
from torch import nn

from reference.networks import wide_logits
from sartor.costs import count_flops
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.registry import MODELS

SMALL = (3, 32, 32)


@pytest.mark.parametrize(
    ("spec", "classes", "expected"),
    [
        ("wrn-28-10", 10, 36_479_194),  # 36.5 M in table 4 of the paper
        ("wrn-28-10", 100, 36_536_884),
        ("wrn-16-4", 10, 2_748_890),
        ("wrn-16-4(width=8)", 10, 10_961_370),  # WRN-16-8, 11.0 M
        ("wrn-28-10(depth=40, width=4)", 10, 8_949_210),  # WRN-40-4, 8.9 M
    ],
)
def test_parameter_counts(spec: str, classes: int, expected: int) -> None:
    with torch.device("meta"):
        model = MODELS.build(spec, classes=classes, input_shape=SMALL)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_it_computes_what_the_literal_version_computes() -> None:
    model = build_model("wrn-28-10(depth=16, width=1)", classes=5, input_shape=(2, 13, 10), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    x = torch.randn(3, 2, 13, 10, generator=generator).double()
    torch.testing.assert_close(model.eval()(x), wide_logits(x, model.state_dict(), blocks=2))


def test_the_multiplications_of_a_block_are_those_by_hand() -> None:
    model = MODELS.build("wrn-16-4(depth=10, width=2)", classes=3, input_shape=(3, 8, 8))
    counted = count_flops(model, torch.zeros(1, 3, 8, 8))
    assert counted.by_weight["stage2.0.conv1.weight"] == 2 * 32 * 64 * 9 * 4 * 4
    assert counted.by_weight["stage2.0.conv2.weight"] == 2 * 64 * 64 * 9 * 4 * 4
    assert counted.by_weight["stage2.0.shortcut.weight"] == 2 * 32 * 64 * 4 * 4
    assert counted.forward == sum(counted.by_weight.values())


def test_convolutions_are_drawn_for_what_they_feed() -> None:
    model = build_model("wrn-16-4", classes=10, input_shape=SMALL, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("wrn-28-10(depth=20)", SMALL, r"the depth of wrn-28-10 is 20; it must be 6n \+ 4: 10, 16, 22"),
        ("wrn-16-4(depth=4)", SMALL, "the depth of wrn-16-4 is 4"),
        ("wrn-16-4(width=0)", SMALL, "width of wrn-16-4 is 0"),
        ("wrn-16-4(dropout=1)", SMALL, "dropout of wrn-16-4 is 1"),
        ("wrn-16-4", (12,), "wrn-16-4 is asked to take .* it takes images"),
        ("wrn-16-4", ((3, 8, 8), (2,)), "wrn-16-4 takes one tensor"),
    ],
)
def test_what_it_refuses(spec: str, shape: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
