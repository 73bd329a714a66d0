"""The residual networks of ImageNet: four stages of w, 2w, 4w, 8w channels (He et al. 2016, table 1)."""

from __future__ import annotations

from sartor.errors import check_choice
from sartor.models.residual import BasicBlock, Block, Bottleneck, ResNet, projection
from sartor.models.shapes import check_dropout, check_width, image_shape
from sartor.registry import MODELS

STEMS = ("auto", "cifar", "imagenet")
LARGEST_SMALL = 64
"""The longest side, in pixels, of the images that `stem=auto` does not shrink in the stem."""
_FAMILY: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def resnet(depth: int, classes: int, input_shape: tuple[int, ...], stem: str, width: int, dropout: float) -> ResNet:
    """Build the network of depth 18, 34, 50 or 101; the stride of a bottleneck is in its 3 x 3 convolution.

    `stem`: "cifar" (3 x 3, stride 1, no pooling), "imagenet" (7 x 7, stride 2, max-pooling), or "auto": cifar for
    images of at most 64 x 64, imagenet for larger ones. `dropout` is the rate of dropout before the classifier.
    Raises: ConfigError: for inputs that are no images, a width below 1, an unknown stem or rate.
    """
    name = f"resnet{depth}"
    channels, height, columns = image_shape(name, classes, input_shape)
    check_width(name, width)
    check_dropout(name, dropout)
    check_choice("stem", stem, STEMS)
    if stem == "auto":
        stem = "cifar" if max(height, columns) <= LARGEST_SMALL else "imagenet"
    block, blocks = _FAMILY[depth]
    return ResNet(block, blocks, width, projection, channels, classes, stem, dropout)


@MODELS.register("resnet18")
def resnet18(
    classes: int, input_shape: tuple[int, ...], *, stem: str = "auto", width: int = 64, dropout: float = 0.0
) -> ResNet:
    """ResNet-18: 11,173,962 parameters for small images and 10 classes, 11,689,512 for large ones and 1,000."""
    return resnet(18, classes, input_shape, stem, width, dropout)


@MODELS.register("resnet34")
def resnet34(
    classes: int, input_shape: tuple[int, ...], *, stem: str = "auto", width: int = 64, dropout: float = 0.0
) -> ResNet:
    """ResNet-34: 21,282,122 parameters for small images and 10 classes, 21,797,672 for large ones and 1,000."""
    return resnet(34, classes, input_shape, stem, width, dropout)


@MODELS.register("resnet50")
def resnet50(
    classes: int, input_shape: tuple[int, ...], *, stem: str = "auto", width: int = 64, dropout: float = 0.0
) -> ResNet:
    """ResNet-50: 23,520,842 parameters for small images and 10 classes, 25,557,032 for large ones and 1,000."""
    return resnet(50, classes, input_shape, stem, width, dropout)


@MODELS.register("resnet101")
def resnet101(
    classes: int, input_shape: tuple[int, ...], *, stem: str = "auto", width: int = 64, dropout: float = 0.0
) -> ResNet:
    """ResNet-101: 42,512,970 parameters for small images and 10 classes, 44,549,160 for large ones and 1,000."""
    return resnet(101, classes, input_shape, stem, width, dropout)
