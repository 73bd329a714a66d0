"""`sartor list [KIND]`: what there is, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.errors import check_choice
from sartor.recipes.presets import PRESETS, Presets
from sartor.registry import DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS, STUDIES, Registry

KINDS: dict[str, Registry | Presets] = {
    "recipes": RECIPES,
    "selectors": SELECTORS,
    "samplers": SAMPLERS,
    "pruners": PRUNERS,
    "models": MODELS,
    "datasets": DATASETS,
    "studies": STUDIES,
    "presets": PRESETS,
}
OWN = "package.module:NAME", "your own, importable from the current folder or the environment; folder/file.py:NAME too"


def run(arguments: Sequence[str]) -> int:
    """Print the entries of one registry, or of all."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: sartor list [{'|'.join(KINDS)}]")
        return 0
    for kind in arguments:
        check_choice("kind", kind, KINDS)
    for kind in arguments or KINDS:
        lines = lines_of(KINDS[kind])
        width = max(map(len, lines))
        print("\n".join([kind, *(f"  {name:<{width}}  {text}" for name, text in lines.items())]))
    return 0


def lines_of(table: Registry | Presets) -> dict[str, str]:
    """Return each entry and a line about it, then whole families of entries, and what a user can name beside them."""
    lines = {name: table.describe(name) for name in table}
    return lines if isinstance(table, Presets) else lines | table.families | dict([OWN])
