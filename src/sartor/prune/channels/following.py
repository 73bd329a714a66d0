"""Follows channels through a network: labels beside every tensor of one forward pass, on whatever the network calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sartor.prune.channels.labels import FIXED, STAYS, Labels, compact


class Coordinates(NamedTuple):
    """A parameter or buffer, or a part of one moved about: for each of its own dimensions, where an element is."""

    name: str
    places: tuple[Int64[Tensor, "..."], ...]

    def along(self, dim: int) -> tuple[int, Int64[Tensor, "n"]] | None:
        """Return the own dimension that runs along `dim`, and the places in it; None where there is not just one."""
        runs = [own for own, place in enumerate(self.places) if _runs(place, dim)]
        own = runs[0] if runs else next((own for own, place in enumerate(self.places) if _still(place)), None)
        if own is None or len(runs) > 1:
            return None
        place = self.places[own]
        if any(_runs(place, other) for other in range(place.ndim) if other != dim):
            return None
        return own, place.movedim(dim, 0).reshape(place.shape[dim], -1)[:, 0]


class Obstacle(NamedTuple):
    """Channels that cannot leave although nothing says that they are to stay, and why."""

    labels: Int64[Tensor, "n"]
    why: str


Rule = Callable[["Following", Any, tuple[Any, ...], dict[str, Any], Any], None]


class Following(TorchDispatchMode):
    """While active, gives every tensor the labels of its elements, by a rule for each operation.

    `tensors` are the network's parameters and buffers by name, as the forward pass sees them; `inputs` goes in.
    What no rule knows is an obstacle for all channels that go into it. Afterwards, `axes` has the labels of every
    dimension of every parameter that took part, `read` those dimensions along which a weight reads channels,
    `made` those along which it makes them. With `exact` channels stay over which a norm, a softmax or a sum goes, and
    with `listen`, `heard` has the largest absolute value that each place along a dimension of `read` met.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        inputs: list[Tensor],
        rules: Callable[[Any], Rule],
        *,
        exact: bool,
        listen: bool,
    ) -> None:
        super().__init__()
        self.set, self.rules, self.exact = Labels(), rules, exact
        self.axes: dict[tuple[str, int], Tensor] = {}
        self.elements: dict[str, Tensor] = {}
        self.read: set[tuple[str, int]] = set()
        self.made: set[tuple[str, int]] = set()
        self.obstacles: list[Obstacle] = []
        self.heard: dict[tuple[str, int], Tensor] | None = {} if listen else None
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self._known: dict[int, tuple[Tensor, Tensor | Coordinates]] = {}
        self._within: list[str] = []
        for name, tensor in tensors.items():
            self.give(tensor, Coordinates(name, _places(tensor.shape)))
        for tensor in inputs:
            self.give(tensor, torch.tensor(STAYS).expand(tensor.shape))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.rules(func)(self, func, args, kwargs or {}, out)
        return out

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Remember which module runs, to name it where channels cannot be followed."""

        def leave(*_: Any) -> None:  # a hook that returned something would replace the output
            self._within.pop()

        hooks: list[Any] = []
        for name, module in model.named_modules():
            entry = f"{name or 'the model'!r} ({type(module).__name__})"
            hooks.append(module.register_forward_pre_hook(lambda *_, entry=entry: self._within.append(entry)))
            hooks.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def give(self, tensor: Tensor, known: Tensor | Coordinates) -> None:
        """Say what is known of a tensor; the tensor is kept until the end, for it is known by identity."""
        self._known[id(tensor)] = (tensor, known)

    def coordinates(self, tensor: Any) -> Coordinates | None:
        """Return where a tensor lies in a parameter or buffer, if it is a part of one."""
        known = self._known.get(id(tensor), (None, None))[1]
        return known if isinstance(known, Coordinates) else None

    def labels(self, tensor: Tensor) -> Int64[Tensor, "..."]:
        """Return the labels of a tensor's elements; those of a parameter's are its elements' own."""
        known = self._known.get(id(tensor), (None, None))[1]
        if known is None:
            return torch.tensor(FIXED).expand(tensor.shape)
        if not isinstance(known, Coordinates):
            return self.set.roots(known)
        own, shape = self.elements.get(known.name), self._shapes[known.name]
        if torch.Size(shape).numel() == 1:  # a single number has no channels
            return torch.tensor(STAYS).expand(tensor.shape)
        if own is None:
            own = self.elements[known.name] = self.set.fresh(torch.Size(shape).numel()).reshape(shape)
        return self.set.roots(own[known.places])

    def axis(self, coordinates: Coordinates, dim: int) -> Int64[Tensor, "n"] | None:
        """Return the labels of a parameter's places along a dimension of one of its parts; None where it is mixed."""
        found = coordinates.along(dim)
        if found is None:
            return None
        return self.axis_of(coordinates.name, found[0])[found[1]]

    def axis_of(self, name: str, dim: int) -> Int64[Tensor, "n"]:
        """Return the labels of a parameter's own dimension."""
        if (name, dim) not in self.axes:
            self.axes[name, dim] = self.set.fresh(self._shapes[name][dim])
        return self.axes[name, dim]

    def read_along(self, coordinates: Coordinates, dim: int, values: Tensor) -> None:
        """Note that a weight reads along a dimension, and what it met there, place by place in the last of `values`."""
        found = coordinates.along(dim)
        assert found is not None
        axis = coordinates.name, found[0]
        self.read.add(axis)
        if self.heard is not None:
            loudest = self.heard.setdefault(axis, torch.zeros(self._shapes[axis[0]][axis[1]]))
            met = values.detach().reshape(-1, values.shape[-1]).abs().amax(0).float().cpu()
            loudest[found[1]] = torch.maximum(loudest[found[1]], met)

    def made_along(self, coordinates: Coordinates, dim: int) -> None:
        """Note that a weight makes channels along a dimension."""
        found = coordinates.along(dim)
        assert found is not None
        self.made.add((coordinates.name, found[0]))

    def stay(self, labels: Int64[Tensor, "..."]) -> None:
        """Let channels stay."""
        self.set.unite(_channels(self.set.roots(labels)), torch.tensor(STAYS))

    def obstruct(self, labels: Int64[Tensor, "..."], why: str) -> None:
        """Note that these channels cannot leave, unless they are found to stay anyway."""
        found = _channels(self.set.roots(labels))
        if len(found):
            place = f" in {self._within[-1]}" if self._within else ""
            self.obstacles.append(Obstacle(found, why + place))

    def refuse_computed(self, tensor: Tensor, func: Any) -> bool:
        """Note as an obstacle if a weight is made of parameters rather than one; tell whether it is."""
        labels = self.labels(tensor)
        found = _channels(labels)
        elements, axes = (self._all(held.values()) for held in (self.elements, self.axes))
        computed = bool((torch.isin(found, elements) & ~torch.isin(found, axes)).any())
        if computed:
            self.obstruct(labels, f"a weight is no parameter but computed of one ({func})")
        return computed

    def pair(self, one: Int64[Tensor, "..."], other: Int64[Tensor, "..."], why: str) -> Int64[Tensor, "..."]:
        """Return the labels of elements made of two, with broadcasting; channels that meet become one.

        A tensor that is broadcast over all channels of the other leaves them alone, and its own, if any, stay; one of
        their size without channels makes them stay, or is an obstacle where the network's code has made it.
        """
        one, other = self.set.roots(one), self.set.roots(other)
        if one.shape == other.shape and bool((compact(one) > FIXED).all()) and bool((compact(other) > FIXED).all()):
            self.set.unite(one, other)
            return self.set.roots(one)
        shape = torch.broadcast_shapes(one.shape, other.shape)
        for narrow, full in ((one, other), (other, one)):
            if not _bare(full) and self._broadcast(narrow, full, alone=_bare(narrow)):
                self.stay(narrow)
                return full.expand(shape)
        left, right = torch.broadcast_tensors(compact(one), compact(other))
        both = (left > FIXED) & (right > FIXED)
        self.set.unite(left[both], right[both])
        for bare, full in ((left, right), (right, left)):
            self.stay(full[bare == STAYS])
            self.obstruct(full[bare == FIXED], why)
        bare = torch.where(right > FIXED, right, torch.minimum(left, right))
        return self.set.roots(torch.where(left > FIXED, left, bare)).expand(shape)

    def one_along(self, labels: Int64[Tensor, "..."], dims: tuple[int, ...], why: str) -> Int64[Tensor, "..."]:
        """Make channels one along `dims`; return the labels, of size 1 there."""
        first = labels
        for dim in dims:
            first = first.narrow(dim, 0, 1)
        if any(self.set.varies(labels, dim) for dim in dims):
            self.pair(labels, first.expand(labels.shape).clone(), why)
        return self.set.roots(first)

    def _all(self, held: Iterable[Tensor]) -> Int64[Tensor, "n"]:
        return torch.cat([torch.empty(0, dtype=torch.int64), *(_channels(self.set.roots(labels)) for labels in held)])

    def _broadcast(self, narrow: Tensor, full: Tensor, alone: bool) -> bool:
        """Tell whether a tensor has size 1 wherever the labels of another vary; if `alone`, they need not vary."""
        sizes = (1,) * (full.ndim - narrow.ndim) + tuple(narrow.shape)
        varying = [dim for dim in range(-full.ndim, 0) if self.set.varies(full, dim)]
        return (alone or bool(varying)) and all(sizes[dim] == 1 for dim in varying)


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors in arguments or results, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _places(shape: torch.Size) -> tuple[Tensor, ...]:
    return tuple(
        torch.arange(side).reshape(-1, *[1] * (len(shape) - dim - 1)).expand(shape) for dim, side in enumerate(shape)
    )


def _runs(place: Tensor, dim: int) -> bool:
    small = compact(place)
    return small.shape[dim] > 1 and not bool((small == small.narrow(dim, 0, 1)).all())


def _still(place: Tensor) -> bool:
    return not any(_runs(place, dim) for dim in range(place.ndim))


def _bare(labels: Tensor) -> bool:
    return not bool((compact(labels) > FIXED).any())


def _channels(labels: Tensor) -> Tensor:
    small = compact(labels).flatten()
    return torch.unique(small[small > FIXED])
