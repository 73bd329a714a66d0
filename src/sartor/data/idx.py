"""The idx format of MNIST and its kin: a magic number, the sizes, then bytes; often gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sartor.errors import DataError

_BYTES = 0x08  # the code of unsigned bytes


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """Read an idx file of unsigned bytes with `axes` axes, gzipped if its name ends with .gz.

    Raises: DataError: naming the file, if it is no such file, is cut short, or goes on after its data.
    """
    cure = "fetch the file again"
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {cure}.") from error
    head = 4 + 4 * axes
    magic = bytes([0, 0, _BYTES, axes])
    if content[:4] != magic:
        raise DataError(f"{path} begins with {content[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')}; {cure}.")
    if len(content) < head:
        raise DataError(f"{path} ends within its first {head} bytes; {cure}.")
    shape = struct.unpack(f">{axes}I", content[4:head])
    size = head + math.prod(shape)
    if len(content) != size:
        raise DataError(f"{path} holds {len(content)} bytes but announces {size} (shape {shape}); {cure}.")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
