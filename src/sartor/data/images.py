"""One picture file as bytes: whatever it holds becomes uint8 (channels, height, width), resized by a stated rule."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sartor.errors import ConfigError, DataError, check_choice

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
"""Files that count as pictures, by the end of their name, in any case of letters."""
RESIZES = ("crop", "squash", "pad")
_SIXTEEN_BITS = ("PNG", "PPM")  # formats without 32 bits a pixel, which some versions of Pillow open in mode I
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """A file that is no whole picture; the text is the reason."""


@dataclass(frozen=True)
class Decoder:
    """How a picture becomes bytes of one shape: (channels, size, size), or (channels, its height, its width).

    The picture is turned as its EXIF orientation says; 16 bits a pixel are scaled to 8, whole numbers of 32 bits too
    unless all of them fit into 8; transparent parts become white; one channel is ITU-R 601 grey. `resize` is bilinear
    with antialiasing (Pillow's BILINEAR): "crop" scales the centre square, whose side is the shorter side, "squash" the
    whole picture without regard to its shape, "pad" the whole picture until the longer side fits, and leaves zero bytes
    (black) evenly on both sides of it.
    Raises: ConfigError: for a size below 1, an unknown rule, or other channels than 1 and 3.
    """

    size: int | None = None
    resize: str = "crop"
    channels: int = 3

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, RESIZES)
        if self.channels not in (1, 3):
            raise ConfigError(f"channels is {self.channels!r}; it must be 3 (colour) or 1 (grey).")
        if self.size is None:
            if self.resize != "crop":
                raise ConfigError(f"resize is {self.resize!r}, which has no effect without a size; give size too.")
        elif not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ConfigError(f"size is {self.size!r}; it must be a whole number of pixels, 1 or more.")

    def __call__(self, file: str | Path) -> UInt8[np.ndarray, "channels height width"]:
        """Decode a file. Raises: Unreadable: if it is missing, damaged, no picture or too large."""
        try:
            content = Path(file).read_bytes()
        except FileNotFoundError as error:
            raise Unreadable("there is no such file") from error
        except OSError as error:  # the disk, the network, a right that is missing: not the picture's fault
            raise DataError(f"{file} cannot be read ({error.strerror}); mend that first.") from error
        if not content:
            raise Unreadable("the file is empty")
        try:
            with Image.open(io.BytesIO(content)) as image:
                refuse_bomb(image)
                picture = self.resized(turned(as_bytes(image), orientation(image)))
                pixels = np.asarray(picture.convert("L" if self.channels == 1 else "RGB"))
        except Unreadable:
            raise
        except Exception as error:  # a damaged file can raise anything
            reason = str(error) if isinstance(error, OSError | Image.DecompressionBombError) else ""
            raise Unreadable(
                "no picture that Pillow knows" if "identify" in reason else reason or repr(error)
            ) from error
        return pixels.reshape(*pixels.shape[:2], self.channels).transpose(2, 0, 1).copy()

    def resized(self, image: Image.Image) -> Image.Image:
        """Bring an 8-bit picture to the size."""
        if self.size is None:
            return image
        square, (width, height) = (self.size, self.size), image.size
        if self.resize == "crop":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            return image.resize(square, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        if self.resize == "squash":
            return image.resize(square, Image.Resampling.BILINEAR)
        longer = max(width, height)
        inner = [max(1, (2 * side * self.size + longer) // (2 * longer)) for side in (width, height)]
        padded = Image.new(image.mode, square)
        place = (self.size - inner[0]) // 2, (self.size - inner[1]) // 2
        padded.paste(image.resize((inner[0], inner[1]), Image.Resampling.BILINEAR), place)
        return padded


def picture_size(file: str | Path) -> tuple[int, int] | None:
    """Read a picture's height and width as seen, from its header; None where there is none to read."""
    try:
        with Image.open(file) as image:
            height, width = image.height, image.width
            turned_over = image.format in ("JPEG", "MPO", "WEBP") and orientation(image) >= 5
    except Exception:  # a damaged file can raise anything; decoding it tells the reason
        return None
    return (width, height) if turned_over else (height, width)


def refuse_bomb(image: Image.Image) -> None:
    """Raise Unreadable for a picture that would unpack to more pixels than Pillow thinks safe."""
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        raise Unreadable(f"it would unpack to {pixels:,} pixels, more than the {limit:,} that are safe")


def as_bytes(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode into 8-bit grey (L) or RGB."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable(f"its values go from {values.min()} to {values.max()}; 8 and 16 bits a pixel are known")
        if image.mode == "I" and image.format not in _SIXTEEN_BITS and values.max() <= 255:
            return Image.fromarray(values.astype(np.uint8))
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("its pixels are fractions, whose range is not known; save it with 8 or 16 bits a pixel")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where none is told or what is told makes no sense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data; the pixels may be whole all the same
        return 1
    return value if value in _TURNS else 1


def turned(image: Image.Image, value: int) -> Image.Image:
    """Turn a picture as its orientation asks."""
    return image.transpose(_TURNS[value]) if value in _TURNS else image
