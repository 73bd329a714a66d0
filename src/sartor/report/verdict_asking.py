"""What a comparison of ways to ask for labels says: budget by budget, and where a gain comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sartor.report.budgets import Point, budgets_of, difference_at, points_of
from sartor.report.finding import Finding
from sartor.report.statistics import Interval, Outcome
from sartor.report.table import Block, Row
from sartor.report.wording import brief_percent, counted, listed, signed, span

CONTRASTS = (
    ("prunefuse", "prunefuse-random", "choosing, with fusion and distillation in both"),
    ("prunefuse-random", "random", "fusion and distillation, with nothing chosen in either"),
    ("prunefuse", "scratch", "fusion and distillation, where pruned networks choose for both"),
    ("scratch", "active", "labels by a pruned network instead of the dense one, targets from scratch in both"),
    ("active", "random", "choosing by the dense network"),
)
"""Pairs of arms that differ in one thing, and what that is; what else their options may differ in is found there."""
_WORDS: dict[Outcome, str] = {
    "better": "a gain",
    "worse": "a loss",
    "unclear": "no difference could be shown",
    "unknown": "one seed, which shows nothing",
}


def asking_findings(block: Block) -> list[Finding]:
    """Collect what one comparison says, by topic."""
    by_topic = {
        f"PruneFuse against {block.baseline}": [_against(row, block, block.baseline) for row in block.joint_rows],
        "What each part adds": _contrasts(block),
        f"The others against {block.random}": [
            _against(row, block, block.random) for row in block.rows if row not in block.joint_rows
        ],
        "Selectors": [text for row in block.rows for text in _lost(row, block)],
        "Cost": _costs(block),
    }
    return [Finding(topic, text) for topic, texts in by_topic.items() for text in texts if text]


def _against(row: Row, block: Block, other: str) -> str:
    """Say at which budgets an arm is better than another, at which it is worse, at which nothing could be shown."""
    groups: dict[Outcome, list[str]] = {}
    for labelled in budgets_of(block):
        found = difference_at(block, row.arm, other, labelled)
        if found is not None:
            groups.setdefault(found.outcome, []).append(f"{labelled} ({_amount(found)})")
    shown: tuple[tuple[Outcome, str], ...] = (("better", "better than"), ("worse", "worse than"))
    parts = [f"{words} {other} with {listed(groups[outcome])} labels" for outcome, words in shown if outcome in groups]
    if "unclear" in groups:
        parts.append(f"no difference to {other} could be shown with {listed(groups['unclear'], 'or')} labels")
    if "unknown" in groups:
        parts.append(f"one seed, which shows nothing, differs from {other} with {listed(groups['unknown'])} labels")
    return f"{row.arm}: {'; '.join(parts)}." if parts else ""


def _amount(difference: Interval) -> str:
    ends = "" if math.isnan(difference.low) else f", {span(difference)}"
    return f"{signed(difference.mean)} pp{ends}"


def _contrasts(block: Block) -> list[str]:
    """Hold pairs of arms against each other, with all labels, and say in what they differ."""
    budgets = budgets_of(block)
    found = [(pair, difference_at(block, pair[0], pair[1], budgets[-1])) for pair in CONTRASTS]
    return [
        f"With {budgets[-1]} labels, {words}{_besides(block, first, other)} ({first} minus {other}): "
        f"{_amount(interval)}; {_WORDS[interval.outcome]}."
        for (first, other, words), interval in found
        if interval is not None
    ]


def _besides(block: Block, first: str, other: str) -> str:
    """Say in what else two arms differ, by the options that reach one of them alone."""
    own, others = (row.runs[0].options if row is not None else {} for row in (block.row(first), block.row(other)))
    if not own or not others:
        return ""
    mine, theirs = _target_training(own), _target_training(others)
    differing = [name for name in mine if mine[name] != theirs[name]]
    text = f", and another {listed(differing)} of the target" if differing else ""
    if own.get("t_sync") and others.get("t_sync") and own.get("kd") != others.get("kd"):
        text += f", and selectors that {other} synchronises without a teacher"
    return text


def _target_training(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run's targets are trained: as what chooses is, where nothing else is said."""
    schedule = options.get("target_schedule", "same")
    return {
        "learning rate": options.get("target_lr") or options.get("lr"),
        "length": options.get("target_epochs") or options.get("stop_after") or options.get("epochs"),
        "schedule": options.get("schedule") if schedule == "same" else schedule,
    }


def _lost(row: Row, block: Block) -> list[str]:
    """Say where selectors had learnt nothing: those that chose, and those that only a target comes of."""
    words = {
        True: "what chooses had learnt nothing {}; such a choice is no better than a draw, and may be worse",
        False: "what the target begins from or is taught by had learnt nothing {}; it chose nothing there",
    }
    found = []
    for chose, text in words.items():
        places = [
            f"with {point.labelled} labels in {point.at_chance} of {counted(point.n, 'run')}"
            for point in points_of(block, row)
            if point.at_chance and point.chose == chose
        ]
        if places:
            found.append(f"{row.arm}: {text.format(listed(places))}.")
    return found


def _costs(block: Block) -> list[str]:
    """Say what arms cost up to the last target, as shares of the baseline, ours beside the paper's."""
    points = {row.arm: _last(points_of(block, row)) for row in block.rows}
    base = points.get(block.baseline)
    if base is None:
        return []
    found = []
    for row in block.rows:
        point = points[row.arm]
        if point is None or row.arm == block.baseline:
            continue
        shares = (_share(point.flops, base.flops), _share(point.cost_paper, base.cost_paper), row.seconds_relative)
        found.append(f"{row.arm} {' / '.join(brief_percent(share) for share in shares)}")
    what = "FLOPs / selectors' cost by the paper's convention / seconds"
    return [f"As shares of {block.baseline}, in all: {what}: {'; '.join(found)}."] if found else []


def _share(cost: float | None, base: float | None) -> float | None:
    return cost / base if cost is not None and base else None


def _last(points: Sequence[Point]) -> Point | None:
    return points[-1] if points else None
