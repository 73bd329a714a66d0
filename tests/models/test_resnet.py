from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reference import resnet as reference
from sartor.costs import count_flops
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.registry import MODELS

SMALL, TINY, LARGE = (3, 32, 32), (3, 64, 64), (3, 224, 224)


def shape_only(spec: str, classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A network without numbers: quick to make, whatever its size."""
    with torch.device("meta"):
        return MODELS.build(spec, classes=classes, input_shape=shape)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "classes", "shape", "expected"),
    [
        ("resnet18", 10, SMALL, 11_173_962),
        ("resnet18", 100, SMALL, 11_173_962 + 90 * 513),
        ("resnet18", 1000, LARGE, 11_689_512),
        ("resnet18(stem=imagenet)", 10, SMALL, 11_689_512 - 990 * 513),
        ("resnet34", 10, SMALL, 21_282_122),
        ("resnet34", 1000, LARGE, 21_797_672),
        ("resnet50", 10, SMALL, 23_520_842),
        ("resnet50(stem=imagenet)", 200, TINY, 23_917_832),
        ("resnet50(stem=cifar)", 200, TINY, 23_917_832 - 64 * 3 * (49 - 9)),
        ("resnet50", 1000, LARGE, 25_557_032),
        ("resnet101", 10, SMALL, 42_512_970),
        ("resnet101", 1000, LARGE, 44_549_160),
        ("resnet164(preactivation=True)", 10, SMALL, 1_703_258),
    ],
)
def test_parameter_counts(spec: str, classes: int, shape: tuple[int, ...], expected: int) -> None:
    assert parameters(shape_only(spec, classes, shape)) == expected


@pytest.mark.parametrize(
    ("spec", "classes", "shape", "millions"),
    [
        ("resnet18", 10, SMALL, 555.4),
        ("resnet101", 10, SMALL, 2510),
        ("resnet50(stem=imagenet)", 200, TINY, 334),
        ("resnet50", 200, TINY, 5192),
        ("resnet50", 200, LARGE, 4089),
    ],
)
def test_multiplications(spec: str, classes: int, shape: tuple[int, ...], millions: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape_only(spec, classes, shape).eval()(torch.zeros(1, *shape, device="meta"))
    assert counter.get_total_flops() / 2e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "kernel"), [((3, 64, 64), 3), ((1, 28, 28), 3), ((3, 65, 20), 7), ((3, 20, 65), 7), ((3, 224, 224), 7)]
)
def test_the_stem_follows_the_longest_side(shape: tuple[int, ...], kernel: int) -> None:
    model = shape_only("resnet18", 10, shape)
    assert model.conv1.kernel_size == (kernel, kernel)
    assert isinstance(model.reduce, nn.MaxPool2d if kernel == 7 else nn.Identity)


@pytest.mark.parametrize(
    ("spec", "blocks", "large_stem", "block"),
    [
        ("resnet18(width=3, stem=cifar)", (2, 2, 2, 2), False, reference.basic),
        ("resnet34(width=2, stem=imagenet)", (3, 4, 6, 3), True, reference.basic),
        ("resnet50(width=2, stem=cifar)", (3, 4, 6, 3), False, reference.bottleneck),
        ("resnet101(width=2, stem=imagenet)", (3, 4, 23, 3), True, reference.bottleneck),
        ("resnet14(width=3)", (2, 2, 2), False, reference.basic),
        ("resnet164(width=2)", (18, 18, 18), False, reference.bottleneck),
        ("resnet164(width=2, preactivation=True)", (18, 18, 18), False, reference.preactivation),
    ],
)
def test_they_compute_what_the_literal_versions_compute(spec, blocks, large_stem, block) -> None:
    model = build_model(spec, classes=5, input_shape=(3, 21, 18), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    x = torch.randn(2, 3, 21, 18, generator=generator).double()
    expected = reference.logits(x, model.state_dict(), blocks, large_stem=large_stem, block=block)
    torch.testing.assert_close(model.eval()(x), expected)


@pytest.mark.parametrize("spec", ["resnet18(width=4)", "resnet50(width=2)", "resnet164(width=2, preactivation=True)"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 9, 7), (1, 1, 1)])
def test_any_image_size(spec: str, shape: tuple[int, ...]) -> None:
    model = MODELS.build(spec, classes=5, input_shape=shape)
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    assert logits is seen[0]
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    counted = count_flops(model, torch.zeros(1, *shape))
    assert counted.forward == sum(counted.by_weight.values())


def test_the_classifier_comes_last_and_stages_have_names_for_scopes() -> None:
    for spec in ("resnet18(width=2)", "resnet164(width=2, preactivation=True)"):
        names = [name for name, _ in MODELS.build(spec, classes=3, input_shape=SMALL).named_parameters()]
        assert names[-2:] == ["classifier.weight", "classifier.bias"]
        assert {name.partition(".")[0] for name in names} - {"conv1", "bn1", "classifier"} <= {
            f"stage{i}" for i in range(1, 5)
        }


def test_padding_and_preactivation_go_together() -> None:
    model = MODELS.build("resnet164(width=2, shortcut=padding, preactivation=True)", classes=5, input_shape=(1, 8, 8))
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("resnet18(stem=imagnet)", SMALL, "Did you mean 'imagenet'"),
        ("resnet18(width=0)", SMALL, "width of resnet18 is 0"),
        ("resnet50", (32, 32), "it takes images"),
        ("resnet50", {"pixels": (3, 8, 8), "size": (2,)}, r"takes one tensor, but a sample is \{'pixels'"),
        ("fc", ((3,), (2,)), r"fc takes one tensor, but a sample is \(\(3,\), \(2,\)\)"),
        ("resnet56(preactivation=True)", SMALL, "has no option 'preactivation'"),
        ("resnet19", SMALL, "no model called 'resnet19'"),
    ],
)
def test_what_they_refuse(spec: str, shape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
