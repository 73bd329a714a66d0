"""Tries a small network: whether it runs, and whether it computes what the dense one does without the channels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sartor.errors import PruningError
from sartor.prune.channels.coupling import arguments_of
from sartor.prune.channels.following import tensors_of
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

TOLERANCE = 1e-4
"""How far the small network's outputs may lie from those of the dense one without the channels, relative to them."""


def check_same(
    model: nn.Module, small: nn.Module, example: Inputs, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Compare in eval mode a small network with its dense one, which has other `weights` if they are given.

    Half precision is compared in single; where rounding may be to blame for a difference, double precision decides.
    Raises: PruningError: if the small one does not run, or computes something else.
    """
    tried: tuple[Any, ...] = (model, small, example, weights or {})
    if any(weight.dtype in (torch.float16, torch.bfloat16) for weight in model.parameters()):
        tried = _in(torch.float32, *tried)
    if _agree(*tried):
        return
    with suppress(PruningError):  # where the code writes single precision, that has decided
        if _agree(*_in(torch.float64, *tried)):
            return
    raise PruningError(
        f"{type(model).__name__} computes something else once channels leave, so its code fixes a size, an "
        "order or a part of them; change that, or let the channels stay that come there: keep=['MODULE', ...]."
    )


def _agree(model: nn.Module, small: nn.Module, example: Inputs, weights: Mapping[str, Tensor]) -> bool:
    pairs = zip(outputs_of(small, example, {}), outputs_of(model, example, weights), strict=True)
    return all(_near(found, wanted) for found, wanted in pairs)


def _near(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape or not found.is_floating_point() or not found.numel():
        return found.shape == wanted.shape
    scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return bool((found - wanted).abs().max() <= TOLERANCE * scale)


def _in(dtype: torch.dtype, *tried: Any) -> tuple[Any, ...]:
    """Return networks, inputs and weights in another precision; those on a device that lacks double, on the CPU."""

    def converted(leaf: Any) -> Any:
        if isinstance(leaf, nn.Module):
            leaf = copy.deepcopy(leaf)
        elif not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        place = next(iter(leaf.parameters())).device if isinstance(leaf, nn.Module) else leaf.device
        return leaf.to("cpu" if place.type == "mps" else place, dtype)

    return tuple(tree_map(converted, part) for part in tried)


def outputs_of(model: nn.Module, example: Inputs, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors that a network puts out in eval mode, with other weights if they are given."""
    arguments, named = arguments_of(model, example)
    within: list[str] = []
    with undisturbed(model), _noting(model, within):
        try:
            out = torch.func.functional_call(model, dict(weights), arguments, named)
            return [tensor.clone() for tensor in tensors_of(out)]
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            inner = within[-1] if within else ""
            place = f"{inner!r} ({type(model.get_submodule(inner)).__name__})" if inner else "its forward"
            raise PruningError(
                f"{type(model).__name__} does not run with fewer channels: {place} fails "
                f"({reason}), so its code fixes a size; let it read sizes from its tensors, as x.flatten(1) does, or "
                f"let the channels stay that are made there or before it, as with keep=[{inner or 'MODULE'!r}]."
            ) from error


@contextmanager
def _noting(model: nn.Module, within: list[str]) -> Iterator[None]:
    """Keep in `within` which modules run; where one fails, it stays the last."""

    def leave(*_: Any) -> None:  # a hook that returned something would replace the output
        within.pop()

    hooks: list[Any] = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: within.append(name)))
        hooks.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
