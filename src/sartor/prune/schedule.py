"""When masks move, and how much."""

from __future__ import annotations

import math


def cosine_drop(step: int, stop_step: float, initial: float) -> float:
    """Return the share of the living weights that moves at `step`: `initial` at step 0, falling to 0 at `stop_step`.

    Source: Evci et al. 2020 (RigL), section 3, f_decay(t) = a/2 (1 + cos(pi t / T_end)).
    """
    if step >= stop_step:
        return 0.0
    return initial / 2 * (1 + math.cos(math.pi * step / stop_step))


def is_update_step(step: int, every: int, stop_step: float) -> bool:
    """Tell whether the masks move at `step`, counted from 0 in optimiser steps.

    They move at `every`, `2 * every`, ... below `stop_step`, and never at step 0, where the masks are fresh.
    """
    return 0 < step < stop_step and step % every == 0


def cubic(share: float) -> float:
    """Return how much of the pruning is done after a `share` of its time: 1 - (1 - share)^3, from 0 to 1.

    Source: Zhu and Gupta 2017, Eq. 1.
    """
    return 1 - (1 - share) ** 3
