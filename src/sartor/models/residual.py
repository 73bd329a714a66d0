"""What residual networks are made of: blocks, shortcuts, stems, stages that halve the sides and double the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Shortcut = Callable[[int, int, int], nn.Module]
"""Makes what leads past a block of other channels or another stride, from (inputs, outputs, stride)."""


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


def bare_projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B where activations come first: a 1 x 1 convolution alone."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


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


class PreactivationBlock(nn.Module):
    """Two 3 x 3 convolutions, each after norm and ReLU, with nothing after the addition (He et al. 2016b)."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.same = stride == 1 and inputs == channels
        self.shortcut = nn.Identity() if self.same else shortcut(inputs, channels, stride)

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return F(x) + x, or F(x) + shortcut(relu(bn1(x))) where the shape changes."""
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.same else self.shortcut(active))


class PreactivationBottleneck(nn.Module):
    """The bottleneck with norm and ReLU before each convolution and nothing after the addition (He et al. 2016b)."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        outputs = self.expansion * channels
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if self.same else shortcut(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "b i height width"]) -> Float[Tensor, "b o rows columns"]:
        """Return F(x) + x, or F(x) + shortcut(relu(bn1(x))) where the shape changes."""
        active = F.relu(self.bn1(x))
        y = F.relu(self.bn2(self.conv1(active)))
        y = self.conv3(F.relu(self.bn3(self.conv2(y))))
        return y + (x if self.same else self.shortcut(active))


Block = type[BasicBlock] | type[Bottleneck] | type[PreactivationBlock] | type[PreactivationBottleneck]


class ResNet(nn.Module):
    """A stem, stages of blocks with w, 2w, 4w, ... channels, global average pooling and a linear classifier.

    The stem `cifar` is a 3 x 3 convolution that keeps the image's size, `imagenet` a 7 x 7 one of stride 2 and a
    max-pooling of stride 2; it has `first` channels, w if that is None. Each stage but the first halves the sides.
    Where blocks begin with norm and ReLU, these move from the stem to the end. `dropout` is the rate of dropout before
    the classifier.
    """

    def __init__(
        self,
        block: Block,
        blocks: Sequence[int],
        width: int,
        shortcut: Shortcut,
        channels: int,
        classes: int,
        stem: str,
        dropout: float = 0.0,
        first: int | None = None,
    ) -> None:
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
        inputs = width if first is None else first
        self.conv1 = nn.Conv2d(channels, inputs, kernel, stride, padding, bias=False)
        self.preactivation = block in (PreactivationBlock, PreactivationBottleneck)
        outputs = width * 2 ** (len(blocks) - 1) * block.expansion
        if not self.preactivation:
            self.bn1 = nn.BatchNorm2d(inputs)
        self.reduce = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        self.depth = len(blocks)
        for i, count in enumerate(blocks):
            self.add_module(f"stage{i + 1}", _stage(block, count, inputs, width * 2**i, 1 if i == 0 else 2, shortcut))
            inputs = width * 2**i * block.expansion
        if self.preactivation:
            self.bn1 = nn.BatchNorm2d(outputs)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Linear(outputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> list[nn.Module]:
        """The stages in their order."""
        return [cast(nn.Module, getattr(self, f"stage{i + 1}")) for i in range(self.depth)]

    def forward(self, x: Float[Tensor, "b channels height width"]) -> Float[Tensor, "b c"]:
        """Return the logits."""
        x = self.conv1(x)
        x = self.reduce(x if self.preactivation else F.relu(self.bn1(x)))
        for stage in self.stages:
            x = stage(x)
        x = F.relu(self.bn1(x)) if self.preactivation else x
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


def _stage(block: Block, blocks: int, inputs: int, channels: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = block(inputs, channels, stride, shortcut)
    rest = [block(channels * block.expansion, channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
