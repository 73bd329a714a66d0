"""`sartor list [KIND]`: what there is, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.errors import check_choice
from sartor.registry import DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS

KINDS = {
    "recipes": RECIPES,
    "selectors": SELECTORS,
    "samplers": SAMPLERS,
    "pruners": PRUNERS,
    "models": MODELS,
    "datasets": DATASETS,
}


def run(arguments: Sequence[str]) -> int:
    """Print the entries of one registry, or of all."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: sartor list [{'|'.join(KINDS)}]")
        return 0
    for kind in arguments:
        check_choice("kind", kind, KINDS)
    for kind in arguments or KINDS:
        registry = KINDS[kind]
        width = max(map(len, registry))
        print(kind)
        for name in registry:
            print(f"  {name:<{width}}  {registry.describe(name)}")
    return 0
