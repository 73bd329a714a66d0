"""The arms of DropHot: other samples, or all of them, before the pruning, at equal epochs and at equal cost."""

from __future__ import annotations

from typing import Any

from sartor.errors import ConfigError
from sartor.recipes.drophot import DropHot
from sartor.recipes.drophot_options import NONE
from sartor.recipes.family import Family

OF_SCORING = ("score_epochs", "score_sparsity", "record")
OF_PRUNING = ("pruning", "normaliser", "importance", "tuning", "reinit", "iterations")


def without(base: DropHot, selector: str, *, matched: bool, reached: set[str], idle: tuple[str, ...] = ()) -> DropHot:
    """Make a control that no training scores samples for; `matched` in cost with the one that has such a training.

    `reached` are the defects that can reach it; `idle` options without effect unless it is matched.
    """
    cuts_only_the_scorer = base.pruning != "channels"
    scoring = (*OF_SCORING, "importance") if cuts_only_the_scorer else OF_SCORING
    lost = ("head",) if matched else ("head", *scoring, *idle)
    given: dict[str, Any] = {name: getattr(DropHot, name) for name in lost}
    given["legacy_defects"] = ",".join(sorted(base.defects & reached)) or NONE
    return base.with_options(selector=selector, match=base.selector if matched else None, **given)


def random(base: DropHot, *, matched: bool = False) -> DropHot:
    """Make the control that draws its coreset at random."""
    return without(base, "random", matched=matched, reached={"masks"})


def crest(base: DropHot) -> DropHot:
    """Make the control whose coresets are drawn anew while the network trains, for mini-batches of the base's size."""
    head = "" if base.head is None else f", head={base.head!r}"
    return without(base, f"crest(batch_size={base.batch_size}{head})", matched=False, reached={"masks"})


def baseline(base: DropHot, *, matched: bool = False) -> DropHot:
    """Make the control that has all data in the coreset's place."""
    return without(base, NONE, matched=matched, reached={"batchnorm", "masks"}, idle=("fraction",))


def unpruned(base: DropHot) -> DropHot:
    """Make the dense network: all data, and nothing is pruned."""
    whole = without(base, NONE, matched=False, reached={"batchnorm"}, idle=("fraction", *OF_PRUNING))
    return whole.with_options(sparsity=0.0)


def check_base(base: DropHot) -> None:
    """Raise ConfigError unless the options are those of the whole method."""
    if not base.is_scored or base.sparsity == 0:
        raise ConfigError(
            "a comparison starts from a selector that needs a training, and from a sparsity; its arms leave them out."
        )


PRUNING = Family(
    base=DropHot,
    what="Run DropHot beside its controls.",
    arms={
        "unpruned": unpruned,
        "baseline": baseline,
        "baseline-matched": lambda base: baseline(base, matched=True),
        "random": random,
        "random-matched": lambda base: random(base, matched=True),
        "crest": crest,
        "drophot": lambda base: base,
    },
    default=("unpruned", "baseline", "baseline-matched", "random", "random-matched", "drophot"),
    baseline="baseline",
    random="random",
    check=check_base,
    varied=("seed", "noise", "match"),
)
