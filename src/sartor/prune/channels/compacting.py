"""Cuts out the channels that masks have emptied, where that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from sartor.errors import PruningError, nearest
from sartor.prune.channels.channel_plan import ChannelPlan
from sartor.prune.channels.coupling import Coupling, couple
from sartor.prune.channels.planning import counted_heads
from sartor.prune.channels.trying import check_same
from sartor.prune.masks import Masks
from sartor.types import Inputs


def compact(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], example: Inputs, *, keep: Sequence[str] = ()
) -> tuple[nn.Module, ChannelPlan]:
    """Return the network without the channels and heads that masks have emptied, and the plan; outputs stay the same.

    A channel goes if each weight that reads it is masked or meets nothing but zeros: all weights that make the channel
    are masked, and no bias or norm gives it another value. It is looked for again in what is left until all are found;
    each group keeps one channel. Masks go on with `plan.cut(name, mask)`. The network stays as it is.
    Raises: PruningError: if a mask fits no parameter or a masked weight is not zero, and as `couple` does.
    """
    living = {name: masks[name].cpu() for name in (masks.names if isinstance(masks, Masks) else masks)}
    _check(model, living)
    coupling = couple(model, example, keep=keep, listen=True)
    found, small = ChannelPlan(coupling, torch.arange(coupling.units)), model
    while not bool((stays := _staying(coupling, living)).all()):
        units = stays.nonzero().squeeze(1)
        step = ChannelPlan(coupling, units, counted_heads(small, coupling, units), ({"compact": int((~stays).sum())},))
        found, small = found.then(step), step.shrink(small)
        living = {name: step.cut(name, mask) for name, mask in living.items()}
        coupling = couple(small, example, keep=keep, listen=True)
    small = found.shrink(model)
    check_same(model, small, example)
    return small, found


def _check(model: nn.Module, living: Mapping[str, Tensor]) -> None:
    weights = dict(model.named_parameters())
    for name, mask in living.items():
        if name not in weights:
            raise PruningError(f"there is a mask for {name!r}, which is no parameter.{nearest(name, weights)}")
        if mask.dtype != torch.bool or mask.shape != weights[name].shape:
            raise PruningError(
                f"the mask for {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"it must be torch.bool of shape {tuple(weights[name].shape)}."
            )
        if bool(weights[name].detach().cpu()[~mask].any()):
            raise PruningError(f"weights of {name!r} that are masked are not zero; call masks.apply() before.")


def _staying(coupling: Coupling, living: Mapping[str, Bool[Tensor, "..."]]) -> Bool[Tensor, "u"]:
    """Mark the units that a weight reads, unless they bring nothing but zeros, and one of each group in any case."""
    reading = {name for name, _ in coupling.read}
    fed, read = torch.zeros(2, coupling.units, dtype=torch.bool)
    for (name, dim), units in coupling.axes.items():
        is_source = name in reading or len(coupling.shapes[name]) == 2  # not a grouped convolution
        if (name, dim) in coupling.made and is_source:
            _mark(fed, units, _lives(coupling, living, name, dim))
    for (name, dim), units in coupling.axes.items():
        if (name, dim) in coupling.read:
            loud = coupling.heard[name, dim] != 0
            _mark(read, units, _lives(coupling, living, name, dim) & (loud | fed[units]))
    for _, where in coupling.groups():
        if not bool(read[where].any()):
            read[where.start] = True
    return read


def _lives(coupling: Coupling, living: Mapping[str, Tensor], name: str, dim: int) -> Bool[Tensor, "n"]:
    """Tell, for each place along a dimension, whether any weight there lives."""
    if name not in living:
        return torch.ones(coupling.shapes[name][dim], dtype=torch.bool)
    return living[name].movedim(dim, 0).flatten(1).any(1)


def _mark(marked: Bool[Tensor, "u"], units: Tensor, places: Tensor) -> None:
    marked[units[(units >= 0) & places]] = True
