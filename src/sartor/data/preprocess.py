"""Bytes to numbers that a network likes: (x / 255 - mean) / std per channel."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from sartor.errors import DataError


@dataclass(frozen=True)
class Preprocess:
    """Normalise uint8 images with channels first: (x / 255 - mean) / std, one mean and std per channel, or one for all.

    Raises: DataError: if mean and std differ in length, or a std is not a positive number.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise DataError(f"mean has {len(self.mean)} and std {len(self.std)} numbers; give one of each a channel.")
        if not all(math.isfinite(m) for m in self.mean) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise DataError(f"mean is {self.mean} and std {self.std}; they must be finite, and each std above 0.")

    @classmethod
    def measure(cls, images: UInt8[Tensor, "n channels height width"]) -> Preprocess:
        """Measure mean and (population) standard deviation of x / 255 for each channel.

        They come from exact counts of the 256 values, so the order of the images has no effect.
        A channel of one single value gets std 1.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.numel() == 0:
            found = f"{images.dtype} of shape {tuple(images.shape)}"
            raise DataError(
                f"images are {found}; to measure them give torch.uint8 of shape (n, channels, height, width)."
            )
        values = torch.arange(256, dtype=torch.float64) / 255
        means, stds = [], []
        for channel in images.unbind(1):
            share = torch.bincount(channel.reshape(-1), minlength=256).double() / channel.numel()
            mean = float(share @ values)
            means.append(mean)
            stds.append(math.sqrt(float(share @ (values - mean) ** 2)) or 1.0)
        return cls(tuple(means), tuple(stds))

    def __call__(self, images: UInt8[Tensor, "b channels height width"]) -> Float32[Tensor, "b channels height width"]:
        """Return the normalised images as float32."""
        scale, shift = _affine(self.mean, self.std, images.device)
        return images.float().mul_(scale).add_(shift)


UNIT = Preprocess((0.0,), (1.0,))
"""Only divides by 255; serves any number of channels."""


@functools.lru_cache(maxsize=64)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The same map as x * scale + shift; kept, because a copy to the device a batch would be slow."""
    with torch.inference_mode(mode=False):
        means, stds = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
        return (1 / (255 * stds)).float().to(device), (-means / stds).float().to(device)
