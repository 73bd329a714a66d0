"""Arithmetic of forward passes: bfloat16 where the hardware has it and the network is large enough to gain by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from sartor.costs import Flops
from sartor.errors import ConfigError, check_choice

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("auto", "fp32", "bf16")
WORTHWHILE = 10_000_000
"""Forward FLOPs of a sample from which bf16 was measured to be clearly faster (docs/precision.md), in convolutions."""


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def gains(model: nn.Module, flops: Flops) -> bool:
    """Tell whether a network is of a kind and size that bf16 was measured to serve: large, mostly convolutions."""
    kernels = [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd)]
    return flops.forward >= WORTHWHILE and 2 * sum(flops.by_weight.get(name, 0) for name in kernels) >= flops.forward


def pick_precision(asked: str, device: torch.device, gaining: bool) -> Precision:
    """Resolve `auto`, for a network that `gains` or does not; fp32 and bf16 stay what they are.

    On GPUs `auto` is fp32: there the gain was not measured.
    Raises: ConfigError: for a device that has no bfloat16 at all.
    """
    check_choice("precision", asked, PRECISIONS)
    if asked == "auto":
        return "bf16" if gaining and device.type == "cpu" and has_bf16(device) else "fp32"
    if asked == "fp32":
        return "fp32"
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"precision is bf16; {device.type} has no mixed precision here. Use fp32.")
    return "bf16"


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Surround forward passes with mixed precision where asked for: products in bfloat16, sums and weights float32."""
    if precision == "fp32":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield
