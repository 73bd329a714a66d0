"""Small networks: a fully connected one, LeNet-5, and a three-layer convolutional one with batch norm."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from sartor.models.shapes import check_classes, check_dropout, check_single, check_width, image_shape
from sartor.registry import MODELS


def before_classifier(name: str, dropout: float) -> list[tuple[str, nn.Module]]:
    """Return the dropout of a network's features, no layer for a rate of 0. Raises: ConfigError: for other rates."""
    check_dropout(name, dropout)
    return [("dropout", nn.Dropout(dropout))] if dropout else []


@MODELS.register("fc")
def fc(classes: int, input_shape: tuple[int, ...], *, hidden: int = 256, dropout: float = 0.0) -> nn.Sequential:
    """One hidden layer of ReLUs over the flattened input (203,530 parameters for 28 x 28 and 10 classes).

    `dropout` is the rate of dropout before the classifier.
    Raises: ConfigError: for no class, a width below 1, a rate out of [0, 1), or samples that are no single tensor.
    """
    input_shape = check_single("fc", input_shape)
    check_classes("fc", classes)
    check_width("fc", hidden)
    layers = [
        ("flatten", nn.Flatten()),
        ("hidden", nn.Linear(math.prod(input_shape), hidden)),
        ("relu", nn.ReLU()),
        *before_classifier("fc", dropout),
        ("classifier", nn.Linear(hidden, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))


@MODELS.register("lenet")
def lenet(classes: int, input_shape: tuple[int, ...], *, width: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling, no padding (44,426 parameters for 1 x 28 x 28 and 10 classes).

    `width`: every layer but the classifier has so many times the units of the original.
    Source: LeCun et al. 1998, section II.B. Differs: ReLU, max-pooling, full connections and a linear classifier, as is
    usual today. Raises: ConfigError: for images below 16 x 16, of which nothing would be left, or a width below 1.
    """
    channels, rows, columns = image_shape("lenet", classes, input_shape, least=16)
    check_width("lenet", width)
    left = (((rows - 4) // 2 - 4) // 2) * (((columns - 4) // 2 - 4) // 2)
    layers = [
        ("conv1", nn.Conv2d(channels, 6 * width, 5)),
        ("pool1", nn.MaxPool2d(2)),  # pooled first: the same values and gradients, of a quarter of the units
        ("relu1", nn.ReLU()),
        ("conv2", nn.Conv2d(6 * width, 16 * width, 5)),
        ("pool2", nn.MaxPool2d(2)),
        ("relu2", nn.ReLU()),
        ("flatten", nn.Flatten()),
        ("hidden1", nn.Linear(16 * width * left, 120 * width)),
        ("relu3", nn.ReLU()),
        ("hidden2", nn.Linear(120 * width, 84 * width)),
        ("relu4", nn.ReLU()),
        *before_classifier("lenet", dropout),
        ("classifier", nn.Linear(84 * width, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))


@MODELS.register("cnn")
def cnn(classes: int, input_shape: tuple[int, ...], *, width: int = 16, dropout: float = 0.0) -> nn.Sequential:
    """Three 3 x 3 convolutions (w, 2w, 2w channels) with batch norm and ReLU, then a classifier of 2 x 2 places.

    15,418 parameters for width 16, 1 x 8 x 8 and 10 classes. Larger images are averaged to 2 x 2 before the classifier.
    Raises: ConfigError: for images below 8 x 8 or a width below 1.
    """
    channels, rows, columns = image_shape("cnn", classes, input_shape, least=8)
    check_width("cnn", width)
    sizes = [channels, width, 2 * width, 2 * width]
    layers: list[tuple[str, nn.Module]] = []
    for i in (1, 2, 3):
        layers += [
            (f"conv{i}", nn.Conv2d(sizes[i - 1], sizes[i], 3, padding=1, bias=False)),
            (f"bn{i}", nn.BatchNorm2d(sizes[i])),
        ]
        if i < 3:
            layers.append((f"pool{i}", nn.MaxPool2d(2)))
        layers.append((f"relu{i}", nn.ReLU()))
    if (rows // 4, columns // 4) != (2, 2):
        layers.append(("pool3", nn.AdaptiveAvgPool2d(2)))
    layers += [("flatten", nn.Flatten()), *before_classifier("cnn", dropout)]
    layers.append(("classifier", nn.Linear(4 * sizes[3], classes)))
    return nn.Sequential(OrderedDict(layers))
