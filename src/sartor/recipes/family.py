"""Families of arms: a method and its controls, each made from one common set of options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sartor.errors import ConfigError, check_choice
from sartor.recipes.recipe import Recipe
from sartor.registry import parse

NONE = "none"
MODEL = "model"
"""The option by which an arm names a network of its own."""
COMMON = tuple(option.name for option in dataclasses.fields(Recipe))
"""Options that all recipes have."""


@dataclass(frozen=True, eq=False)
class Family:
    """What `sartor compare` runs beside each other: arms by name, each a recipe made from the options of `base`.

    `baseline` and `random` are the arms that others are held against. `varied` are options that a comparison sets
    itself. `needed`: arm -> the option that it cannot do without, and a value for an example. `check` raises
    ConfigError for options that no comparison starts from; `finish` settles, of some arms, what depends on the size n
    of the training pool.
    """

    base: type[Recipe]
    what: str
    arms: Mapping[str, Callable[[Any], Recipe]]
    default: tuple[str, ...]
    baseline: str
    random: str
    check: Callable[[Any], None]
    varied: tuple[str, ...] = ("seed", "noise")
    needed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    finish: Mapping[str, Callable[[Recipe, Any, int], Recipe]] = field(default_factory=dict)
    matches_cost: bool = False
    """Whether arms may be brought to the cost of one of them by their length."""

    @property
    def name(self) -> str:
        """The name of the recipe that its options are those of."""
        return self.base.name

    def make(self, name: str, base: Recipe, n: int) -> Recipe:
        """Make an arm for a training pool of n samples.

        Options of the recipe may follow in brackets, such as `swast-cut(sparsity=0.5)`: they replace those of `base`;
        `model`, the arm's own network, is left to `network_of`.
        Raises: ConfigError: for an unknown name or option, nearest one suggested, or without one that the arm needs.
        """
        plain, options = parse(name)
        check_choice("arm", plain, self.arms)
        recipe = self.arms[plain](base)
        known = {option.name: option.default for option in dataclasses.fields(recipe) if option.name not in self.varied}
        given = {option: value for option, value in options.items() if option != MODEL}
        for option, value in given.items():
            check_choice(f"option of {plain}", option, [*known, MODEL])
            if value is None and isinstance(known[option], str):
                given[option] = NONE  # a bare `none`
        needed, example = self.needed.get(plain, ("", ""))
        if needed and needed not in given:
            raise ConfigError(f'arm {plain} needs {needed}; write "{plain}({needed}={example})", say.')
        if plain in self.finish:
            recipe = self.finish[plain](recipe, base, n)
        return recipe.with_options(**given)

    def check_arms(self, names: Iterable[str], base: Recipe) -> None:
        """Raise ConfigError unless a comparison can start from `base`, and all arms can be made from it."""
        self.check(base)
        for name in names:
            self.make(name, base, n=10_000)
            network_of(name, "")

    def order(self, names: Iterable[str]) -> list[str]:
        """Return the distinct arms in the order of the family, those with options after the plain ones."""
        places = {arm: place for place, arm in enumerate(self.arms)}
        return sorted(set(names), key=lambda name: (places[parse(name)[0]], name))


def network_of(name: str, model: str) -> str:
    """Return the network of an arm: its own, as in `bald(model='cnn(dropout=0.5)')`, or else `model`.

    Raises: ConfigError: where its own is no name of a network.
    """
    own = parse(name)[1].get(MODEL, model)
    if not isinstance(own, str):
        raise ConfigError(f"model of {name!r} is {own!r}; it must be a network's name, such as 'cnn(dropout=0.5)'.")
    return own


def arm_folder(name: str) -> str:
    """Return the arm's name as a folder's name, without what a shell would take for its own.

    >>> arm_folder("swast-cut(sparsity=0.5, every=5)")
    'swast-cut-sparsity-0.5-every-5'
    """
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", name).strip("-")
