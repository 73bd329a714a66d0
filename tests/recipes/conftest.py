"""What tests of recipes share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sartor.recipes.staged import Stage, Stages


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Stage, dict[str, torch.Tensor]]]:
    """All stages that are carried out, with the weights with which each began."""
    seen: list[tuple[Stage, dict[str, torch.Tensor]]] = []
    original = Stages.carry_out

    def watching(self: Stages, stage: Stage, *place: Any) -> Any:
        seen.append((stage, {name: value.clone() for name, value in stage.model.state_dict().items()}))
        return original(self, stage, *place)

    monkeypatch.setattr(Stages, "carry_out", watching)
    return seen
