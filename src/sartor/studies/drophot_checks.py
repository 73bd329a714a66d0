"""What in DropHot's grid would have no effect, or would compare other things than it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.errors import ConfigError, check_effects
from sartor.recipes.defects import read_defects
from sartor.studies.drophot_cells import ARMS, reaching

if TYPE_CHECKING:
    from sartor.studies.drophot_grid import DropHotStudy


def check_combinations(study: DropHotStudy) -> None:
    """Raise ConfigError for options without effect in a grid, and for defects that are not the only difference."""
    kinds = [ARMS[arm] for arm in study.arms]
    scored = any("match" in kind or kind["selector"].startswith("forgetting") for kind in kinds)
    needed = {
        "an arm with a coreset": (any(kind["selector"] != "none" for kind in kinds), ("fractions",)),
        "an arm by forgetting, or of its cost": (scored, ("record",)),
        "an arm that ends in -pruned": (any(arm.endswith("-pruned") for arm in study.arms), ("score_sparsity",)),
        "a sparsity above 0": (any(study.sparsities), ("pruning", "tuning", "iterations")),
    }
    check_effects(study, needed)
    spoilt = frozenset[str]().union(*(read_defects(text) for text in study.defects))
    for defect in sorted(spoilt):
        if not any(defect in reaching(arm) for arm in study.arms):
            raise ConfigError(f"defects has {defect}, which reaches none of the arms {', '.join(study.arms)}.")
    if "masks" in spoilt and not any(study.sparsities):
        raise ConfigError("defects has masks, which drops masks: name a sparsity above 0 as well.")
    if "masks" in spoilt and study.tuning == "regrow":
        raise ConfigError("defects has masks, which is what tuning regrow is; give one of them.")
    if "scores" in spoilt and study.record == "epoch":
        raise ConfigError("defects has scores, which counts by mini-batches; record epoch would differ in that too.")
