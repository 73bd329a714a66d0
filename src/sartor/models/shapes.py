"""The shape of a sample, and checks of what a network is built for."""

from __future__ import annotations

from torch import Tensor

from sartor.errors import ConfigError
from sartor.types import Inputs

Shape = tuple[int, ...] | tuple[tuple[int, ...], ...] | dict[str, tuple[int, ...]]
"""Shape of one sample: (3, 32, 32) of a tensor; of a tuple or dict, that of each part."""


def shape_of(inputs: Inputs) -> Shape:
    """Return the shape of one sample, given many: the first dimension counts them."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    if isinstance(inputs, dict):
        return {name: tuple(part.shape[1:]) for name, part in inputs.items()}
    return tuple(tuple(part.shape[1:]) for part in inputs)


def check_single(network: str, input_shape: Shape) -> tuple[int, ...]:
    """Return the shape. Raises: ConfigError: where a sample is no single tensor but a tuple or a dict."""
    sizes = [size for size in input_shape if isinstance(size, int)]
    if isinstance(input_shape, dict) or len(sizes) < len(input_shape):
        raise ConfigError(
            f"{network} takes one tensor, but a sample is {input_shape}; "
            "name a network of your own that takes them: package.module:factory."
        )
    return tuple(sizes)


def image_shape(network: str, classes: int, input_shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """Return (channels, height, width). Raises: ConfigError: for other shapes, a side below `least`, or no class."""
    input_shape = check_single(network, input_shape)
    if len(input_shape) != 3 or min(input_shape) < 1:
        found = f"samples of shape {tuple(input_shape)}"
        raise ConfigError(f"{network} is asked to take {found}; it takes images (channels, height, width).")
    channels, height, width = input_shape
    if min(height, width) < least:
        raise ConfigError(
            f"{network} is asked to take images of {height} x {width}; it needs {least} x {least} or more."
        )
    check_classes(network, classes)
    return channels, height, width


def check_classes(network: str, classes: int) -> None:
    """Raise ConfigError for fewer than one class."""
    if classes < 1:
        raise ConfigError(f"{network} is asked for {classes} classes; it needs at least 1.")


def check_width(network: str, width: int) -> None:
    """Raise ConfigError for a width below 1."""
    if width < 1:
        raise ConfigError(f"the width of {network} is {width}; it must be at least 1.")


def check_dropout(name: str, dropout: float) -> None:
    """Raise ConfigError for a rate of dropout that is none."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout of {name} is {dropout:g}; it must lie in [0, 1), 0 for none.")
