"""The head of a network, the Linear that makes the logits, and what goes into it."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from sartor.errors import ConfigError, SelectionError, nearest


class HeadTap:
    """Catches what goes into the Linear whose output is the logits; finds that Linear at the first batch unless named.

    Raises: ConfigError: for a name that no Linear has. SelectionError: where no Linear's output is the logits.
    """

    def __init__(self, model: nn.Module, name: str | None) -> None:
        self.linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
        self.name = name
        self.calls: dict[str, tuple[Tensor, Tensor]] = {}
        if name is not None and name not in self.linears:
            known = ", ".join(self.linears) or "none"
            hint = nearest(name, self.linears)
            raise ConfigError(f"head is {name!r}; it must name one of the model's Linear modules: {known}.{hint}")
        self.handles = {
            path: module.register_forward_hook(partial(self._note, path), with_kwargs=True)
            for path, module in self.linears.items()
            if name in (None, path)
        }

    @property
    def bias(self) -> bool:
        """Whether the Linear has a bias."""
        return self.name is None or self.linears[self.name].bias is not None

    def take(self, logits: Tensor) -> Tensor:
        """Return the features of the batch that has just run."""
        if self.name is None:
            self.name = next((path for path, (_, made) in self.calls.items() if made is logits), None)
            if self.name is None:
                known = ", ".join(self.linears) or "none"
                raise SelectionError(
                    f"no Linear returns the model's output as it is, so the features are unknown; name the Linear that "
                    f"makes the logits with head=NAME, one of: {known}."
                )
            for path, handle in self.handles.items():
                if path != self.name:
                    handle.remove()
        found = self.calls.get(self.name)
        self.calls.clear()
        if found is None or found[1].shape != logits.shape:
            shape = "did not run" if found is None else f"returns {tuple(found[1].shape)}"
            raise SelectionError(
                f"head {self.name!r} {shape} but the logits are {tuple(logits.shape)}; name the Linear that makes them."
            )
        return found[0]

    def remove(self) -> None:
        """Leave the model without a trace."""
        self.calls.clear()
        for handle in self.handles.values():
            handle.remove()

    def _note(self, path: str, _: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        if output.ndim == 2:
            self.calls[path] = (args[0] if args else kwargs["input"], output)
