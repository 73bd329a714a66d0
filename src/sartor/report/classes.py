"""The classes of a coreset: how much of each was chosen, and pictures of what was taken and what was left."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sartor.data.arrays import named_tensors
from sartor.recipes.choosing import Choice
from sartor.report.histogram import binned, sparkline, visible_range
from sartor.report.pictures import image_part, spread, thumbnails
from sartor.report.wording import brief_percent

PICTURED, LISTED, IN_STRIP = 20, 100, 7
"""Classes with pictures, classes in the table, pictures of each kind."""
SPARK_BINS = 30
SMALL = 42
"""Pixels of a picture on the page; smaller ones are shown in large pixels."""


@dataclass(frozen=True, eq=False)
class Lens:
    """What samples are ordered by: its name, a value for each, and whether the selector ranks by it."""

    name: str
    values: Tensor
    ranks: bool

    @property
    def title(self) -> str:
        """The heading above its figures."""
        return self.name.capitalize()

    @functools.cached_property
    def ends(self) -> tuple[float, float]:
        """The range that is drawn."""
        return visible_range(self.values)


@dataclass(frozen=True, eq=False)
class Class:
    """One class: its name, its samples' positions, and which of them were chosen."""

    name: str
    places: Tensor
    chosen: Tensor

    @property
    def share(self) -> float:
        """Share of the class that was chosen."""
        return float(self.chosen.double().mean())


@dataclass(frozen=True)
class Scale:
    """What the bars of shares are drawn against: the share chosen of all samples, and the longest bar."""

    overall: float
    longest: float

    def meter(self, share: float) -> str:
        """Draw the share of a class, with a mark at that of all samples."""
        wide, mark = (100 * value / max(self.longest, self.overall) for value in (share, self.overall))
        return f'<span class="share"><b style="width:{wide:.1f}%"></b><i style="left:{mark:.1f}%"></i></span>'


def classes_of(choice: Choice) -> list[Class]:
    """Return the classes that have samples; all samples as one where there are no labels."""
    chosen = choice.chosen
    if choice.targets is None:
        return [Class("all samples", torch.arange(len(chosen)), chosen)]
    labels, sizes = choice.targets.unique(return_counts=True)
    parts = choice.targets.argsort(stable=True).split(sizes.tolist())
    names = choice.source.class_names
    known = [names[label] if names is not None and label < len(names) else str(label) for label in labels.tolist()]
    return [Class(name, places, chosen[places]) for name, places in zip(known, parts)]


def class_table(choice: Choice, lens: Lens | None) -> str:
    """Write a line for each class, with pictures where the samples are images."""
    classes = classes_of(choice)
    part = image_part(choice.source.pool)
    limit = LISTED if part is None else PICTURED
    shown = thinned(classes, limit)
    scale = Scale(float(choice.chosen.double().mean()), max(each.share for each in shown))
    head = ["<th>class</th>", "<th>chosen</th>", "<th>share</th>"]
    if lens is not None:
        head.append(f'<th class="strip">{lens.name}</th>')
    if part is not None:
        head += ['<th class="strip">some of the chosen</th>', '<th class="strip">some of those left out</th>']
    lines = [line(choice, lens, part, each, scale) for each in shown]
    table = f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return (
        f'<h2>Classes</h2><p class="small">{html.escape(" ".join(words(choice, lens, part, classes, shown)))}</p>'
        f'<div class="scroll"><table class="classes{"" if part else " plain"}">{table}</table></div>'
    )


def words(
    choice: Choice, lens: Lens | None, part: str | None, classes: Sequence[Class], shown: Sequence[Class]
) -> list[str]:
    """Say how to read the table, and what it leaves out."""
    found = ["The mark on each bar is the share chosen of all samples."]
    empty = [each.name for each in classes if not bool(each.chosen.any())]
    if empty:
        some = ", ".join(empty[:8]) + (f" and {len(empty) - 8} more" if len(empty) > 8 else "")
        found.append(f"Nothing was chosen of {len(empty)} of {len(classes)} classes: {some}.")
    if part is not None:
        order = f"from the lowest to the highest {lens.name}" if lens is not None else "in the order of their ids"
        found.append(f"Pictures are spread evenly over the class, {order}; point at one for its id.")
        if choice.wrong is not None:
            found.append("A dashed frame marks a label that was made wrong.")
    if len(shown) < len(classes):
        found.append(f"{len(shown)} of {len(classes)} classes are shown, from the most to the least chosen; ")
        found[-1] += "the csv file has all."
    return found


def thinned(classes: Sequence[Class], limit: int) -> list[Class]:
    """Return the classes, or, of too many, some from the most to the least chosen."""
    if len(classes) <= limit:
        return list(classes)
    order = sorted(range(len(classes)), key=lambda place: -classes[place].share)
    return [classes[place] for place in spread(order, limit)]


def line(choice: Choice, lens: Lens | None, part: str | None, each: Class, scale: Scale) -> str:
    """Write the line of one class."""
    cells = [
        f'<td title="{html.escape(each.name)}">{html.escape(each.name)}</td>',
        f"<td>{int(each.chosen.sum()):,} of {len(each.places):,}</td>",
        f"<td>{brief_percent(each.share)}{scale.meter(each.share)}</td>",
    ]
    places = each.places
    if lens is not None:
        low, high = lens.ends
        values = lens.values[places]
        label = html.escape(f"{lens.name} of {each.name}")
        cells.append(f"<td>{sparkline(binned(values, each.chosen, low, high, SPARK_BINS), label)}</td>")
    if part is not None:
        order = torch.arange(len(places)) if lens is None else lens.values[places].argsort(stable=True)
        for marked, kind in ((each.chosen, "chosen"), (~each.chosen, "left")):
            members = places[order][marked[order]]
            cells.append(f'<td class="strip">{strip(choice, lens, part, members.tolist(), kind)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def strip(choice: Choice, lens: Lens | None, part: str, members: Sequence[int], kind: str) -> str:
    """Write pictures of some of the positions."""
    assert choice.source.pool is not None
    some = spread(members, IN_STRIP)
    if not some:
        return '<span class="small">none</span>'
    rows, ids, wrong = choice.rows[torch.tensor(some)], choice.source.ids, choice.wrong
    weights = choice.subset.weights[torch.searchsorted(choice.subset.rows, rows)] if kind == "chosen" else None
    pool = choice.source.pool
    small = max(dict(named_tensors(pool.inputs))[part].shape[2:]) < SMALL
    images = []
    for number, (place, address) in enumerate(zip(some, thumbnails(pool, part, rows))):
        told = [ids[place]]
        if lens is not None:
            told.append(f"{lens.name} {float(lens.values[place]):.4g}")
        if weights is not None:
            told.append(f"weight {float(weights[number]):.3g}")
        lied = wrong is not None and bool(wrong[place])
        if lied:
            told.append("its label was made wrong")
        names = " ".join(["small"] * small + ["wrong"] * lied)
        text = html.escape(", ".join(told))
        images.append(f'<img src="{address}" class="{names}" title="{text}" alt="{text}">')
    return f'<span class="{kind}">{"".join(images)}</span>'
