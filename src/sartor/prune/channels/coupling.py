"""Which channels of a network are one, found by following an example through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from sartor.errors import ConfigError, PruningError, nearest
from sartor.prune.channels.following import Following, tensors_of
from sartor.prune.channels.labels import STAYS
from sartor.prune.channels.rules import rule_of
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

Axis = tuple[str, int]
"""A dimension of a parameter or buffer: its name and the dimension's number."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """What of a network can leave: units (a channel, a head, a group), each with all its places everywhere.

    `axes` has, for each dimension with such places, the unit of each place, -1 for a place that stays. Units with
    places along the same dimensions form a group; they are numbered group by group, in the order of their places.
    `read`: dimensions along which a weight reads channels; `made`: along which it makes them. `heard`, if listened to:
    the largest absolute value that the example brought to each place of the dimensions in `read`.
    """

    shapes: dict[str, tuple[int, ...]]
    axes: dict[Axis, Int64[Tensor, "n"]]
    read: frozenset[Axis]
    made: frozenset[Axis]
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    heard: Mapping[Axis, Float[Tensor, "n"]] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many units there are."""
        return sum(self.sizes)

    def groups(self) -> Iterator[tuple[str, slice]]:
        """Yield each group's name, that of the first module that makes its channels, and where its units are."""
        first = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            yield name, slice(first, first + size)
            first += size


def couple(
    model: nn.Module, example: Inputs, *, keep: Sequence[str] = (), exact: bool = True, listen: bool = False
) -> Coupling:
    """Follow one example through the network and return which channels are one.

    Inputs and outputs stay, as does what a norm, a softmax or a sum goes over (unless `exact` is False) and what the
    modules that match a pattern in `keep` make. The network stays as it is, modes, gradients and buffers included.
    Raises: PruningError: where the network does not take the example, where channels meet what cannot be followed or
        has a size that the code fixes, for a pattern that matches nothing, where nothing is left that can leave.
    """
    state = _state(model)
    to = _follow(model, example, state, exact=exact, listen=listen)
    _hold_heads(model, to)
    _keep(to, keep)
    _settle_elements(to)
    _refuse_obstacles(to, model)
    found = _grouped(to, {name: tuple(tensor.shape) for name, tensor in state.items()})
    _refuse_lumps(found, model)
    return found


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return aliases of all parameters and buffers, so that whatever the network computes passes by."""
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        if is_lazy(tensor):
            raise PruningError(f"{name!r} has no shape yet; run one batch through the model before planning.")
    return {
        name: tensor.detach().requires_grad_(isinstance(tensor, nn.Parameter) and tensor.is_floating_point())
        for name, tensor in named
    }


def _follow(model: nn.Module, example: Inputs, state: dict[str, Tensor], *, exact: bool, listen: bool) -> Following:
    arguments, named = arguments_of(model, example)
    to = Following(state, tensors_of((arguments, named)), rule_of, exact=exact, listen=listen)
    with undisturbed(model), plain_attention(), torch.enable_grad(), to.watching(model):
        try:
            with to:
                out = torch.func.functional_call(model, state, arguments, named)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise does_not_take(model, example, error) from error
        if not tensors_of(out):
            raise PruningError(
                f"{type(model).__name__} puts out a {type(out).__name__}, in which no tensor is found; "
                "let it return tensors, or tuples, lists or dicts of them."
            )
        for tensor in tensors_of(out):
            to.stay(to.labels(tensor))
    return to


def arguments_of(model: nn.Module, example: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return what a network is called with, on the network's device."""
    if not isinstance(example, Tensor | tuple | dict) or not tensors_of(example):
        raise ConfigError(f"the example is a {type(example).__name__}; give a tensor, or a tuple or dict of tensors.")
    device = next((weight.device for weight in model.parameters()), None)
    if isinstance(example, dict):
        return (), {name: tensor.to(device) for name, tensor in example.items()}
    return tuple(tensor.to(device) for tensor in (example if isinstance(example, tuple) else (example,))), {}


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let attention run as separate matrix products, which can be followed."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def does_not_take(model: nn.Module, example: Inputs, error: Exception) -> PruningError:
    """Return the error for an example that the network refuses."""
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(example))
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return PruningError(
        f"{type(model).__name__} does not take the example of shape {shapes} ({reason}); "
        "give a batch of inputs as it is trained on, such as torch.zeros(1, 3, 32, 32)."
    )


def _hold_heads(model: nn.Module, to: Following) -> None:
    """Note that torch's own attention has as many heads, of as many places, as it was made with."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            for part in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
                axis = (f"{name}.{part}".removeprefix("."), 0)
                if axis in to.axes:
                    to.obstruct(to.axes[axis], f"{name!r} is a torch.nn.MultiheadAttention, which cannot lose heads")


def _keep(to: Following, keep: Sequence[str]) -> None:
    """Let stay what the modules that match a pattern make, and what is computed of their parameters."""
    for pattern in keep:
        made = [axis for axis in to.made if _fits(_module(axis[0]), pattern)]
        computed = [name for name in to.elements if _fits(_module(name), pattern)]
        if not made and not computed:
            known = sorted({_module(name) for name, _ in to.made})
            raise PruningError(f"keep={pattern!r} matches no module that makes channels.{nearest(pattern, known)}")
        for name, dim in made:
            to.stay(to.axes[name, dim])
        for name in computed:
            to.stay(to.elements[name])


def _module(name: str) -> str:
    """Return the name of the module that holds a parameter."""
    return name.rpartition(".")[0]


def _fits(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _settle_elements(to: Following) -> None:
    """Turn labels of a parameter's elements into labels along the one dimension along which they differ."""
    for name, elements in to.elements.items():
        labels = to.set.roots(elements)
        running = [dim for dim in range(labels.ndim) if to.set.varies(labels, dim)] or [labels.ndim - 1]
        if len(running) == 1:
            vector = labels.movedim(running[0], 0).reshape(labels.shape[running[0]], -1)[:, 0]
            to.set.unite(to.axis_of(name, running[0]), vector)
        else:
            to.obstruct(labels, f"{name!r} meets channels otherwise than along one of its dimensions")


def _refuse_obstacles(to: Following, model: nn.Module) -> None:
    """Raise PruningError if channels that nothing lets stay met what none of them can leave."""
    labels = {name: to.axes[name, dim] for name, dim in sorted(to.made)} | to.elements
    makers: dict[str, str] = {}
    for obstacle in to.obstacles:
        caught = to.set.roots(obstacle.labels)
        caught = caught[caught != STAYS]
        for name, own in labels.items() if len(caught) else ():
            if bool(torch.isin(to.set.roots(own), caught).any()):
                makers.setdefault(_module(name), obstacle.why)
    if makers:
        _refuse(model, list(makers), next(iter(makers.values())))


def _refuse_lumps(found: Coupling, model: nn.Module) -> None:
    """Raise PruningError if all channels of a layer are one, so that none of them can leave."""
    for name, where in found.groups():
        alone = where.stop - where.start == 1
        if alone and any(int((found.axes[axis] == where.start).sum()) > 1 for axis in found.made & found.axes.keys()):
            _refuse(model, [name], "all of them go together, as those of a single head do")


def _refuse(model: nn.Module, makers: list[str], why: str) -> None:
    patterns = ", ".join(repr(name) for name in makers[:4]) + (", ..." if len(makers) > 4 else "")
    raise PruningError(
        f"{type(model).__name__} cannot lose the channels of {makers[0]!r}: {why}; change that code, "
        f"or let them stay with keep=[{patterns}]."
    )


def _grouped(to: Following, shapes: dict[str, tuple[int, ...]]) -> Coupling:
    """Number the labels that can leave, those along the same dimensions together."""
    if not to.axes:
        return Coupling(shapes, {}, frozenset(), frozenset(), (), ())
    order = {name: place for place, name in enumerate(shapes)}
    axes = sorted(to.axes, key=lambda axis: (order[axis[0]], axis[1]))
    labels = [to.set.roots(to.axes[axis]).numpy() for axis in axes]
    makers = numpy.array([axis in to.made for axis in axes])
    flat, axis_of = numpy.concatenate(labels), numpy.repeat(numpy.arange(len(axes)), [len(found) for found in labels])
    roots, first, unit = numpy.unique(flat, return_index=True, return_inverse=True)
    pairs = numpy.unique(unit * len(axes) + axis_of)
    ends = numpy.flatnonzero(numpy.diff(pairs // len(axes), append=-1)) + 1
    members = numpy.split(pairs % len(axes), ends[:-1])
    signatures: dict[bytes, list[int]] = {}
    for number in numpy.argsort(first):
        if roots[number] != STAYS and makers[members[number]].any():
            signatures.setdefault(members[number].tobytes(), []).append(int(number))
    numbers = numpy.full(len(roots), -1)
    names = []
    for group in signatures.values():
        names.append(axes[next(axis for axis in members[group[0]] if makers[axis])][0].rpartition(".")[0])
        numbers[group] = numpy.arange(len(group)) + (numbers.max() + 1)
    found = {
        axis: torch.from_numpy(numbers[part])
        for axis, part in zip(axes, numpy.split(unit, numpy.cumsum([len(x) for x in labels])[:-1]))
    }
    return Coupling(
        shapes,
        {axis: units for axis, units in found.items() if bool((units >= 0).any())},
        frozenset(to.read),
        frozenset(to.made),
        tuple(len(group) for group in signatures.values()),
        tuple(names),
        to.heard or {},
    )
