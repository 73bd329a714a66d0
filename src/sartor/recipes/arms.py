"""The arms of SWaST: the joint method and its controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sartor.errors import ConfigError
from sartor.recipes.dense import Dense
from sartor.recipes.family import COMMON, Family
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE, SWaST
from sartor.recipes.timetable import count_steps


def dense(base: SWaST, **options: object) -> Dense:
    """Make a dense control with the training options of `base`."""
    common = {name: getattr(base, name) for name in COMMON}
    return Dense(**{**common, **options})


def random_subsets(base: SWaST, every: int) -> Dense:
    """Make a control that trains on random subsets of the same size, from the same epoch on."""
    return subsets_by(base, f"redraw(every={every})")


def subsets_by(base: SWaST, sampler: str) -> Dense:
    """Make a dense training on a sampler's subsets of the same size as the coresets, from the same epoch on."""
    timing: dict[str, object] = {"warmup": base.warmup, "selection_timing": base.selection_timing}
    if base.selection_timing == "literal":
        slots = base.coreset_slots(2, 1, base.epochs)
        timing = {"warmup": next(epoch for epoch, slot in enumerate(slots) if slot.draws)}
    return dense(base, sampler=sampler, fraction=base.fraction, **timing)


def without_pruner(base: SWaST, preserve: str) -> SWaST:
    """Make the coreset-only control."""
    return base.with_options(
        pruner=NONE,
        sparsity=None,
        variant="cut",
        classifier_sparsity=SWaST.classifier_sparsity,
        **preserving(base, preserve),
    )


def preserving(base: SWaST, preserve: str) -> dict[str, Any]:
    """Return the options of a kind of state preservation; its weight counts only where something is preserved."""
    return {
        "preserve": preserve,
        "preserve_weight": SWaST.preserve_weight if preserve == NONE else base.preserve_weight,
    }


def trimmed(base: SWaST) -> SWaST:
    """Make SWaST-trim: the classifier alone is pruned, as far as cut prunes it."""
    return base.with_options(
        variant="trim",
        sparsity=base.classifier_sparsity,
        classifier_sparsity=SWaST.classifier_sparsity,
        **preserving(base, NONE),
    )


UNSELECTED = {"selector": NONE} | {
    name: getattr(SWaST, name) for name in ("fraction", "every", "warmup", "selection_timing")
}
"""Options of the selection where there is none."""

ARMS: dict[str, Callable[[SWaST], Recipe]] = {
    "dense": dense,
    "dense-steps": dense,
    "random": lambda base: random_subsets(base, 0),
    "redrawn": lambda base: random_subsets(base, base.every),
    "coreset-only": lambda base: without_pruner(base, NONE),
    "prune-only": lambda base: base.with_options(**UNSELECTED, **preserving(base, NONE)),
    "swast-trim": trimmed,
    "swast-cut": lambda base: base.with_options(variant="cut"),
    "coreset-only+preserve": lambda base: without_pruner(base, "complete"),
    "prune-only+preserve": lambda base: base.with_options(selector=NONE, **preserving(base, "complete")),
    "infobatch": lambda base: dense(base, sampler="infobatch"),
    "sieve": lambda base: subsets_by(base, f"sieve(every={base.every})"),
}
"""What each arm is, given the options of the joint method: name -> recipe."""

FURTHER = ("infobatch", "sieve")
"""Methods that choose samples epoch by epoch: no controls of the joint method, so they run where they are named."""
DEFAULT_ARMS = tuple(name for name in ARMS if not name.endswith("+preserve") and name not in FURTHER)
EQUAL_STEPS = "dense-steps"


def equal_steps(recipe: Recipe, base: SWaST, n: int) -> Recipe:
    """Give a dense training as many steps as the coreset-only arm takes."""
    steps = count_steps(without_pruner(base, NONE).timetable(n), base.batch_size)
    return recipe.with_options(steps=steps, epochs=Recipe.epochs)


def check_base(base: SWaST) -> None:
    """Raise ConfigError unless the options are those of the joint method."""
    if base.variant != "cut" or NONE in (base.pruner, base.selector):
        raise ConfigError("a comparison starts from variant cut with a pruner and a selector; its arms leave them out.")


JOINT = Family(
    base=SWaST,
    what="Run SWaST beside its controls.",
    arms=ARMS,
    default=DEFAULT_ARMS,
    baseline="coreset-only",
    random="redrawn",
    check=check_base,
    finish={EQUAL_STEPS: equal_steps},
    matches_cost=True,
)
make_arm = JOINT.make
