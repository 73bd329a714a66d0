"""The arms of a comparison: SWaST and its controls, each made from one common set of options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from sartor.errors import ConfigError, check_choice
from sartor.recipes.dense import Dense
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import NONE, SWaST
from sartor.recipes.timetable import count_steps
from sartor.registry import parse

COMMON = tuple(field.name for field in dataclasses.fields(Recipe))


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
VARIED = ("seed", "noise")
"""Options that a comparison varies itself."""


def make_arm(name: str, base: SWaST, n: int) -> Recipe:
    """Make an arm for a training pool of n samples; `dense-steps` takes as many steps as the coreset-only arm.

    Options of the recipe may follow in brackets, such as `swast-cut(sparsity=0.5)`: they replace those of `base`.
    Raises: ConfigError: for an unknown name or option, nearest one suggested.
    """
    plain, options = parse(name)
    check_choice("arm", plain, ARMS)
    recipe = ARMS[plain](base)
    defaults = {field.name: field.default for field in dataclasses.fields(recipe) if field.name not in VARIED}
    for option, value in options.items():
        check_choice(f"option of {plain}", option, defaults)
        if value is None and isinstance(defaults[option], str):
            options[option] = NONE  # a bare `none`
    if plain == EQUAL_STEPS:
        steps = count_steps(without_pruner(base, NONE).timetable(n), base.batch_size)
        recipe = recipe.with_options(steps=steps, epochs=Recipe.epochs)
    return recipe.with_options(**options)


def arm_folder(name: str) -> str:
    """Return the arm's name as a folder's name, without what a shell would take for its own.

    >>> arm_folder("swast-cut(sparsity=0.5, every=5)")
    'swast-cut-sparsity-0.5-every-5'
    """
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", name).strip("-")


def check_arms(names: Iterable[str], base: SWaST) -> None:
    """Raise ConfigError unless all arms can be made from `base`."""
    if base.variant != "cut" or NONE in (base.pruner, base.selector):
        raise ConfigError("a comparison starts from variant cut with a pruner and a selector; its arms leave them out.")
    for name in names:
        make_arm(name, base, n=10_000)
