"""What double-loss found: its tables, its figure, and sentences that say no more than the intervals do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sartor.recipes.swast import NONE
from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.double_loss_arms import HOLDS, RANDOM, TRACKED
from sartor.studies.double_loss_square import Square
from sartor.studies.findings import Effect, Findings, Table, Value, bounded, standing, summed
from sartor.studies.tracking import KINDS
from sartor.studies.trainings import by_seed, mean_of

NULLS = KINDS[2:]
RETURNS = ("weights back", "weights back after", "samples back", "samples back after")


def told(squares: Sequence[Square], seeds: int, margin: float) -> Findings:
    """Tell all that was found."""
    runs, chosen = counted(seeds, "seed"), [square for square in squares if square.selector != RANDOM]
    tables = [
        Table(f"Pruning with chosen samples against random ones, {runs}, percentage points", collapses(chosen, margin)),
        Table(f"Coresets and masks swapped with those of the next seed, {runs}", swaps(squares, margin)),
        Table(f"Remedies, {runs}", list(remedies(squares))),
        Table(f"Who held the weights that died, {runs}, points of samples", list(tracks(squares))),
    ]
    return Findings(tables, list(verdict(squares, chosen, margin)), [Chart("figure", list(panels(squares, chosen)))])


def verdict(squares: Sequence[Square], chosen: Sequence[Square], margin: float) -> Iterator[str]:
    """Yield the sentences: each effect is held against the control that its own recipe has by chance or by cost."""
    yield summed("Chosen minus random samples with all weights", {s.name: s.choice() for s in chosen})
    yield bounded(
        "What pruning does to accuracy with chosen samples, minus that with random ones (below 0: a collapse)",
        {s.name: mean_of(s.collapse()) for s in chosen},
        margin,
    )
    firsts = {s.size: s for s in reversed(chosen)}
    others = {
        f"{s.name}, minus {firsts[s.size].selector}": paired_difference(s.collapse(), firsts[s.size].collapse())
        for s in chosen
        if s != firsts[s.size]
    }
    if others:
        yield summed("That, minus the same with the first way to choose", others)
    worth = {s.name: over_random(squares, s) for s in chosen}
    yield bounded("Worth of coresets and masks from one run, minus that of random samples", worth, margin)
    for pruned in (True, False):
        gains = {f"{hold}, {s.name}": s.gain(hold, pruned=pruned) for s, hold in tried(squares, pruned=pruned)}
        if gains:
            yield summed(f"Remedies minus none with {'pruned' if pruned else 'all'} weights", gains)
    taken = {f"{hold}, {s.name}": lifted(s, hold) for s, hold in tried(chosen, pruned=True)}
    if taken:
        yield summed("What a remedy takes off the collapse", taken)
    leans = {s.name: mean_of(s.tracked(NONE, "lean")) for s in squares}
    yield summed("Weights that died lean on left-out samples more than weights alike", leans)
    for null in NULLS:
        effects = {s.name: paired_difference(s.tracked(NONE, "lean"), s.tracked(NONE, null)) for s in squares}
        yield summed(f"That lean, minus the same with {null}", effects)


def tried(squares: Sequence[Square], *, pruned: bool) -> Iterator[tuple[Square, str]]:
    """Yield every remedy that was tried."""
    for square in squares:
        yield from ((square, hold) for hold in square.holds(pruned=pruned) if hold != NONE)


def lifted(square: Square, hold: str) -> Interval | None:
    """Return by how much a remedy lifts a collapse: what it does to pruned weights and chosen samples alone."""
    return paired_difference(square.collapse(hold), square.collapse())


def over_random(squares: Sequence[Square], square: Square) -> Interval | None:
    """Return the worth of pairing minus that of random samples, which depend on no network and so on no mask."""
    control = {s.size: s.pairing() for s in squares if s.selector == RANDOM}
    return paired_difference(square.pairing(), control.get(square.size, {}))


def collapses(squares: Sequence[Square], margin: float) -> list[dict[str, Value]]:
    """Return a row for each selector: the four accuracies, classes, and the difference of differences."""
    rows: list[dict[str, Value]] = []
    for square in squares:
        row: dict[str, Value] = {**square.where}
        for name, selector in (("chosen", square.selector), ("random", RANDOM)):
            for kind, pruned in (("all weights", False), ("pruned", True)):
                row[f"{name}, {kind}"] = mean_of(square.points(pruned=pruned, selector=selector))
        for kind, pruned in (("all weights", False), ("pruned", True)):
            fewest = by_seed(square.results, lambda run: float(run["classes"]), **square.place(pruned=pruned))
            row[f"fewest classes, {kind}"] = mean_of(fewest)
        found = mean_of(square.collapse())
        rows.append(row | {"collapse": Effect(found), "stands": standing(found, margin)})
    return rows


def swaps(squares: Sequence[Square], margin: float) -> list[dict[str, Value]]:
    """Return a row for each square: accuracies with own and swapped coresets and masks, and what pairing is worth."""
    rows: list[dict[str, Value]] = []
    for square in squares:
        row: dict[str, Value] = {**square.where}
        for coresets in ("own", "swapped"):
            for masks in ("own", "swapped"):
                row[f"{coresets} coresets, {masks} masks"] = mean_of(square.points(coresets=coresets, masks=masks))
        found = None if square.selector == RANDOM else over_random(squares, square)
        row |= {"pairing": Effect(mean_of(square.pairing())), "minus random": Effect(found)}
        rows.append(row | {"stands": "" if square.selector == RANDOM else standing(found, margin)})
    return rows


def remedies(squares: Sequence[Square]) -> Iterator[dict[str, Value]]:
    """Yield a row for each remedy, with all weights and with pruned ones, and by how much it helps pruned ones more."""
    for square in squares:
        for hold in square.holds(pruned=True):
            row: dict[str, Value] = {**square.where, "hold": hold}
            for kind, pruned in (("all weights", False), ("pruned", True)):
                row[kind] = mean_of(square.points(pruned=pruned, hold=hold))
                row[f"{kind}, FLOPs"] = square.flops(pruned=pruned, hold=hold)
                row[f"{kind}, minus none"] = Effect(None if hold == NONE else square.gain(hold, pruned=pruned))
            held, drawn = hold != NONE, square.selector == RANDOM
            row["more where pruned"] = Effect(mean_of(square.helped(hold)) if held else None)
            row["collapse"] = Effect(None if drawn else mean_of(square.collapse(hold)))
            yield row | {"off the collapse": Effect(lifted(square, hold) if held and not drawn else None)}


def tracks(squares: Sequence[Square]) -> Iterator[dict[str, Value]]:
    """Yield a row for each hold that was tracked."""
    for square in squares:
        for hold in (hold for hold in TRACKED if square.points(hold=hold)):
            row: dict[str, Value] = {**square.where, "hold": hold, KINDS[0]: mean_of(square.tracked(hold, KINDS[0]))}
            row |= {kind: Effect(mean_of(square.tracked(hold, kind))) for kind in KINDS[1:]}
            own = square.tracked(hold, "lean")
            row |= {f"minus {null}": Effect(paired_difference(own, square.tracked(hold, null))) for null in NULLS}
            yield row | {kind: mean_of(square.tracked(hold, kind)) for kind in RETURNS}


def panels(squares: Sequence[Square], chosen: Sequence[Square]) -> Iterator[Panel]:
    """Draw the differences of differences, the remedies of pruned weights, and the tracks."""
    for title, here, values in (
        ("pruning: chosen minus random samples", chosen, [mean_of(square.collapse()) for square in chosen]),
        ("coresets and masks of one run, minus random", chosen, [over_random(squares, square) for square in chosen]),
    ):
        known = [(float(place), value) for place, value in enumerate(values) if value is not None]
        names = [square.short for square in here]
        yield Panel(title, "", "percentage points", [series_of("", known, line=False)], names=names, level=0.0)
    names = [square.short for square in squares]
    kinds = [hold for hold in HOLDS[False] if any(hold in square.holds(pruned=True) for square in squares)]
    for title, unit, labels, read in (
        ("pruned weights", "test accuracy (%)", kinds, lambda s, hold: mean_of(s.points(hold=hold))),
        (
            "dead minus alike weights, held by left-out samples",
            "points",
            KINDS[1:],
            lambda s, kind: mean_of(s.tracked(NONE, kind)),
        ),
    ):
        series = []
        for number, label in enumerate(labels):
            found = [(float(place), read(square, label)) for place, square in enumerate(squares)]
            known = [(place, value) for place, value in found if value is not None]
            series.append(series_of(label, known, shift=0.1 * (number - len(labels) / 2), line=False))
        yield Panel(title, "", unit, series, names=names)
