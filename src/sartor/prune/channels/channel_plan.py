"""A plan: which channels of a network stay, for every parameter and buffer; a plain file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from sartor.errors import PruningError
from sartor.files import write_atomic
from sartor.prune.channels import plan_file
from sartor.prune.channels.coupling import Coupling
from sartor.prune.channels.fitting import fit_to_tensors


@dataclass(frozen=True, eq=False)
class ChannelPlan:
    """Which units (channels, heads, groups) of a network stay, and where each is in every parameter and buffer.

    It is made by `plan` and needs nothing but itself: with the dense network it makes the small one, with both it puts
    the small one's weights back (`sartor.fuse`). `units` are the kept units of `coupling`, ascending. `attributes` are
    numbers that modules hold of their own, such as heads. `about` says, for each step, what was asked for.
    """

    coupling: Coupling
    units: Int64[Tensor, "k"]
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    about: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def kept(self) -> dict[str, dict[int, Int64[Tensor, "k"]]]:
        """Kept indices, ascending, by parameter or buffer and dimension; dimensions that are not named stay whole."""
        stays = self.stays
        found: dict[str, dict[int, Tensor]] = {}
        for (name, dim), units in self.coupling.axes.items():
            found.setdefault(name, {})[dim] = (stays[units] | (units < 0)).nonzero().squeeze(1)
        return found

    @property
    def stays(self) -> Bool[Tensor, "u"]:
        """For each unit, whether it stays."""
        mask = torch.zeros(self.coupling.units, dtype=torch.bool)
        mask[self.units] = True
        return mask

    @property
    def groups(self) -> dict[str, tuple[int, int]]:
        """Kept units and all units of each group, by the name of the first module that makes them, #2, #3 if more."""
        stays, found = self.stays, {}
        for name, where in self.coupling.groups():
            key, number = name, 2
            while key in found:
                key, number = f"{name}#{number}", number + 1
            found[key] = (int(stays[where].sum()), where.stop - where.start)
        return found

    @property
    def sparsity(self) -> float:
        """The share of units that leave."""
        return 1 - len(self.units) / self.coupling.units

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Return what stays of a tensor shaped like a parameter or buffer: a weight, a mask, a momentum."""
        for dim, places in self.kept.get(name, {}).items():
            tensor = tensor.index_select(dim, places.to(tensor.device))
        return tensor

    def shrink(self, model: nn.Module) -> nn.Module:
        """Return the small network: a copy of the dense one in which only kept channels are left.

        The dense network stays as it is. Parameters are new objects, so make the optimiser afterwards.
        Raises: PruningError: if the plan was made for another network.
        """
        self.check_dense(model)
        held: list[tuple[str, Tensor]] = [*model.named_parameters(), *model.named_buffers()]
        new = {id(tensor): _like(tensor, self.cut(name, tensor.detach())) for name, tensor in held}
        small = copy.deepcopy(model, memo=dict(new))
        for module in small.modules():
            fit_to_tensors(module)
        for name, values in self.attributes.items():
            for attribute, value in values.items():
                setattr(small.get_submodule(name), attribute, value)
        return small

    def blank(self, name: str, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor shaped like a parameter or buffer in which all that leaves is zero."""
        tensor = tensor.clone()
        for dim, places in self.kept.get(name, {}).items():
            leaves = torch.ones(tensor.shape[dim], dtype=torch.bool)
            leaves[places] = False
            tensor.index_fill_(dim, leaves.nonzero().squeeze(1).to(tensor.device), 0)
        return tensor

    def small_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the small network's parameters and buffers."""
        kept = self.kept
        return {
            name: tuple(len(kept.get(name, {}).get(dim, range(side))) for dim, side in enumerate(shape))
            for name, shape in self.coupling.shapes.items()
        }

    def then(self, after: ChannelPlan) -> ChannelPlan:
        """Return the plan that goes at once where this one and, on its small network, `after` go one by one.

        Raises: PruningError: if `after` was not made on this plan's small network, with the same `keep` and `exact`.
        """
        if after.coupling.shapes != self.small_shapes():
            raise PruningError("the second plan was not made on what the first one leaves; plan on plan.shrink(model).")
        if set(after.coupling.axes) - set(self.coupling.axes):
            raise PruningError("the second plan cuts what the first one lets stay; give both the same keep and exact.")
        before, left = self._places(self.kept), self._places(self._composed(after))
        partly = (left > 0) & (left < before)
        if bool(partly.any()):
            raise PruningError("the plans take different channels for one; make both with the same keep and exact.")
        attributes = {**self.attributes, **after.attributes}
        return ChannelPlan(self.coupling, (left > 0).nonzero().squeeze(1), attributes, (*self.about, *after.about))

    def save(self, path: str | Path) -> None:
        """Write the plan as a JSON file, atomically."""
        write_atomic(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return what `save` writes."""
        return plan_file.written(self.coupling, self.units, self.attributes, self.about).encode()

    @classmethod
    def load(cls, path: str | Path) -> ChannelPlan:
        """Read a plan. Raises: PruningError: if the file is missing, damaged, or no plan."""
        return cls(*plan_file.read(Path(path)))

    def check_dense(self, model: nn.Module) -> None:
        """Raise PruningError unless the network has the parameters and buffers that the plan was made for."""
        check_shapes(model, self.coupling.shapes, "the dense network")

    def check_small(self, model: nn.Module) -> None:
        """Raise PruningError unless the network has the parameters and buffers that the plan leaves."""
        check_shapes(model, self.small_shapes(), "the small network")

    def _composed(self, after: ChannelPlan) -> dict[str, dict[int, Tensor]]:
        """Return the kept indices, in this plan's dense network, of what `after` keeps."""
        return {
            name: {dim: places[after.kept.get(name, {}).get(dim, slice(None))] for dim, places in dims.items()}
            for name, dims in self.kept.items()
        }

    def _places(self, kept: Mapping[str, Mapping[int, Tensor]]) -> Int64[Tensor, "u"]:
        """Return how many of each unit's places are among the kept ones."""
        count = torch.zeros(self.coupling.units, dtype=torch.int64)
        for (name, dim), units in self.coupling.axes.items():
            own = units[kept[name][dim]]
            count += torch.bincount(own[own >= 0], minlength=len(count))
        return count


def check_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], which: str) -> None:
    """Raise PruningError unless a network's parameters and buffers have these names and shapes."""
    found = {name: tuple(tensor.shape) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    for name in (*shapes, *found):
        if found.get(name) != shapes.get(name):
            has = f"is {found[name]}" if name in found else "is missing"
            wanted = f"must be {shapes[name]}" if name in shapes else "is not known to the plan"
            raise PruningError(
                f"this {type(model).__name__} is not {which} of the plan: {name!r} {has} and {wanted}; "
                "make the network with the factory and options that the plan was made with."
            )


def _like(old: Tensor, new: Tensor) -> Tensor:
    """Return a tensor as a parameter, if the old one was one, that is trained or frozen as it was."""
    new = new.clone(memory_format=_layout(old))
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new


def _layout(old: Tensor) -> torch.memory_format:
    last = old.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last) and not old.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
