"""What each defect of DropHot's public code adds to the gain that its report claims, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sartor.recipes.drophot_options import NONE
from sartor.report.statistics import paired_difference
from sartor.report.wording import counted
from sartor.studies.drophot_table import BASELINE, Cells, Place, averaged, cell_without, cells_of, gains, is_reached
from sartor.studies.findings import Effect, tally
from sartor.studies.selector_table import mean

CLAIMED = ("highest", "lowest")
"""How the names of the arms begin that the report claims a gain of."""


def verdict_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each setting what its defects add to an arm's gain over all data, or why that cannot be said."""
    cells = cells_of(results)
    spoilt = sorted({place[:2] for place in cells if place[0] != NONE})
    missing = [] if any(place[0] == NONE for place in cells) else ["`none` among the defects"]
    missing += [] if any(BASELINE in arms for arms in cells.values()) else ["`baseline` among the arms"]
    if spoilt and missing:
        return [f"What the defects add to the gain over all data is not told: that takes {' and '.join(missing)}."]
    return [added(cells, *setting) for setting in spoilt]


def added(cells: Mapping[Place, Cells], defects: str, noise: float) -> str:
    """Say what the defects of one setting add: to each arm on average over the cells they reach, and cell by cell.

    Cells are counted of the arms that the report is about, where they are there: all arms that a defect does not reach
    have the same share, what the baseline loses by it.
    """
    places: dict[str, list[Place]] = {}
    for place in sorted(cells):
        if place[:2] == (defects, noise):
            for arm in cells[place]:
                if is_reached(cells[place], arm):
                    places.setdefault(arm, []).append(place)
    labels = "" if noise == 0 else f" with {100 * noise:g} % of the labels wrong"
    what = f"What `{defects}` adds to the gain over all data{labels}"
    if not places:
        return f"{what}: nothing, for it reaches no arm's gain here."
    counting = [arm for arm in places if arm.startswith(CLAIMED)] or list(places)
    told, effects = [], []
    for arm, found in places.items():
        spoilt = [gains(cells[place], arm) for place in found]
        sound = [gains(cell_without(cells, place), arm) for place in found]
        before, after = averaged(sound), averaged(spoilt)
        told.append(f"{arm} {told_share(before, after)}")
        if arm in counting:
            effects += [paired_difference(*pair) for pair in zip(spoilt, sound, strict=True)]
    over = f"in points and on average over {counted(len(next(iter(places.values()))), 'cell')}"
    by_cell = tally(f"Cell by cell, {' and '.join(counting)}", effects)
    return f"{what}, {over}: {', '.join(told)}. {by_cell}"


def told_share(before: Mapping[int, float], after: Mapping[int, float]) -> str:
    """Write by how much a gain is larger with the defects than before, by seed, and both gains."""
    share = paired_difference(after, before)
    if share is None:
        return "(no seed has all of its runs)"
    without, spoilt = (mean(gain[seed] for seed in before.keys() & after.keys()) for gain in (before, after))
    return f"{Effect(share)} ({without:+.2f} without, {spoilt:+.2f} with, n = {share.n})"
