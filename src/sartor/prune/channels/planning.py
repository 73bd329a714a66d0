"""Plans which channels of a network leave, and tries the plan before giving it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sartor.errors import ConfigError, PruningError
from sartor.prune.channels.channel_plan import ChannelPlan
from sartor.prune.channels.choosing import choose
from sartor.prune.channels.coupling import Coupling, couple
from sartor.prune.channels.importance import worth
from sartor.prune.channels.trying import check_same, outputs_of
from sartor.types import Inputs

_WITH_HEADS = ("attn_dim", "inner_dim", "all_head_size")
"""What modules call the places of all their heads together."""


def plan(
    model: nn.Module,
    example: Inputs,
    sparsity: float,
    *,
    importance: str | Mapping[str, Tensor] = "l2",
    scope: str = "local",
    normaliser: str | None = None,
    round_to: int | None = None,
    keep: Sequence[str] = (),
    exact: bool = True,
    after: ChannelPlan | None = None,
    generator: torch.Generator | None = None,
) -> ChannelPlan:
    """Plan which channels, heads and groups of a network leave; the network stays as it is.

    `sparsity`: their share. `example`: inputs as the network is trained on, one is enough. `importance`, `generator`:
    see `worth`; `scope`, `normaliser`, `round_to`: see `choose`; `keep`, patterns of modules that keep all that they
    make, `exact`: see `couple`. With `after`, the plan that left `model`, the sparsity counts from before that.
    Raises: ConfigError, PruningError: for options out of range, a sparsity out of reach, a network that cannot shrink.
    Source: Yehya et al. 2026 (PruneFuse), section 4.1; Fang et al. 2023 (DepGraph) for coupled channels.
    Differs: what is coupled is found by following labels of elements, and every plan is tried on the example.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
        raise ConfigError(f"sparsity is {sparsity!r}; it must be a number in [0, 1).")
    coupling = couple(model, example, keep=keep, exact=exact)
    if not coupling.sizes:
        raise PruningError(
            f"{type(model).__name__} has no channels that can leave: those of its inputs and outputs stay, as do those "
            "that are kept or that a norm goes over; it needs a hidden layer."
        )
    units = choose(
        coupling,
        worth(model, coupling, importance, generator),
        sparsity,
        scope=scope,
        normaliser=normaliser,
        round_to=round_to,
        full=_sizes_before(coupling, after),
    )
    asked = {
        "sparsity": sparsity,
        "importance": importance if isinstance(importance, str) else "given scores",
        "scope": scope if scope == "local" else f"{scope}, normaliser {normaliser or 'mean'}",
        "round_to": round_to,
        "keep": list(keep),
        "exact": exact,
    }
    made = ChannelPlan(coupling, units, counted_heads(model, coupling, units), (asked,))
    small = made.shrink(model)
    if exact:
        left = {name: made.blank(name, weight.detach()) for name, weight in model.named_parameters()}
        check_same(model, small, example, left)
    else:
        outputs_of(small, example, {})
    return made


def _sizes_before(coupling: Coupling, after: ChannelPlan | None) -> Sequence[int]:
    """Return how many units each group had in the network that `after` was made for."""
    if after is None:
        return coupling.sizes
    if after.small_shapes() != coupling.shapes:
        raise PruningError("the network is not what the plan given as after leaves; plan on after.shrink(model).")
    sizes: list[int] = []
    ends = torch.tensor([where.stop for _, where in after.coupling.groups()])
    for _, where in coupling.groups():
        (name, dim), units = next(
            item for item in coupling.axes.items() if bool(((item[1] >= where.start) & (item[1] < where.stop)).any())
        )
        place = after.kept[name][dim][int((units == where.start).nonzero()[0])]
        before = after.coupling.axes[name, dim][place]
        sizes.append(after.coupling.sizes[int(torch.bucketize(before, ends, right=True))])
    return sizes


def counted_heads(model: nn.Module, coupling: Coupling, units: Tensor) -> dict[str, dict[str, int]]:
    """Return, for modules that count their heads, the numbers that change when heads leave."""
    found: dict[str, dict[str, int]] = {}
    for name, module in model.named_modules():
        heads = getattr(module, "num_heads", None)
        if not isinstance(heads, int) or isinstance(module, nn.MultiheadAttention):
            continue
        for where in _groups_in(coupling, name, heads):
            left = int(((units >= where.start) & (units < where.stop)).sum())
            sizes = {attribute: getattr(module, attribute, None) for attribute in _WITH_HEADS}
            found[name] = {"num_heads": left} | {
                attribute: size // heads * left
                for attribute, size in sizes.items()
                if isinstance(size, int) and size % heads == 0
            }
    return found


def _groups_in(coupling: Coupling, name: str, count: int) -> Iterator[slice]:
    """Yield the groups of so many units, of several places each, that modules within a module make."""
    for _, where in coupling.groups():
        if where.stop - where.start == count:
            for axis in coupling.made & coupling.axes.keys():
                places = int((coupling.axes[axis] == where.start).sum())
                if axis[0].startswith(f"{name}." if name else "") and places > 1:
                    yield where
                    break
