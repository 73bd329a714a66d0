"""The residual networks for small images: three stages of w, 2w, 4w channels (He et al. 2016, section 4.2)."""

from __future__ import annotations

from sartor.errors import check_choice
from sartor.models.residual import (
    BasicBlock,
    Bottleneck,
    PaddingShortcut,
    PreactivationBottleneck,
    ResNet,
    bare_projection,
    projection,
)
from sartor.models.shapes import check_dropout, check_width, image_shape
from sartor.registry import MODELS


def resnet(
    depth: int,
    classes: int,
    input_shape: tuple[int, ...],
    width: int,
    shortcut: str,
    dropout: float,
    preactivation: bool = False,
) -> ResNet:
    """Build the network of this depth: 6n + 2 of basic blocks, or 164 = 9n + 2 of bottlenecks (He et al. 2016b).

    `dropout` is the rate of dropout before the classifier.
    Raises: ConfigError: for inputs that are no images, a width below 1, an unknown shortcut or rate.
    """
    name = f"resnet{depth}"
    channels, _, _ = image_shape(name, classes, input_shape)
    check_width(name, width)
    check_dropout(name, dropout)
    check_choice("shortcut", shortcut, ("projection", "padding"))
    past = PaddingShortcut if shortcut == "padding" else bare_projection if preactivation else projection
    if depth != 164:
        return ResNet(BasicBlock, [(depth - 2) // 6] * 3, width, past, channels, classes, "cifar", dropout)
    block = PreactivationBottleneck if preactivation else Bottleneck
    return ResNet(block, [(depth - 2) // 9] * 3, width, past, channels, classes, "cifar", dropout)


@MODELS.register("resnet8")
def resnet8(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-8 for small images: 78,042 parameters (75,290 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(8, classes, input_shape, width, shortcut, dropout)


@MODELS.register("resnet14")
def resnet14(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-14 for small images: 175,258 parameters (172,506 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(14, classes, input_shape, width, shortcut, dropout)


@MODELS.register("resnet20")
def resnet20(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-20 for small images: 272,474 parameters (269,722 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(20, classes, input_shape, width, shortcut, dropout)


@MODELS.register("resnet56")
def resnet56(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-56 for small images: 855,770 parameters (853,018 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(56, classes, input_shape, width, shortcut, dropout)


@MODELS.register("resnet110")
def resnet110(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-110 for small images: 1,730,714 parameters (1,727,962 with shortcut=padding) at 3 channels, 10 classes."""
    return resnet(110, classes, input_shape, width, shortcut, dropout)


@MODELS.register("resnet164")
def resnet164(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    width: int = 16,
    shortcut: str = "projection",
    preactivation: bool = False,
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-164 of bottlenecks: 1,704,154 parameters at 3 channels and 10 classes (preactivation: 1,703,258)."""
    return resnet(164, classes, input_shape, width, shortcut, dropout, preactivation)
