"""What cross found: the differences that answer its questions; who takes from another run pays for it too."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.cross_arms import (
    DENSE,
    FILLS,
    FRESH,
    FUSED,
    LONGER,
    OWN,
    PROXY,
    RANDOM,
    RETAINED,
    SCRATCH,
    SELECTS,
    SOURCES,
    SPARSE,
    TEACHES,
    ZEROS,
    Arm,
)
from sartor.studies.findings import Effect, Findings, Table, Value, summed
from sartor.studies.trainings import Row, average, mean_of, points


def charged(rows: Sequence[Row]) -> list[Row]:
    """Return runs with the cost of what they take from others."""
    names = ("question", "arm", "match", "noise", "seed")
    flops = {tuple(row[name] for name in names): row["flops"] for row in rows}
    found: list[Row] = []
    for row in rows:
        source = SOURCES.get((row["question"], row["arm"], row["match"]))
        lent = 0.0 if source is None else flops[(*source, row["noise"], row["seed"])]
        found.append({**row, "flops": row["flops"] + lent})
    return found


def compared(weights: Sequence[float]) -> Iterator[tuple[str, Arm, Arm]]:
    """Yield which arm is held against which other, question by question."""
    pairs = [((PROXY, "epochs"), (OWN, "epochs")), ((PROXY, "total"), (OWN, "epochs"))]
    pairs += [((PROXY, "epochs"), (DENSE, "epochs")), ((PROXY, "epochs"), (RANDOM, "epochs"))]
    pairs += [((PROXY, "total"), (RANDOM, "total")), ((OWN, "epochs"), (RANDOM, "total"))]
    yield from ((SELECTS, *pair) for pair in pairs)
    kept = [f"preservation {weight:g}" for weight in weights]
    against = [("distillation", "labels alone"), *((way, "labels alone") for way in kept)]
    against += [(way, "distillation") for way in kept]
    for start, (one, other) in itertools.product((FUSED, SCRATCH), against):
        yield TEACHES, (f"{start}, {one}", "epochs"), (f"{start}, {other}", "epochs")
    for way in ("labels alone", "distillation", *kept):
        yield TEACHES, (f"{FUSED}, {way}", "epochs"), (f"{SCRATCH}, {way}", "epochs")
    for one, other in itertools.product((ZEROS, RETAINED), (SPARSE, FRESH, LONGER)):
        yield FILLS, (one, "total"), (other, "total")


def told(
    results: Sequence[Row],
    settings: Sequence[tuple[float, Mapping[str, Any]]],
    pairs: Iterable[tuple[str, Arm, Arm]],
    seeds: int,
) -> Findings:
    """Tell each arm, by noise level and what varies (`settings`), and the differences that answer the questions."""
    rows: list[dict[str, Value]] = []
    effects: list[dict[str, Value]] = []
    shown: dict[str, dict[str, Interval | None]] = {}
    for noise, factors in settings:
        where = {"noise": noise, **factors}
        flops = average(results, "flops", **where)
        rows.append({**where, "accuracy": mean_of(points(results, **where)), "FLOPs": flops})
    levels = dict.fromkeys(noise for noise, _ in settings)
    for noise, (question, one, other) in itertools.product(levels, pairs):
        found = paired_difference(*(at(results, noise, question, arm) for arm in (one, other)))
        name, beside = (f"{arm} ({match})" for arm, match in (one, other))
        effects.append({"noise": noise, "question": question, "arm": name, "minus": beside, "is": Effect(found)})
        shown.setdefault(question, {})[f"{name} minus {beside}, noise {noise:g}"] = found
    runs = counted(seeds, "seed")
    tables = [Table(f"Arms, {runs}, with the cost of what they take from others", rows)]
    tables.append(Table(f"Differences, {runs}, percentage points", effects))
    verdict = [summed(question[0].upper() + question[1:], found) for question, found in shown.items()]
    return Findings(tables, verdict, [Chart("figure", list(panels(results, settings)))])


def panels(results: Sequence[Row], settings: Sequence[tuple[float, Mapping[str, Any]]]) -> Iterator[Panel]:
    """Draw the accuracies of one question at one noise level."""
    for noise, question in itertools.product(dict.fromkeys(noise for noise, _ in settings), (SELECTS, TEACHES, FILLS)):
        arms = [(f["arm"], f["match"]) for level, f in settings if (level, f["question"]) == (noise, question)]
        values = [(float(place), mean_of(at(results, noise, question, arm))) for place, arm in enumerate(arms)]
        known = [(place, value) for place, value in values if value is not None]
        names = [arm if match == "epochs" or question == FILLS else f"{arm}, equal cost" for arm, match in arms]
        series = [series_of("", known, line=False)]
        yield Panel(f"{question}, noise {noise:g}", "", "test accuracy (%)", series, names=names)


def at(results: Sequence[Row], noise: float, question: str, arm: Arm) -> dict[int, float]:
    """Return accuracies in percent by seed."""
    return points(results, noise=noise, question=question, arm=arm[0], match=arm[1])
