from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.errors import ConfigError
from sartor.registry import MODELS


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        ("fc", (1, 28, 28), 203_530),
        ("fc(hidden=10)", (64,), 760),
        ("lenet", (1, 28, 28), 44_426),
        ("lenet", (3, 32, 32), 62_006),
        ("lenet(width=2)", (1, 28, 28), 175_242),
        ("cnn", (1, 8, 8), 15_418),
        ("cnn(width=8)", (1, 8, 8), 4_258),
        ("cnn", (1, 28, 28), 15_418),
    ],
)
def test_parameter_counts(spec: str, shape: tuple[int, ...], expected: int) -> None:
    assert parameters(MODELS.build(spec, classes=10, input_shape=shape)) == expected


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("fc", (7,)),
        ("fc", (3, 5, 4)),
        ("lenet", (1, 16, 16)),
        ("lenet", (3, 17, 30)),
        ("cnn", (1, 8, 8)),
        ("cnn", (3, 11, 9)),
        ("cnn", (2, 32, 20)),
    ],
)
def test_logits_come_from_a_linear_classifier(spec: str, shape: tuple[int, ...]) -> None:
    model = MODELS.build(spec, classes=3, input_shape=shape)
    assert isinstance(model.classifier, nn.Linear)
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 3)
    assert logits is seen[0]
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "classes", "shape", "message"),
    [
        ("lenet", 10, (1, 8, 8), "8 x 8; it needs 16 x 16"),
        ("lenet", 10, (1, 28, 15), "28 x 15; it needs 16 x 16"),
        ("lenet(width=0)", 10, (1, 28, 28), "width"),
        ("cnn", 10, (1, 7, 9), "7 x 9; it needs 8 x 8"),
        ("cnn", 10, (64,), r"samples of shape \(64,\); it takes images"),
        ("cnn(width=0)", 10, (1, 8, 8), "width of cnn is 0"),
        ("fc(hidden=0)", 10, (64,), "width of fc is 0"),
        ("fc", 0, (64,), "asked for 0 classes"),
        ("cnn", 0, (1, 8, 8), "asked for 0 classes"),
        ("cnn(widht=8)", 10, (1, 8, 8), "Did you mean 'width'"),
    ],
)
def test_what_they_refuse(spec: str, classes: int, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=classes, input_shape=shape)


@pytest.mark.parametrize(("spec", "shape"), [("lenet", (1, 28, 28)), ("cnn", (1, 8, 8)), ("cnn", (3, 32, 32))])
def test_pooling_before_relu_changes_no_bit(spec: str, shape: tuple[int, ...]) -> None:
    """Beside the usual order: logits and gradients, also where all of a window is below 0 or the same."""
    model = MODELS.build(spec, classes=10, input_shape=shape)
    layers = dict(model.named_children())
    names = list(layers)
    for pool, relu in (("pool1", "relu1"), ("pool2", "relu2")):
        i, j = names.index(pool), names.index(relu)
        assert i + 1 == j
        names[i], names[j] = relu, pool
    usual = nn.Sequential(*(layers[name] for name in names)).train()
    inputs = torch.randn(16, *shape).clamp(min=0)
    found = []
    for network in (model.train(), usual):
        model.zero_grad()
        logits = network(inputs)
        nn.functional.cross_entropy(logits, torch.arange(16) % 10).backward()
        found.append([logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
