"""The arms of PruneFuse: other ways to choose what is labelled, and the target without fusion or distillation."""

from __future__ import annotations

import dataclasses
from typing import Any

from sartor.errors import ConfigError
from sartor.recipes.active import Active
from sartor.recipes.family import Family
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.round_plan import synchronised
from sartor.recipes.rounds import Rounds

SHARED = tuple(option.name for option in dataclasses.fields(Rounds))
"""Options of all recipes that ask for labels."""
OF_FUSION = ("complement", "dispersion", "statistics")
OF_SYNCHRONISING = ("t_sync", "sync_phase", "sync_epochs", "sync_lr")
OF_TEACHING = ("kd_weight", "temperature", "kd_teacher", "ema_decay")
RANDOM = "random"


def active(base: PruneFuse, **options: Any) -> Active:
    """Make a control without a pruned selector: the shared options, none of those of selectors and targets."""
    return Active(**{**{name: getattr(base, name) for name in SHARED}, **options})


def reduced(base: PruneFuse, **options: Any) -> PruneFuse:
    """Make the same with something left out; options of what is left out, or has no use any more, are left out too."""
    fusion, kd = (options.get(name, getattr(base, name)) for name in ("fusion", "kd"))
    idle = OF_SYNCHRONISING + (() if fusion else OF_FUSION) + (() if kd else OF_TEACHING)
    made = base.with_options(**{**{name: getattr(PruneFuse, name) for name in idle}, **options})
    if any(now.synced for now in synchronised(made.outline, base.t_sync, base.sync_phase)):
        return made.with_options(**{name: getattr(base, name) for name in OF_SYNCHRONISING + OF_FUSION})
    return made


def check_base(base: PruneFuse) -> None:
    """Raise ConfigError unless the options are those of the whole method."""
    if not (base.fusion and base.kd and base.looks_at_network):
        raise ConfigError(
            "a comparison starts from fusion, kd and an acquisition that asks a network; its arms leave them out."
        )


ASKING = Family(
    base=PruneFuse,
    what="Run PruneFuse beside other ways to choose labels.",
    arms={
        "active": active,
        "random": lambda base: active(base, acquisition=RANDOM, head=None),
        "svp": active,
        "bald": lambda base: active(base, acquisition="bald"),
        "alse": lambda base: active(base, acquisition="alse"),
        "prunefuse": lambda base: base,
        "prunefuse-random": lambda base: reduced(base, acquisition=RANDOM, head=None),
        "scratch": lambda base: reduced(base, fusion=False, kd=False),
        "kd": lambda base: reduced(base, fusion=False, kd=True),
        "fusion": lambda base: reduced(base, fusion=True, kd=False),
    },
    default=("active", "random", "prunefuse", "prunefuse-random", "scratch"),
    baseline="active",
    random="random",
    check=check_base,
    needed={"svp": ("proxy", "resnet8")},
)
