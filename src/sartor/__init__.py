"""Sartor tailors a network and its training set together: fewer weights, fewer samples, every cost counted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sartor.version import __version__ as __version__

if TYPE_CHECKING:
    from sartor.costs import Ledger as Ledger
    from sartor.costs import count_flops as count_flops
    from sartor.data.pool import Pool as Pool
    from sartor.errors import SartorError as SartorError
    from sartor.history import History as History
    from sartor.prune.channels import ChannelPlan as ChannelPlan
    from sartor.prune.channels import compact as compact
    from sartor.prune.channels import fuse as fuse
    from sartor.prune.channels import plan as plan
    from sartor.prune.masks import Masks as Masks
    from sartor.recipes import Active as Active
    from sartor.recipes import Dense as Dense
    from sartor.recipes import PruneFuse as PruneFuse
    from sartor.recipes import SWaST as SWaST
    from sartor.registry import DATASETS as DATASETS
    from sartor.registry import MODELS as MODELS
    from sartor.registry import PRUNERS as PRUNERS
    from sartor.registry import RECIPES as RECIPES
    from sartor.registry import SAMPLERS as SAMPLERS
    from sartor.registry import SELECTORS as SELECTORS
    from sartor.registry import STUDIES as STUDIES
    from sartor.run import Run as Run
    from sartor.scanning import scan as scan
    from sartor.seen import Scan as Scan
    from sartor.types import Subset as Subset

_HOMES = {
    "sartor.costs": ("Ledger", "count_flops"),
    "sartor.data.pool": ("Pool",),
    "sartor.errors": ("SartorError",),
    "sartor.history": ("History",),
    "sartor.prune.channels": ("ChannelPlan", "compact", "fuse", "plan"),
    "sartor.prune.masks": ("Masks",),
    "sartor.recipes": ("Active", "Dense", "PruneFuse", "SWaST"),
    "sartor.registry": ("DATASETS", "MODELS", "PRUNERS", "RECIPES", "SAMPLERS", "SELECTORS", "STUDIES"),
    "sartor.run": ("Run",),
    "sartor.scanning": ("scan",),
    "sartor.seen": ("Scan",),
    "sartor.types": ("Subset",),
}
_PUBLIC = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `sartor --help` needs no torch."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sartor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
