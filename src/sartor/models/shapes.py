"""Checks of what a network is built for."""

from __future__ import annotations

from sartor.errors import ConfigError


def image_shape(network: str, classes: int, input_shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """Return (channels, height, width). Raises: ConfigError: for other shapes, a side below `least`, or no class."""
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
