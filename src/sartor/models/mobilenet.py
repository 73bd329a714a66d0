"""MobileNetV2: blocks that widen, filter each channel by itself, and narrow again (Sandler et al. 2018)."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from sartor.errors import ConfigError, check_choice
from sartor.models.resnet import LARGEST_SMALL, STEMS
from sartor.models.shapes import check_dropout, image_shape
from sartor.registry import MODELS

_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, blocks and first stride of each stage (table 2)."""


class InvertedResidual(nn.Module):
    """Convolutions 1 x 1 to more channels, 3 x 3 of each channel by itself, 1 x 1 to few; a shortcut where it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _active(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _active(hidden, hidden, 3, stride, groups=hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return F(x), which ends without ReLU, plus x where the shape stays."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.same else y


class MobileNetV2(nn.Sequential):
    """A stem, seven stages of inverted residuals, a 1 x 1 convolution, global average pooling, a linear classifier.

    `large` is for large images: their sides are halved in the stem, and in four stages; those of small images in three.
    """

    def __init__(self, channels: int, classes: int, width: float, large: bool, dropout: float) -> None:
        inputs, last = _rounded(32 * width), _rounded(1280 * max(1.0, width))
        layers: list[tuple[str, nn.Module]] = [("stem", _active(channels, inputs, 3, 2 if large else 1))]
        for number, (expansion, base, count, stride) in enumerate(_STAGES, 1):
            outputs, stride = _rounded(base * width), stride if large or number > 2 else 1
            blocks = [InvertedResidual(inputs, outputs, stride, expansion)]
            blocks += [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(count - 1)]
            layers.append((f"stage{number}", nn.Sequential(*blocks)))
            inputs = outputs
        layers += [("last", _active(inputs, last, 1)), ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
        layers += [("dropout", nn.Dropout(dropout))] if dropout else []
        super().__init__(OrderedDict([*layers, ("classifier", nn.Linear(last, classes))]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # fan_out would not see that a channel by itself feeds only one
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


@MODELS.register("mobilenetv2")
def mobilenetv2(
    classes: int, input_shape: tuple[int, ...], *, stem: str = "auto", width: float = 1.0, dropout: float = 0.0
) -> MobileNetV2:
    """MobileNetV2: 2,236,682 parameters at 3 channels and 10 classes, for small images and for large ones.

    `stem`: "imagenet", the paper's network, which makes images 32 times smaller; "cifar", which makes them 8 times
    smaller, for its stem and its second stage have stride 1; "auto": cifar for images of at most 64 x 64. `width`
    multiplies all channels, rounded to multiples of 8. `dropout` is the rate of dropout before the classifier.
    Raises: ConfigError: for inputs that are no images, a width of 0 or less, an unknown stem or rate.
    Differs: dropout is 0 (0.2 in the authors' code); convolutions are drawn as in He et al. 2015.
    """
    channels, height, columns = image_shape("mobilenetv2", classes, input_shape)
    if not 0 < width < float("inf"):
        raise ConfigError(f"the width of mobilenetv2 is {width:g}; it must be above 0, and 1 for the paper's.")
    check_dropout("mobilenetv2", dropout)
    check_choice("stem", stem, STEMS)
    large = stem == "imagenet" or (stem == "auto" and max(height, columns) > LARGEST_SMALL)
    return MobileNetV2(channels, classes, width, large, dropout)


def _active(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Make a convolution that keeps the place of each pixel, a norm, and a ReLU that ends at 6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8, the next one where that would lose more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
