"""Lines for people about what an inspection found; everything that is cut short here is whole in its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sartor.data.inspection import Inspection, Part, Sample, Twins, Values

if TYPE_CHECKING:
    from sartor.cli.inspect import Plan

EXAMPLES = 5
"""Ids, groups or classes that are shown of a kind."""
SHOWN_CLASSES = 20
"""With more classes, only the largest and the smallest are shown."""


def finding_lines(found: Inspection) -> list[str]:
    """Return counts, inputs and findings."""
    counts = " and ".join(f"{part.samples:,} {part.name}" for part in found.parts)
    return [
        f"{found.name}: {counts} samples, {len(found.class_names)} classes",
        "",
        *part_lines(found),
        "",
        *class_lines(found),
        "",
        *input_lines(found),
        "",
        *doubt_lines(found),
    ]


def part_lines(found: Inspection) -> list[str]:
    """Return a line for each part: samples, classes, balance, missing labels."""
    lines = [("part", "samples", "classes", "largest / smallest class", "unlabelled")]
    for part in found.parts:
        present = len(part.counts) - len(part.missing)
        balance = "-" if part.imbalance is None else f"{part.imbalance:.2f}"
        lines.append((part.name, f"{part.samples:,}", str(present), balance, f"{len(part.unlabelled):,}"))
    return aligned(lines)


def class_lines(found: Inspection) -> list[str]:
    """Return the number of samples of each class, or of the largest and the smallest classes of training."""
    labels = sorted(range(len(found.class_names)), key=lambda label: -count_of(found.parts[0], label))
    if not labels:
        return ["no classes: no sample has a label"]
    many = len(labels) > SHOWN_CLASSES
    if not many:
        labels.sort()
    rows: list[tuple[str, ...]] = [("class", *(part.name for part in found.parts))]
    for label in [*labels[:EXAMPLES], *labels[-EXAMPLES:]] if many else labels:
        rows.append((plain(found.class_names[label]), *(f"{count_of(part, label):,}" for part in found.parts)))
    lines = aligned(rows)
    return [*lines[: EXAMPLES + 1], "...", *lines[EXAMPLES + 1 :]] if many else lines


def count_of(part: Part, label: int) -> int:
    """Return how many samples of a part have a label."""
    return part.counts[label] if label < len(part.counts) else 0


def input_lines(found: Inspection) -> list[str]:
    """Return shape and type of each tensor, and its values in each part, channel by channel."""
    rows: list[tuple[str, ...]] = [("inputs", "part", "from", "to", "mean", "std")]
    lines = []
    for place, first in enumerate(found.parts[0].values):
        lines.append(f"{first.name}: {first.dtype} {first.shape}{sides(first)}")
        for part in found.parts:
            values = part.values[place]
            rows.append((values.name, part.name, *map(numbers, (values.low, values.high, values.mean, values.std))))
    return [*lines, *aligned(rows)]


def sides(values: Values) -> str:
    """Say how large images are."""
    if len(values.shape) != 3:
        return ""
    channels, height, width = values.shape
    return f", images of {height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}"


Doubt = tuple[str, str, str]
"""What may be wrong, where, and the number of such things with a few examples; an empty text where there is none."""


def doubt_lines(found: Inspection) -> list[str]:
    """Return what may be wrong, with a few examples each, and in one line what was looked for in vain."""
    doubts = [doubt for part in found.parts for doubt in part_doubts(part, found.class_names)]
    doubts += twin_doubts(found)
    doubts.append(("unreadable files", "", few([f"{plain(name)} ({reason})" for name, reason in found.skipped])))
    rows = [(f"{kind} {where}".strip(), text) for kind, where, text in doubts if text]
    width = max((len(kind) for kind, _ in rows), default=0)
    present = {kind for kind, _, text in doubts if text}
    vain = [kind for kind in dict.fromkeys(kind for kind, _, _ in doubts) if kind not in present]
    lines = [f"{kind:<{width}}  {text}" for kind, text in rows]
    return [*lines, *([f"none found: {', '.join(vain)}"] if vain else [])]


def part_doubts(part: Part, names: Sequence[str]) -> list[Doubt]:
    """Return what may be wrong within a part."""
    where = f"in {part.name}"
    return [
        ("unlabelled samples", where, few(list(map(plain, part.unlabelled)))),
        ("missing classes", where, few([plain(names[label]) for label in part.missing])),
        ("constant images", where, few(list(map(plain, part.constant)))),
        ("values not finite", where, few(list(map(plain, part.infinite)))),
    ]


def twin_doubts(found: Inspection) -> list[Doubt]:
    """Return the groups of equal samples: within a part, across parts, and those whose labels differ."""
    groups = [
        ("equal samples", "within a part", [twins for twins in found.twins if not twins.across]),
        ("equal samples", "across parts", [twins for twins in found.twins if twins.across]),
        ("equal samples of different labels", "", [twins for twins in found.twins if twins.disagree]),
    ]
    doubts = []
    for kind, where, group in groups:
        samples = sum(len(twins.samples) for twins in group)
        shown = few([group_line(twins, found.class_names) for twins in group])
        doubts.append((kind, where, shown and f"{samples:,} samples, groups {shown}"))
    return doubts


def group_line(twins: Twins, names: Sequence[str]) -> str:
    """Name the samples of a group, with their labels where these differ."""

    def said(sample: Sample) -> str:
        label = "unlabelled" if sample.label < 0 else plain(names[sample.label])
        return f"{sample.part} {plain(sample.id)}" + (f" ({label})" if twins.disagree else "")

    more = f" = {len(twins.samples) - EXAMPLES} more" if len(twins.samples) > EXAMPLES else ""
    return " = ".join(map(said, twins.samples[:EXAMPLES])) + more


def plan_lines(plans: Sequence[Plan], obstacle: str | None) -> list[str]:
    """Return a line for each plan, or why none can be trained."""
    if obstacle is not None:
        return [f"training would be refused: {obstacle}"]
    rows = [("plan", "epochs", "k", "selections", "FLOPs", "dense epochs", "seconds", "scan MB")]
    for plan in plans:
        costs = f"{plan.flops:.3g}", f"{plan.dense_epochs:.1f}", f"{plan.seconds:,.0f}"
        counts = f"{plan.epochs:,}", f"{plan.k:,}", f"{plan.selections:,}"
        rows.append((plan.arm, *counts, *costs, f"{plan.table_bytes / 1e6:,.1f}"))
    note = "FLOPs of masked weights are theoretical; seconds from a few batches timed on this CPU, no evaluation"
    return [*aligned(rows), note]


def few(texts: Sequence[str]) -> str:
    """Return the number and the first few of some things; nothing for none."""
    if not texts:
        return ""
    return f"{len(texts):,}: {', '.join(texts[:EXAMPLES])}{', ...' if len(texts) > EXAMPLES else ''}"


def numbers(values: Sequence[float]) -> str:
    """Return a number a channel; a range of them for more than four."""
    if not values:
        return "-"
    if len(values) > 4:
        return f"{min(values):.4g}..{max(values):.4g}"
    return " ".join(f"{value:.4g}" for value in values)


def plain(text: str) -> str:
    """Return a name so that any terminal can print it: what is no character, or would move the cursor, is escaped."""
    encoded = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in encoded)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, their columns under each other; the first column is flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]
