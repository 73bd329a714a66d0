"""Crop and flip, one pixel at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, pad: int, down: Tensor, right: Tensor, flips: Tensor) -> Tensor:
    b, channels, height, width = images.shape
    result = torch.zeros_like(images)
    for i in range(b):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    source_x = width - 1 - x if flips[i] else x
                    line, column = y + int(down[i]) - pad, source_x + int(right[i]) - pad
                    if 0 <= line < height and 0 <= column < width:
                        result[i, c, y, x] = images[i, c, line, column]
    return result
