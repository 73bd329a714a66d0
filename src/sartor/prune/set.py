"""SET: sparse training that drops small weights and grows others at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sartor.prune.masks import Masks
from sartor.prune.rewiring import Rewiring
from sartor.randomness import generator
from sartor.registry import PRUNERS


@PRUNERS.register("set")
@dataclass(frozen=True)
class SET(Rewiring):
    """Trains sparse from the first step; drops small weights and grows others at random (Mocanu et al. 2018).

    The options are those of `rigl`. The draws follow from the masks and the step alone: the same on every rank, and in
    a run that goes on after a stop. No step needs a dense gradient.
    Source: Mocanu et al. 2018, Algorithm 1, lines 11-16.
    Differs: the original moves once an epoch, and the same share until the end; here it falls by RigL's cosine and the
    masks rest after `stop`, as in Evci et al. 2020. It drops the smallest positive and the largest negative weights
    apart, and never grows back at once what it has just dropped.
    """

    def demands(self, masks: Masks, step: int) -> Mapping[str, Float[Tensor, "..."] | None]:
        """Return uniform random numbers, drawn on the CPU in the order of the masks."""
        source = generator(int(masks.digest()[:15], 16), "set", step)
        return {
            name: torch.rand(masks[name].shape, generator=source).to(masks.parameter(name).device)
            for name in masks.names
        }
