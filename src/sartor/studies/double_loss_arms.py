"""The arms of double-loss: coresets with all weights or with pruned ones, held by a remedy or by none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sartor.recipes.arms import without_pruner
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE, SWaST
from sartor.recipes.taught import Taught
from sartor.registry import parse
from sartor.studies.replaying import moving

if TYPE_CHECKING:
    from sartor.studies.double_loss import DoubleLossStudy

RANDOM = "random"
SMOOTH = "label smoothing"
TRACKED = (NONE, "selective", "complete")
"""Kinds of hold whose masks and networks are kept."""
HELD = (*TRACKED, SMOOTH, "EMA teacher")
HOLDS = {True: HELD, False: (*HELD, "AC/DC", "unscaled start")}
"""Kinds of hold for all weights (True) and for pruned ones."""


def arm(study: DoubleLossStudy, selector: str, fraction: float, sparsity: float | None, hold: str) -> Recipe:
    """Make one arm, all weights without a sparsity; all train on the same samples, so none is held out."""
    preserve = hold if hold in ("selective", "complete") else NONE
    smoothing = study.smoothing if hold == SMOOTH else 0.0
    given: dict[str, Any] = {"holdout": 0.0, "selector": selector, "fraction": fraction, "preserve": preserve}
    given |= {"pruner": pruner_with(study.pruner, hold), "label_smoothing": smoothing}
    joint = study.base(**given, sparsity=sparsity)
    recipe: SWaST = without_pruner(joint, preserve) if sparsity is None else joint
    if hold != "EMA teacher":
        return recipe
    share = 1 / (1 + SWaST.preserve_weight)  # what stored states weigh beside labels, the average does too
    steps = {"lr": recipe.lr / share, "weight_decay": recipe.weight_decay * share}  # and labels move as much
    return Taught.like(recipe, teacher="ema", ema_decay=0.99, kd_weight=share, temperature=1.0, **steps)


def pruner_with(pruner: str, hold: str) -> str:
    """Name the pruner: for AC/DC another one with the same weights in each layer; or one that scales no weights."""
    name, options = parse(pruner)
    if hold == "unscaled start":
        options["rescale"] = "never"
    given = ", ".join(f"{option}={value!r}" for option, value in options.items())
    if hold == "AC/DC":
        return f"acdc(distribution={moving(pruner, 0.5).distribution!r})"
    return f"{name}({given})"
