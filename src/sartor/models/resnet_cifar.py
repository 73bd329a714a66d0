"""The residual networks for small images: three stages of w, 2w, 4w channels (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sartor.errors import check_choice
from sartor.models.shapes import check_width, image_shape
from sartor.registry import MODELS

Shortcut = Callable[[int, int, int], nn.Module]


class PaddingShortcut(nn.Module):
    """Option A: every `stride`-th pixel, with channels of zeros on both sides; it has no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return the thinned and widened input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B: a 1 x 1 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same = stride == 1 and inputs == channels
        self.shortcut = nn.Identity() if same else shortcut(inputs, channels, stride)

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return relu(F(x) + shortcut(x))."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 (which has the stride) and 1 x 1 to four times the channels, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        outputs = self.expansion * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else shortcut(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return relu(F(x) + shortcut(x))."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, three stages of blocks with w, 2w and 4w channels, global average pooling and a linear classifier."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: int,
        width: int,
        shortcut: Shortcut,
        channels: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stage1 = _stage(block, blocks, width, width, 1, shortcut)
        self.stage2 = _stage(block, blocks, width * block.expansion, 2 * width, 2, shortcut)
        self.stage3 = _stage(block, blocks, 2 * width * block.expansion, 4 * width, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width * block.expansion, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b channels height width"]) -> Float[Tensor, "b c"]:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.classifier(self.pool(x).flatten(1))


def _stage(
    block: type[BasicBlock | Bottleneck], blocks: int, inputs: int, channels: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    first = block(inputs, channels, stride, shortcut)
    rest = [block(channels * block.expansion, channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def resnet(depth: int, classes: int, input_shape: tuple[int, ...], width: int, shortcut: str) -> ResNet:
    """Build the network of this depth: 6n + 2 of basic blocks, or 164 = 9n + 2 of bottlenecks (He et al. 2016b).

    Raises: ConfigError: for inputs that are no images, a width below 1 or an unknown shortcut.
    """
    name = f"resnet{depth}"
    channels, _, _ = image_shape(name, classes, input_shape)
    check_width(name, width)
    check_choice("shortcut", shortcut, ("projection", "padding"))
    block, blocks = (Bottleneck, (depth - 2) // 9) if depth == 164 else (BasicBlock, (depth - 2) // 6)
    return ResNet(block, blocks, width, projection if shortcut == "projection" else PaddingShortcut, channels, classes)


@MODELS.register("resnet8")
def resnet8(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-8 for small images: 78,042 parameters (75,290 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(8, classes, input_shape, width, shortcut)


@MODELS.register("resnet14")
def resnet14(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-14 for small images: 175,258 parameters (172,506 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(14, classes, input_shape, width, shortcut)


@MODELS.register("resnet20")
def resnet20(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-20 for small images: 272,474 parameters (269,722 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(20, classes, input_shape, width, shortcut)


@MODELS.register("resnet56")
def resnet56(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-56 for small images: 855,770 parameters (853,018 with shortcut=padding) at 3 channels and 10 classes."""
    return resnet(56, classes, input_shape, width, shortcut)


@MODELS.register("resnet110")
def resnet110(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-110 for small images: 1,730,714 parameters (1,727,962 with shortcut=padding) at 3 channels, 10 classes."""
    return resnet(110, classes, input_shape, width, shortcut)


@MODELS.register("resnet164")
def resnet164(classes: int, input_shape: tuple[int, ...], *, width: int = 16, shortcut: str = "projection") -> ResNet:
    """ResNet-164 of bottlenecks, activation after the addition: 1,704,154 parameters at 3 channels and 10 classes."""
    return resnet(164, classes, input_shape, width, shortcut)
