"""Which units stay: so many of each group, or the best of all groups together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sartor.errors import ConfigError, PruningError, check_choice, check_range
from sartor.prune.channels.coupling import Coupling
from sartor.ranking import top_indices

SCOPES = ("local", "global", "isomorphic")
NORMALISERS = ("mean", "none")


def choose(
    coupling: Coupling,
    worths: Float64[Tensor, "u"],
    sparsity: float,
    *,
    scope: str,
    normaliser: str | None,
    round_to: int | None,
    full: Sequence[int],
) -> Int64[Tensor, "k"]:
    """Return the units that stay, ascending; `full` is what the groups' sizes were before any pruning.

    `local`: floor((1-p) c + 1/2) of each group's c, at least 1. `global`: floor((1-p) N + 1/2) of all N, at least 1 of
    each group, by worth over its mean in the group (`normaliser="mean"`) or as it is (`none`). `isomorphic`: the same
    within each set of groups that run through the same kinds of layers. Equal worths go by index.
    `round_to`: then kept counts go to the nearest multiple, halves up, where a group had twice that many or more.
    Raises: ConfigError: for an option out of range. PruningError: if so few cannot be kept, or none would leave.
    """
    check_range("sparsity", sparsity, 0, 1, high_open=True)
    check_choice("scope", scope, SCOPES)
    if round_to is not None and (isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1):
        raise ConfigError(f"round_to is {round_to!r}; it must be a whole number of at least 1, such as 16.")
    if scope == "local":
        if normaliser is not None:
            raise ConfigError(
                "normaliser does nothing in a local scope, where no two groups are compared; leave it out."
            )
        counts = [min(size, max(1, kept_of(sparsity, whole))) for size, whole in zip(coupling.sizes, full, strict=True)]
    else:
        check_choice("normaliser", normaliser or "mean", NORMALISERS)
        if normaliser != "none":
            worths = _over_mean(coupling, worths)
        counts = _ranked_together(coupling, worths, sparsity, scope, full)
    if round_to is not None:
        counts = [_nearest(count, size, round_to) for count, size in zip(counts, coupling.sizes, strict=True)]
    if sparsity > 0 and sum(counts) == coupling.units == sum(full):
        _refuse_nothing(coupling, sparsity, round_to)
    chosen = [where.start + top_indices(worths[where], count) for (_, where), count in zip(coupling.groups(), counts)]
    return torch.cat(chosen)


def kept_of(sparsity: float, size: int) -> int:
    """Return floor((1-p) c + 1/2), with p the decimal number that was written."""
    return math.floor((1 - Fraction(str(sparsity))) * size + Fraction(1, 2))


def _ranked_together(coupling: Coupling, worths: Tensor, sparsity: float, scope: str, full: Sequence[int]) -> list[int]:
    """Return how many of each group are among the best of its set, the best of each group always being kept."""
    groups = [where for _, where in coupling.groups()]
    counts = [0] * len(groups)
    for members in _sets(coupling, scope):
        target = min(kept_of(sparsity, sum(full[group] for group in members)), sum(coupling.sizes[g] for g in members))
        if target < len(members):
            every = sum(full[group] for group in members)
            most = 1 - len(members) / every
            raise PruningError(
                f"sparsity {sparsity:g} keeps {target} of {every} channels, but each of "
                f"the {len(members)} groups needs one ({coupling.names[members[0]]!r} and others); "
                f"it can be at most {math.floor(most * 1e4) / 1e4:g}, or scope='local' keeps one of each."
            )
        together = torch.cat([_first_always(worths[groups[group]]) for group in members])
        kept = torch.zeros(len(together), dtype=torch.bool)
        kept[top_indices(together, target)] = True
        for group, part in zip(members, kept.split([coupling.sizes[group] for group in members]), strict=True):
            counts[group] = int(part.sum())
    return counts


def _sets(coupling: Coupling, scope: str) -> Iterator[list[int]]:
    """Yield the groups that are ranked together."""
    if scope == "global":
        yield list(range(len(coupling.sizes)))
        return
    patterns: dict[tuple[tuple[str, int], ...], list[int]] = {}
    passed: list[list[tuple[str, int]]] = [[] for _ in coupling.sizes]
    starts = torch.tensor([where.stop for _, where in coupling.groups()])
    for (name, dim), units in coupling.axes.items():
        kind = (f"{len(coupling.shapes[name])}-dimensional {name.rpartition('.')[2]}", dim)
        for group in torch.bucketize(units[units >= 0].unique(), starts, right=True).unique().tolist():
            passed[group].append(kind)
    for group, kinds in enumerate(passed):
        patterns.setdefault(tuple(sorted(kinds)), []).append(group)
    yield from patterns.values()


def _first_always(worths: Float64[Tensor, "c"]) -> Float64[Tensor, "c"]:
    raised = worths.clone()
    raised[top_indices(worths, 1)] = torch.inf
    return raised


def _over_mean(coupling: Coupling, worths: Float64[Tensor, "u"]) -> Float64[Tensor, "u"]:
    divided = worths.clone()
    for _, where in coupling.groups():
        mean = float(worths[where].mean())
        divided[where] /= mean if mean else 1.0
    return divided


def _nearest(count: int, size: int, multiple: int) -> int:
    """Return the multiple nearest to a count, halves up, if the group is large enough to have two of them."""
    if size < 2 * multiple:
        return count
    return min(size, max(multiple, multiple * ((2 * count + multiple) // (2 * multiple))))


def _refuse_nothing(coupling: Coupling, sparsity: float, round_to: int | None) -> None:
    most = max(coupling.sizes)
    if most == 1:
        raise PruningError("every group has one channel only, which must stay; nothing can leave this network.")
    rounded = f" and round_to={round_to}" if round_to else ""
    raise PruningError(
        f"sparsity {sparsity:g}{rounded} lets no channel go, for the widest group has {most}; "
        f"it must be above {0.5 * (round_to or 1) / most:.4g}."
    )
