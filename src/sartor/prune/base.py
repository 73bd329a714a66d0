"""What most pruners have in common: one pass a step, nothing around it, masks that stay as they were made."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from torch import nn

from sartor.prune.masks import Masks
from sartor.types import Pruner


class BasePruner:
    """The answers that most pruners give; a pruner adds `init`, and `moves` and `update` where its masks move."""

    needs_gradient: ClassVar[bool] = False
    """Whether a move needs the gradients of dead weights."""

    @property
    def passes(self) -> int:
        """One forward-backward pass a step."""
        return 1

    def forward(self, model: nn.Module, masks: Masks) -> AbstractContextManager[None]:
        """Do nothing: the weights themselves are masked."""
        return nullcontext()

    def moves(self, step: int, total_steps: int) -> bool:
        """Masks stay as `init` made them."""
        return False

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Leave the masks; the optimiser may step."""
        return True

    def finish(self, model: nn.Module, masks: Masks) -> None:
        """Do nothing: the masks are settled already."""


def needs_gradient(pruner: Pruner) -> bool:
    """Tell whether a pruner's moves need the gradients of dead weights; if it does not say so, they do."""
    return bool(getattr(pruner, "needs_gradient", True))


def uses_dense_gradient(pruner: Pruner, step: int, total_steps: int) -> bool:
    """Tell whether the update at `step` needs the gradients of dead weights, which the step then has to pay for."""
    return needs_gradient(pruner) and pruner.moves(step, total_steps)


def finite_gradients(model: nn.Module) -> bool:
    """Tell whether all gradients of a model are finite; where they are not, a loss scaler will skip the step."""
    return all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
