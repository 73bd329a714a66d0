"""Wide residual networks for small images: few blocks of many channels (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

from sartor.errors import ConfigError
from sartor.models.residual import PreactivationBlock, ResNet, bare_projection
from sartor.models.shapes import check_dropout, check_width, image_shape
from sartor.registry import MODELS


def wide_resnet(
    name: str, classes: int, input_shape: tuple[int, ...], depth: int, width: int, dropout: float
) -> ResNet:
    """Build a stem of 16 channels and three stages of (depth - 4) / 6 blocks with 16k, 32k, 64k channels; k is `width`.

    `dropout` is the rate of dropout before the classifier. Source: Zagoruyko and Komodakis 2016, table 1.
    Raises: ConfigError: for inputs that are no images, a depth that is not 6n + 4, a width below 1, an unknown rate.
    """
    channels, _, _ = image_shape(name, classes, input_shape)
    if depth < 10 or depth % 6 != 4:
        raise ConfigError(f"the depth of {name} is {depth}; it must be 6n + 4: 10, 16, 22, 28, 34, 40, ...")
    check_width(name, width)
    check_dropout(name, dropout)
    blocks = [(depth - 4) // 6] * 3
    return ResNet(
        PreactivationBlock, blocks, 16 * width, bare_projection, channels, classes, "cifar", dropout, first=16
    )


@MODELS.register("wrn-28-10")
def wrn_28_10(
    classes: int, input_shape: tuple[int, ...], *, depth: int = 28, width: int = 10, dropout: float = 0.0
) -> ResNet:
    """WRN-28-10, of depth 28 and tenfold width: 36,479,194 parameters at 3 channels and 10 classes."""
    return wide_resnet("wrn-28-10", classes, input_shape, depth, width, dropout)


@MODELS.register("wrn-16-4")
def wrn_16_4(
    classes: int, input_shape: tuple[int, ...], *, depth: int = 16, width: int = 4, dropout: float = 0.0
) -> ResNet:
    """WRN-16-4, of depth 16 and fourfold width: 2,748,890 parameters at 3 channels and 10 classes."""
    return wide_resnet("wrn-16-4", classes, input_shape, depth, width, dropout)
