"""Random crop and flip of a batch, drawn per (seed, epoch, id): the same in any batch, order or process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sartor.data.arrays import named_tensors
from sartor.data.hashing import uniform
from sartor.errors import ConfigError, DataError
from sartor.types import Inputs


@dataclass(frozen=True)
class Augment:
    """Pad images by `crop` zeros on each side and crop them back at random; mirror half of them if `flip`.

    Which half is drawn anew every epoch; with `alternate` it is drawn once for the first epoch, and from then on every
    image is mirrored in every other epoch (Jordan 2024, alternating flip): two epochs show both sides of all.
    Epochs are those of the run, whether or not an image was among their samples.
    It acts after normalisation, so the border has the value of the mean pixel, not of a black one.
    Raises: ConfigError: for a negative crop, or for alternation of no flips.
    """

    crop: int = 0
    flip: bool = False
    alternate: bool = False

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ConfigError(f"crop is {self.crop}; it must be 0 (no crop) or a number of pixels.")
        if self.alternate and not self.flip:
            raise ConfigError("alternate is without effect where nothing is flipped; give flip=True too.")

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip

    def check(self, inputs: Inputs) -> None:
        """Raise DataError unless the inputs are one tensor of images, (n, channels, height, width)."""
        if self and not (isinstance(inputs, Tensor) and inputs.ndim == 4):
            found = ", ".join(f"{name} of shape {tuple(tensor.shape)}" for name, tensor in named_tensors(inputs))
            raise DataError(
                f"crop and flip need images (n, channels, height, width); found {found}. Leave augment out."
            )

    def __call__(
        self, images: Float[Tensor, "b channels height width"], keys: Int64[Tensor, "b"], *, seed: int, epoch: int
    ) -> Float[Tensor, "b channels height width"]:
        """Augment a batch; `keys` are the hash keys of its ids (`hashing.id_keys`), on the same device."""
        if not self:
            return images
        down = self._offsets(keys, seed, "augment/down", epoch)
        right = self._offsets(keys, seed, "augment/right", epoch)
        return crop_and_flip(images, self.crop, down, right, self._flips(keys, seed, epoch))

    def _flips(self, keys: Int64[Tensor, "b"], seed: int, epoch: int) -> Bool[Tensor, "b"]:
        if not self.flip:
            return torch.zeros_like(keys, dtype=torch.bool)
        if not self.alternate:
            return hashed(keys, seed, epoch, "augment/flip") < 0.5
        return (hashed(keys, seed, 0, "augment/alternate") < 0.5) ^ (epoch % 2 == 1)

    def _offsets(self, keys: Int64[Tensor, "b"], seed: int, stream: str, epoch: int) -> Int64[Tensor, "b"]:
        if not self.crop:
            return torch.zeros_like(keys)
        return (hashed(keys, seed, epoch, stream) * (2 * self.crop + 1)).long()


def hashed(keys: Int64[Tensor, "b"], seed: int, epoch: int, stream: str) -> Float32[Tensor, "b"]:
    """Return one uniform number in [0, 1) per key; other seeds, epochs and streams give independent ones."""
    return uniform(keys, seed, stream, epoch)


def crop_and_flip(
    images: Float[Tensor, "b channels height width"],
    pad: int,
    down: Int64[Tensor, "b"],
    right: Int64[Tensor, "b"],
    flips: Bool[Tensor, "b"],
) -> Float[Tensor, "b channels height width"]:
    """Cut each image out of itself padded with zeros, `down` and `right` pixels from the corner, then mirror it.

    One gather for the whole batch. Offsets lie in 0..2 pad.
    """
    b, channels, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad)) if pad else images
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flips[:, None], columns.flip(0), columns) + right[:, None]
    lines = torch.arange(height, device=images.device) + down[:, None]
    places = (lines[:, :, None] * padded.shape[3] + columns[:, None, :]).view(b, 1, height * width)
    flat = padded.reshape(b, channels, -1)
    return flat.gather(2, places.expand(-1, channels, -1)).view(b, channels, height, width)
