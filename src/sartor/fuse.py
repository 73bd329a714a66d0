"""Fusion: the weights of a pruned network back in their places in the dense one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from sartor.errors import ConfigError, PruningError, check_choice
from sartor.prune.channels.channel_plan import ChannelPlan
from sartor.prune.channels.coupling import arguments_of
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

COMPLEMENTS = ("random", "retained", "zeros", "preserving", "replicate")
DISPERSIONS = ("none", "contiguous", "strided", "random")


def fuse(
    dense: nn.Module,
    small: nn.Module,
    plan: ChannelPlan,
    *,
    complement: str = "random",
    dispersion: str = "none",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of the dense network with the small one's parameters and buffers in their places.

    `complement`, what is elsewhere: `random`, values drawn from those of the same dense tensor; `retained`, the dense
    ones; `zeros`, in parameters; `preserving`, the dense ones, but zero where a kept channel would read another;
    `replicate`, copies of kept channels, divided among them where they are read. With the last three it computes in
    eval mode what the small one computes. `dispersion`: see `disperse`. Both networks stay as they are.
    Raises: ConfigError: for an unknown option, or one that draws without a generator. PruningError: if a network is not
        the plan's. Source: PruneFuse (2026), section 4.3; Chen et al. 2016 (Net2Net), equation 4, for `replicate`.
    Differs: the paper names no distribution for `random`; this one is that of the dense tensor, whatever made it.
    """
    check_choice("complement", complement, COMPLEMENTS)
    plan = disperse(plan, dispersion, generator=generator)
    plan.check_dense(dense)
    plan.check_small(small)
    sources = _sources(plan, generator) if complement == "replicate" else None
    fused, parts = copy.deepcopy(dense), _tensors(small)
    with torch.no_grad():
        for name, tensor in _tensors(fused).items():
            part = parts[name].to(tensor.device, tensor.dtype)
            if sources is not None:
                tensor.copy_(_replicated(plan, name, part, sources))
                continue
            if complement == "random":
                tensor.copy_(_drawn(tensor, generator))
            elif complement == "zeros" and isinstance(tensor, nn.Parameter):
                tensor.zero_()
            elif complement == "preserving":
                _separate(plan, name, tensor)
            put_back(plan, name, tensor, part)
    return fused


def put_back(plan: ChannelPlan, name: str, whole: Tensor, part: Tensor) -> None:
    """Write a small tensor (a weight, a momentum) into its places in a dense one."""
    _put(whole, part, sorted(plan.kept.get(name, {}).items()))


def disperse(plan: ChannelPlan, dispersion: str, *, generator: torch.Generator | None = None) -> ChannelPlan:
    """Return a plan that puts the small network's channels into other places of the dense one.

    In each group, the k channels come, in their order, into the first k places (`contiguous`), into floor(i c / k) of
    c places (`strided`), into places drawn at random (`random`), or back where they were (`none`).
    Raises: ConfigError: for an unknown dispersion, or `random` without a generator. PruningError: where a network
        reads a group's channels in another order than it makes them.
    Source: PruneFuse (2026), section 4.3, which has the map but no formula.
    """
    check_choice("dispersion", dispersion, DISPERSIONS)
    if dispersion == "none":
        return plan
    stays, places = plan.stays, []
    for _, where in plan.coupling.groups():
        kept, size = int(stays[where].sum()), where.stop - where.start
        if dispersion == "random":
            chosen = torch.randperm(size, generator=_needed(generator, "dispersion is 'random'"))[:kept].sort().values
        else:
            chosen = torch.arange(kept) * (size if dispersion == "strided" else kept) // kept
        places.append(where.start + chosen)
    units = torch.cat(places)
    moved = ChannelPlan(plan.coupling, units, plan.attributes, (*plan.about, {"dispersion": dispersion}))
    new = torch.full((plan.coupling.units + 1,), -1)  # the last is that of places that stay, unit -1
    new[plan.units] = units
    for (name, dim), axis in plan.coupling.axes.items():
        if not torch.equal(new[axis[plan.kept[name][dim]]], axis[moved.kept[name][dim]]):
            raise PruningError(f"{name!r} has the channels of a group in another order; dispersion must be 'none'.")
    return moved


def fuse_state(
    fused_optimizer: Optimizer, small_optimizer: Optimizer, fused: nn.Module, small: nn.Module, plan: ChannelPlan
) -> None:
    """Give the fused network's optimiser what the small one's remembers (momentum, moments), and zero elsewhere.

    Where `fuse` dispersed, `plan` is what `disperse` returns for the same generator state.
    Raises: ConfigError: if the optimisers are of different kinds. PruningError: if a network is not the plan's.
    """
    if type(fused_optimizer) is not type(small_optimizer):
        kinds = f"{type(small_optimizer).__name__} and {type(fused_optimizer).__name__}"
        raise ConfigError(f"the optimisers are {kinds}; what one remembers means nothing to the other, use one kind.")
    plan.check_dense(fused)
    plan.check_small(small)
    parts = dict(small.named_parameters())
    for name, weight in fused.named_parameters():
        part = parts[name]
        state: dict[str, Any] = {}
        for key, value in small_optimizer.state.get(part, {}).items():
            if isinstance(value, Tensor) and value.shape == part.shape and value.ndim:
                state[key] = torch.zeros_like(weight, dtype=value.dtype, requires_grad=False)
                put_back(plan, name, state[key], value.to(weight.device))
            else:
                state[key] = copy.deepcopy(value)
        if state:
            fused_optimizer.state[weight] = state


def reestimate_statistics(model: nn.Module, batches: Iterable[Inputs]) -> int:
    """Set batch-norm statistics to the mean over `batches` of theirs; return how many samples passed forward.

    The rest of the network is in eval mode meanwhile; modes, gradients and random states come back.
    Raises: ConfigError: for a network that keeps no such statistics, or no batches.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None
    ]
    if not norms:
        raise ConfigError(f"{type(model).__name__} has no batch-norm statistics to estimate; leave that out.")
    before, samples = [norm.momentum for norm in norms], 0
    found: list[dict[str, Tensor]] = []
    with undisturbed(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        try:
            for batch in batches:
                samples += _pass(model, batch)
            found = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
        finally:
            for norm, momentum in zip(norms, before, strict=True):
                norm.momentum = momentum
                norm.eval()
    if not samples:
        raise ConfigError("there are no batches to estimate statistics from; give at least one.")
    for norm, buffers in zip(norms, found, strict=True):
        for name, buffer in buffers.items():
            getattr(norm, name).copy_(buffer)
    return samples


def _pass(model: nn.Module, batch: Inputs) -> int:
    arguments, named = arguments_of(model, batch)
    model(*arguments, **named)
    return len(next(iter([*arguments, *named.values()])))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _put(whole: Tensor, part: Tensor | float, axes: Sequence[tuple[int, Tensor]]) -> None:
    """Write `part` where all of the dimensions in `axes` have the given indices."""
    if not axes:
        whole.copy_(torch.as_tensor(part))
        return
    dim, places = axes[0][0], axes[0][1].to(whole.device)
    inner = whole.index_select(dim, places)
    _put(inner, part, axes[1:])
    whole.index_copy_(dim, places, inner)


def _separate(plan: ChannelPlan, name: str, tensor: Tensor) -> None:
    """Set to zero with what a kept channel would read a channel that is not kept."""
    kept = plan.kept.get(name, {})
    for dim, places in kept.items():
        if (name, dim) in plan.coupling.read:
            outside = torch.ones(tensor.shape[dim], dtype=torch.bool)
            outside[places] = False
            made = [item for item in kept.items() if item[0] != dim]
            _put(tensor, 0.0, [*made, (dim, outside.nonzero().squeeze(1))])


def _drawn(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a tensor whose elements are drawn from those of a dense one, with replacement."""
    source = _needed(generator, "complement is 'random'")
    drawn = torch.randint(tensor.numel(), tuple(tensor.shape), generator=source, device=source.device)
    return tensor.flatten()[drawn.to(tensor.device)]


def _sources(plan: ChannelPlan, generator: torch.Generator | None) -> Int64[Tensor, "u"]:
    """Return for each unit the kept one of its group that it copies, drawn for those that are not kept."""
    generator, stays = _needed(generator, "complement is 'replicate'"), plan.stays
    sources = torch.arange(plan.coupling.units)
    for _, where in plan.coupling.groups():
        kept = stays[where].nonzero().squeeze(1) + where.start
        drawn = kept[torch.randint(len(kept), (where.stop - where.start,), generator=generator)]
        sources[where] = torch.where(stays[where], sources[where], drawn)
    return sources


def _replicated(plan: ChannelPlan, name: str, part: Tensor, sources: Int64[Tensor, "u"]) -> Float[Tensor, "..."]:
    """Return a dense tensor made of copies of a small one's channels, divided among the copies along what is read."""
    copies = torch.bincount(sources, minlength=len(sources))
    for dim, kept in plan.kept.get(name, {}).items():
        units = plan.coupling.axes[name, dim]
        small = torch.full_like(units, -1)
        small[kept] = torch.arange(len(kept))
        origin = small[_same_place(units, sources)].to(part.device)
        part = part.index_select(dim, origin)
        if (name, dim) in plan.coupling.read:
            share = torch.where(units < 0, 1, copies[sources[units]]).to(part.device)
            part = part / share.reshape(-1, *[1] * (part.ndim - dim - 1))
    return part


def _same_place(units: Int64[Tensor, "n"], sources: Int64[Tensor, "u"]) -> Int64[Tensor, "n"]:
    """Return, for each place of a unit, the place of the same rank of the unit that it copies."""
    order = units.argsort(stable=True)
    ranked = units[order]
    starts = torch.searchsorted(ranked, ranked)
    rank = torch.empty_like(units)
    rank[order] = torch.arange(len(units)) - starts
    wanted = torch.where(units < 0, units, sources[units])
    return order[torch.searchsorted(ranked, wanted) + rank]


def _needed(generator: torch.Generator | None, option: str) -> torch.Generator:
    if generator is None:
        raise ConfigError(f"{option}, but there is no generator; give generator=torch.Generator().manual_seed(0).")
    return generator
