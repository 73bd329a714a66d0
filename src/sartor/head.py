"""The head of a network: the Linear that makes the logits, or another module that takes the features in."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sartor.errors import ConfigError, SelectionError, nearest
from sartor.registry import SELECTORS


class HeadTap:
    """Catches what goes into the head of a model: the features.

    The head is the Linear whose output is the logits, found at the first batch, or the module called `name`. That may
    be of any kind, if it takes the features as its first argument; of a Linear it is checked that it makes the logits.
    Raises: ConfigError: for a name that no module has. SelectionError: where no Linear's output is the logits, where
        the named module does not run, or takes or makes something else.
    """

    def __init__(self, model: nn.Module, name: str | None) -> None:
        self.modules = dict(model.named_modules())
        self.linears = [path for path, module in self.modules.items() if isinstance(module, nn.Linear)]
        self.name = name
        self.calls: dict[str, tuple[Any, Any]] = {}
        if name is not None and name not in self.modules:
            known = ", ".join(self.linears) or "none"
            hint = nearest(name, self.modules)
            raise ConfigError(f"head is {name!r}; it must name a module of the model. Its Linear ones: {known}.{hint}")
        self.handles = {
            path: self.modules[path].register_forward_hook(partial(self._note, path), with_kwargs=True)
            for path in (self.linears if name is None else [name])
        }

    @property
    def bias(self) -> bool | None:
        """Whether the head has a bias; None where it is no Linear, or one with a forward of its own."""
        if self.name is None:
            return True
        head = self.modules[self.name]
        return head.bias is not None if _is_linear(head) else None

    def take(self, logits: Tensor) -> Tensor:
        """Return the features of the batch that has just run."""
        if self.name is None:
            self.name = self._find(logits)
        call = self.calls.get(self.name)
        self.calls.clear()
        if call is None:
            made_of = f"the logits are {tuple(logits.shape)}"
            raise SelectionError(f"head {self.name!r} did not run but {made_of}; name a module that the model calls.")
        features, made = call
        if isinstance(self.modules[self.name], nn.Linear):
            if made.shape != logits.shape:
                found = f"returns {tuple(made.shape)} but the logits are {tuple(logits.shape)}"
                raise SelectionError(f"head {self.name!r} {found}; name the Linear that makes them.")
        elif not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(logits):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise SelectionError(f"head {self.name!r} takes {shape}; name a module that takes (batch, features).")
        return features

    def remove(self) -> None:
        """Leave the model without a trace."""
        self.calls.clear()
        for handle in self.handles.values():
            handle.remove()

    def _find(self, logits: Tensor) -> str:
        """Return the Linear that made the logits, and let the others go."""
        name = next((path for path, (_, made) in self.calls.items() if made is logits), None)
        if name is None:  # a cast to float32, which mixed precision makes another tensor of
            alike = [path for path, (_, made) in self.calls.items() if _same_values(made, logits)]
            name = alike[0] if len(alike) == 1 else None
        if name is None:
            known = ", ".join(self.linears) or "none"
            raise SelectionError(
                "no Linear returns the model's output as it is, so the features are unknown; name the Linear that "
                f"makes the logits with head=NAME, one of: {known}; or the module that takes the features in; or "
                "choose a selector that reads no features, such as el2n."
            )
        for path, handle in self.handles.items():
            if path != name:
                handle.remove()
        return name

    def _note(self, path: str, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self.name is not None or output.ndim == 2:
            self.calls[path] = (args[0] if args else next(iter(kwargs.values()), None), output)


def _same_values(made: Any, logits: Tensor) -> bool:
    """Tell whether logits are what a module made, but for their type."""
    return isinstance(made, Tensor) and made.shape == logits.shape and torch.equal(made.float(), logits.float())


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a module computes W x + b: a Linear, or a kind of it that keeps its forward (weight norm does)."""
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def needs_linear_head(selector: object) -> bool:
    """Tell whether a selector works with the gradient of the last Linear, which no other head has."""
    return bool(getattr(selector, "needs_linear_head", False))


def no_linear_head() -> SelectionError:
    """Make the error of a selector that needs a Linear as the head where there is none; it names the others."""
    others = ", ".join(name for name in SELECTORS if not needs_linear_head(SELECTORS[name]))
    return SelectionError(
        "the selector works with the gradient of the Linear that makes the logits, but the head that is named is no "
        f"Linear; name that Linear, or choose a selector that works with any head: {others}."
    )
