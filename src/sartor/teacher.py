"""A network that teaches another one: it is asked in eval mode, learns nothing itself, and is charged for."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sartor.costs import Flops
from sartor.data.loader import Batch
from sartor.digest import digest
from sartor.losses import distillation
from sartor.scanning import forward

PURPOSE = "distill"
"""The ledger's purpose of the teacher's passes; their seconds count with the training."""


@dataclass(eq=False)
class Teacher:
    """Tells a student what it makes of each mini-batch; see `sartor.losses.distillation` for `weight`, `temperature`.

    With `decay`, it is the moving average of the student's own weights: after step t, min(decay, 1 - 1/t) of what it
    was and the rest of what the student is now; buffers are the student's. Source: Tarvainen and Valpola 2017, section
    3, and their code for t.
    """

    model: nn.Module
    flops: Flops
    weight: float
    temperature: float
    decay: float | None = None
    steps: int = 0

    @classmethod
    def averaging(cls, student: nn.Module, flops: Flops, *, weight: float, temperature: float, decay: float) -> Teacher:
        """Make the teacher that averages a student, from what the student is at the beginning."""
        return cls(copy.deepcopy(student), flops, weight, temperature, decay)

    def mixed(self, losses: Float[Tensor, "b"], logits: Float[Tensor, "b c"], batch: Batch) -> Float[Tensor, "b"]:
        """Return the losses of a mini-batch with what the teacher says of it mixed in."""
        self.model.eval()
        with torch.no_grad():
            taught = forward(self.model, batch.inputs).float()
        return distillation(losses, logits, taught, weight=self.weight, temperature=self.temperature)

    def described(self) -> dict[str, Any]:
        """Return what decides what it says: plain values."""
        options = {"weight": self.weight, "temperature": self.temperature, "decay": self.decay}
        return {"weights": digest(self.model.state_dict()), **options}

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Go on with the average after a step of the student; does nothing for a teacher that is frozen."""
        if self.decay is None:
            return
        self.steps += 1
        decay = min(self.decay, 1 - 1 / self.steps)
        for mine, its in zip(self.model.parameters(), student.parameters(), strict=True):
            mine.lerp_(its.detach(), 1 - decay)
        for buffer, now in zip(self.model.buffers(), student.buffers(), strict=True):
            buffer.copy_(now)

    def state_dict(self) -> dict[str, Any]:
        """Return the network's weights, where they move, and how often they have."""
        return {} if self.decay is None else {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        if self.decay is not None:
            self.model.load_state_dict(state["model"])
            self.steps = state["steps"]
