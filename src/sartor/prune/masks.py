"""Which weights live: masks by parameter name, enforced on the user's own module."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.optim import Optimizer

from sartor.errors import PruningError, nearest
from sartor.ranking import size_of


@dataclass(frozen=True)
class Counts:
    """Numbers of weights by parameter name: in all, living now, and living in the end."""

    total: Mapping[str, int]
    kept: Mapping[str, int]
    goal: Mapping[str, int]

    def reached(self, share: float) -> dict[str, int]:
        """Return how many weights live at a `share` of the way from dense, 0, to the goal, 1."""
        return {name: n - size_of(share, n - self.goal[name]) for name, n in self.total.items()}

    def densities(self, kept: Mapping[str, int] | None = None) -> dict[str, float]:
        """Return the share of living weights of each parameter, now or where so many of them live."""
        living = self.kept if kept is None else kept
        return {name: living[name] / n for name, n in self.total.items()}


class Masks:
    """Masks (True = the weight lives) over some of a model's own parameters, by parameter name.

    Nothing is wrapped or renamed. One training step: backward, unscale, `pruner.update`, `apply_to_gradients`, clip,
    optimiser step; once attached to the optimiser, dead weights are zero again after each of its steps. Masks follow
    their parameters to another device, dtype or memory layout. `goal`: how many weights of each parameter their pruner
    means to keep in the end, if not as many as now.
    Raises: PruningError: for a name that the model lacks, another shape, a mask that is not boolean, or a shared
    parameter that is masked under two names.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor], *, goal: Mapping[str, int] | None = None) -> None:
        self.model = model
        self._parameters = _named(model, masks)
        self._masks = {name: self._checked(name, mask) for name, mask in masks.items()}
        self._kept = {name: int(mask.sum()) for name, mask in self._masks.items()}
        self._goal = dict(self._kept if goal is None else goal)
        self._copies: dict[str, Tensor] = {}
        self._optimizer: Optimizer | None = None
        self._hooks: list[Any] = []

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """What a pruner learns beside the weights: processes that train together add up its gradients, too."""
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """The masked parameters."""
        return tuple(self._masks)

    def __getitem__(self, name: str) -> Bool[Tensor, "..."]:
        """Return a mask on its parameter's device; change it by `move` only."""
        return self._masks[name].to(self._parameters[name].device)

    def parameter(self, name: str) -> Tensor:
        """Return the masked parameter itself."""
        return self._parameters[name]

    def kept(self, name: str | None = None) -> int:
        """Return the number of living weights, of one parameter or of all masked ones."""
        return sum(self._kept.values()) if name is None else self._kept[name]

    def total(self) -> int:
        """Return the number of weights that the masks cover, dead ones included."""
        return sum(mask.numel() for mask in self._masks.values())

    def density(self) -> float:
        """Return the share of living weights among the covered ones (1 if the masks cover nothing)."""
        return self.kept() / self.total() if self._masks else 1.0

    def densities(self) -> dict[str, float]:
        """Return the share of living weights of each masked parameter."""
        return {name: self._kept[name] / mask.numel() for name, mask in self._masks.items()}

    @property
    def counts(self) -> Counts:
        """Numbers of weights by parameter: in all, living now, and living in the end."""
        return Counts({name: mask.numel() for name, mask in self._masks.items()}, dict(self._kept), dict(self._goal))

    def digest(self) -> str:
        """Return the SHA-256 of all names, shapes and masks; equal masks have equal digests on any device."""
        sha = hashlib.sha256()
        for name in sorted(self._masks):
            mask = self._masks[name].cpu().numpy()
            sha.update(f"{name} {mask.shape}\n".encode())
            sha.update(numpy.packbits(mask).tobytes())
        return sha.hexdigest()

    def attach(self, optimizer: Optimizer) -> Masks:
        """Set dead weights to zero now and after every step of `optimizer`, and let go of an earlier one.

        Hooks are no part of an optimiser's state or copy: attach again after loading or copying one.
        Raises: PruningError: if a masked parameter that needs gradients is not in the optimiser; later, at a step with
        a closure, because that evaluates the model with weights that no mask has seen.
        """
        self._parameters = _named(self.model, self._masks)
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in self._parameters.items():
            if parameter.requires_grad and id(parameter) not in held:
                raise PruningError(
                    f"the optimiser does not hold the masked parameter {name!r}; "
                    "make it from model.parameters() of the model as it is now."
                )
        self.detach()
        self._optimizer = optimizer
        self._hooks = [
            optimizer.register_step_pre_hook(_refuse_closure),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self.apply()
        return self

    def detach(self) -> None:
        """Let go of the optimiser; weights stay as they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._optimizer = [], None

    @torch.no_grad()
    def apply(self) -> None:
        """Set dead weights to zero, whatever they hold (infinities and NaN too)."""
        for name, parameter in self._parameters.items():
            parameter.masked_fill_(~self[name], 0)

    @torch.no_grad()
    def apply_to_gradients(self) -> None:
        """Set the gradients of dead weights to zero, so that clipping and momentum see living weights only.

        An infinite or NaN gradient of a dead weight becomes NaN, so that a loss scaler still skips the step.
        """
        found = [
            (p.grad, copy) for p, copy in zip(self._parameters.values(), self._like_parameters()) if p.grad is not None
        ]
        if found:
            torch._foreach_mul_([gradient for gradient, _ in found], [copy for _, copy in found])

    @torch.no_grad()
    def move(self, name: str, new_mask: Bool[Tensor, "..."]) -> None:
        """Replace one mask. Weights that die or are born become zero, as does the optimiser's memory of them.

        Every tensor of the parameter's shape in the attached optimiser's state is such memory (momentum, Adam's two
        moments, ...). Weights that live before and after keep their value and momentum.
        Raises: PruningError: for an unknown name, another shape or a mask that is not boolean.
        """
        new = self._checked(name, new_mask)
        changed = self[name] ^ new
        parameter = self._parameters[name]
        parameter.masked_fill_(changed, 0)
        state = self._optimizer.state.get(parameter, {}) if self._optimizer is not None else {}
        for slot in state.values():
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slot.masked_fill_(changed.to(slot.device), 0)
        self._store(name, new)

    def bake(self) -> None:
        """Leave the zeros in the weights for good and let go of the optimiser."""
        self.apply()
        self.detach()

    def state_dict(self) -> dict[str, Bool[Tensor, "..."]]:
        """Return a copy of every mask by parameter name, on the CPU."""
        return {name: mask.detach().cpu().clone() for name, mask in self._masks.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the masks of `state_dict` and set dead weights to zero.

        Raises: PruningError: if names or shapes differ from the present ones; nothing is changed then.
        """
        missing, unknown = sorted(set(self.names) - set(state)), sorted(set(state) - set(self.names))
        if missing or unknown:
            raise PruningError(
                f"these masks belong to other weights: missing {missing or 'none'}, not known {unknown or 'none'}; "
                "make the masks with the model and sparsity that they were saved with."
            )
        checked = {name: self._checked(name, state[name]) for name in self._masks}
        for name, mask in checked.items():
            self._store(name, mask)
        self.apply()

    def _store(self, name: str, mask: Tensor) -> None:
        self._masks[name] = mask
        self._kept[name] = int(mask.sum())
        self._copies.pop(name, None)

    def _checked(self, name: str, mask: Tensor) -> Tensor:
        """Return an own copy of `mask` in row-major order on the parameter's device."""
        if name not in self._parameters:
            raise PruningError(f"there is no mask for {name!r}.{nearest(name, self._parameters)}")
        parameter = self._parameters[name]
        if mask.dtype != torch.bool or mask.shape != parameter.shape:
            raise PruningError(
                f"the mask for {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"it must be torch.bool of shape {tuple(parameter.shape)}."
            )
        return mask.detach().to(parameter.device, copy=True, memory_format=torch.contiguous_format)

    def _like_parameters(self) -> list[Tensor]:
        """Return each mask as ones and zeros in its parameter's present dtype, device and memory layout."""
        for name, parameter in self._parameters.items():
            copy = self._copies.get(name)
            if copy is None or not _alike(copy, parameter):
                self._copies[name] = torch.empty_like(parameter, requires_grad=False).copy_(self._masks[name])
        return [self._copies[name] for name in self._masks]

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._masks:
            torch._foreach_mul_(list(self._parameters.values()), self._like_parameters())


def _named(model: nn.Module, names: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    known = dict(model.named_parameters(remove_duplicate=False))
    owners: dict[int, str] = {}
    for name in names:
        if name not in known:
            raise PruningError(f"the model has no parameter {name!r} to mask.{nearest(name, known)}")
        first = owners.setdefault(id(known[name]), name)
        if first != name:
            raise PruningError(f"{first!r} and {name!r} are one shared parameter; mask it under one name.")
    return {name: known[name] for name in names}


def _alike(copy: Tensor, parameter: Tensor) -> bool:
    return copy.dtype == parameter.dtype and copy.device == parameter.device and copy.stride() == parameter.stride()


def _refuse_closure(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if kwargs.get("closure") is not None or any(callable(argument) for argument in args[1:]):
        raise PruningError(
            f"{type(optimizer).__name__}.step was given a closure, which evaluates the model between the masks; "
            "call backward yourself and then step() without one (LBFGS cannot train a masked model)."
        )
