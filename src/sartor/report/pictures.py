"""Samples as small pictures that a page holds itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from sartor.data.arrays import named_tensors
from sartor.data.pool import Pool
from sartor.data.source import Resident

SIDE = 64
"""Pixels of the longer side; larger pictures are made smaller, smaller ones stay as they are."""


def image_part(pool: Pool | None) -> str | None:
    """Name the first tensor of a pool's samples that holds grey or colour images; None where there is none."""
    for name, tensor in named_tensors(pool.inputs) if pool is not None else ():
        bytes_or_floats = tensor.dtype == torch.uint8 or tensor.is_floating_point()
        if tensor.ndim == 4 and tensor.shape[1] in (1, 3) and min(tensor.shape[2:]) > 1 and bytes_or_floats:
            return name
    return None


def thumbnails(pool: Pool, part: str, rows: Int64[Tensor, "b"]) -> list[str]:
    """Return PNG pictures of some rows, as addresses (data:) for a page; floats are spread over black to white."""
    inputs = pool.source.take(rows, None) if isinstance(pool.source, Resident) else pool.source.read(rows)
    return [thumbnail(image) for image in dict(named_tensors(inputs))[part]]


def thumbnail(image: Tensor) -> str:
    """Return one picture (channels, height, width) as an address that holds it."""
    if image.is_floating_point():
        image = image.float().nan_to_num()
        low, high = float(image.min()), float(image.max())
        image = ((image - low) * (255 / (high - low if high > low else 1.0))).round().to(torch.uint8)
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def spread(places: Sequence[int], count: int) -> list[int]:
    """Return up to `count` of some places, evenly spread from the first to the last.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(places) <= count:
        return list(places)
    return [places[round(number * (len(places) - 1) / (count - 1))] for number in range(count)]
