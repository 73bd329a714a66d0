"""What double-loss found: its tables, its figure, and sentences that say no more than the intervals do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.recipes.swast import NONE
from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, mean_interval, paired_difference
from sartor.report.wording import counted
from sartor.studies.findings import Effect, Findings, Table, Value, bounded, standing, summed
from sartor.studies.trainings import Row, by_seed, mean_of, points

SMOOTH = "label smoothing"
HELD = (NONE, "selective", "complete", SMOOTH, "EMA teacher")
HOLDS = {True: HELD, False: (*HELD, "AC/DC", "unscaled start")}
"""Kinds of hold for all weights (True) and for pruned ones."""
KINDS = ("lean", "swapped masks", "swapped coresets", "living")
RETURNS = ("weights back", "weights back after", "samples back", "samples back after")


@dataclass(frozen=True)
class Square:
    """The runs of one selector, fraction and sparsity, with all weights beside, and random samples."""

    results: Sequence[Row]
    selector: str
    fraction: float
    sparsity: float

    @property
    def name(self) -> str:
        """Name it in a sentence."""
        return f"{self.selector}, {self.fraction:g} of the data, {self.sparsity:g} pruned"

    @property
    def short(self) -> str:
        """Name it in a figure."""
        return f"{self.selector}, {self.fraction:g}, {self.sparsity:g}"

    @property
    def where(self) -> dict[str, Value]:
        """Name it in a table."""
        return {"selector": self.selector, "fraction": self.fraction, "sparsity": self.sparsity}

    def place(self, *, pruned: bool = True, **changed: Any) -> dict[str, Any]:
        """Say which runs are meant: those without a hold or a swap, unless `changed` says otherwise."""
        plain = {"hold": NONE, "coresets": "own", "masks": "own"}
        return {**self.where, **plain, "sparsity": self.sparsity if pruned else None, **changed}

    def points(self, *, pruned: bool = True, **changed: Any) -> dict[int, float]:
        """Return accuracies in percent by seed."""
        return points(self.results, **self.place(pruned=pruned, **changed))

    def holds(self, *, pruned: bool) -> list[str]:
        """Name the kinds of hold that were tried."""
        return [hold for hold in HOLDS[not pruned] if self.points(pruned=pruned, hold=hold)]

    def flops(self, *, pruned: bool, hold: str) -> float | None:
        """Return the mean FLOPs of a hold's runs; None of no runs."""
        found = mean_of(by_seed(self.results, lambda run: float(run["flops"]), **self.place(pruned=pruned, hold=hold)))
        return None if found is None else found.mean

    def collapse(self, hold: str = NONE) -> Interval | None:
        """Return what pruning does to chosen samples minus what it does to random ones: below 0 it is a collapse.

        A hold is held to itself with all weights, where there is that.
        """
        holds = {True: hold, False: hold if hold in HELD else NONE}
        kinds = [(selector, pruned) for selector in (self.selector, "random") for pruned in (True, False)]
        return crossed([self.points(pruned=p, selector=s, hold=holds[p]) for s, p in kinds])

    def choice(self) -> Interval | None:
        """Return what chosen samples are worth over random ones with all weights."""
        mine, random = (self.points(pruned=False, selector=selector) for selector in (self.selector, "random"))
        return paired_difference(mine, random)

    def pairing(self) -> Interval | None:
        """Return what it is worth that coresets and masks come from one run, own or not: below 0, they hurt together.

        That a coreset or mask comes from another run cancels out; what is left is that both come from the same one. Two
        of the four pairs do, so the difference of differences has it twice.
        """
        kinds = [("own", "own"), ("swapped", "own"), ("own", "swapped"), ("swapped", "swapped")]
        return crossed([self.points(coresets=coresets, masks=masks) for coresets, masks in kinds], over=2)

    def tracked(self, hold: str, name: str) -> dict[int, float]:
        """Return a number of the tracks by seed, of the runs that have it."""
        known = [row for row in self.results if row.get(name) is not None]
        return by_seed(known, lambda row: float(row[name]), **self.place(hold=hold))


def crossed(corners: Sequence[Mapping[int, float]], over: int = 1) -> Interval | None:
    """Return (first - second - third + fourth) / over, paired by seed."""
    one, two, three, four = corners
    seeds = sorted(set.intersection(*(set(corner) for corner in corners)))
    found = [round((one[seed] - two[seed] - three[seed] + four[seed]) / over, 9) for seed in seeds]
    return mean_interval(found) if found else None


def told(squares: Sequence[Square], seeds: int, margin: float) -> Findings:
    """Tell all that was found."""
    runs, chosen = counted(seeds, "seed"), [square for square in squares if square.selector != "random"]
    tables = [
        Table(f"Pruning with chosen samples against random ones, {runs}, percentage points", collapses(chosen, margin)),
        Table(f"Coresets and masks swapped with those of the next seed, {runs}", swaps(squares, margin)),
        Table(f"Remedies, {runs}", list(remedies(squares))),
        Table(f"Who held the weights that died, {runs}, points of samples", list(tracks(squares))),
    ]
    verdict = summed("Chosen minus random samples with all weights", {s.name: s.choice() for s in chosen})
    verdict += bounded(
        "What pruning does to accuracy with chosen samples, minus that with random ones (below 0: a collapse)",
        {s.name: s.collapse() for s in chosen},
        margin,
    )
    verdict += bounded("Worth of coresets and masks from one run", {s.name: s.pairing() for s in squares}, margin)
    for pruned in (True, False):
        gains = {
            f"{hold}, {s.name}": gain(s, hold, pruned)
            for s in squares
            for hold in s.holds(pruned=pruned)
            if hold != NONE
        }
        if gains:
            verdict += summed(f"Remedies minus none with {'pruned' if pruned else 'all'} weights", gains)
    for null in KINDS[1:3]:
        effects = {s.name: paired_difference(s.tracked(NONE, "lean"), s.tracked(NONE, null)) for s in squares}
        verdict += summed(f"Dead weights lean on left-out samples more than with {null}", effects)
    return Findings(tables, verdict, [Chart("figure", list(panels(squares, chosen)))])


def gain(square: Square, hold: str, pruned: bool) -> Interval | None:
    """Return what a remedy brings."""
    return paired_difference(square.points(pruned=pruned, hold=hold), square.points(pruned=pruned))


def collapses(squares: Sequence[Square], margin: float) -> list[dict[str, Value]]:
    """Return a row for each selector: the four accuracies, classes, and the difference of differences."""
    rows: list[dict[str, Value]] = []
    for square in squares:
        row: dict[str, Value] = {**square.where}
        for name, selector in (("chosen", square.selector), ("random", "random")):
            for kind, pruned in (("all weights", False), ("pruned", True)):
                row[f"{name}, {kind}"] = mean_of(square.points(pruned=pruned, selector=selector))
        for kind, pruned in (("all weights", False), ("pruned", True)):
            fewest = by_seed(square.results, lambda run: float(run["classes"]), **square.place(pruned=pruned))
            row[f"fewest classes, {kind}"] = mean_of(fewest)
        rows.append(row | {"collapse": Effect(square.collapse()), "stands": standing(square.collapse(), margin)})
    return rows


def swaps(squares: Sequence[Square], margin: float) -> list[dict[str, Value]]:
    """Return a row for each square: accuracies with own and swapped coresets and masks, and what pairing is worth."""
    rows: list[dict[str, Value]] = []
    for square in squares:
        row: dict[str, Value] = {**square.where}
        for coresets in ("own", "swapped"):
            for masks in ("own", "swapped"):
                row[f"{coresets} coresets, {masks} masks"] = mean_of(square.points(coresets=coresets, masks=masks))
        rows.append(row | {"pairing": Effect(square.pairing()), "stands": standing(square.pairing(), margin)})
    return rows


def remedies(squares: Sequence[Square]) -> Iterator[dict[str, Value]]:
    """Yield a row for each remedy, with all weights and with pruned ones, and by how much it helps pruned ones more."""
    for square in squares:
        for hold in square.holds(pruned=True):
            row: dict[str, Value] = {**square.where, "hold": hold}
            for kind, pruned in (("all weights", False), ("pruned", True)):
                row[kind] = mean_of(square.points(pruned=pruned, hold=hold))
                row[f"{kind}, FLOPs"] = square.flops(pruned=pruned, hold=hold)
                row[f"{kind}, minus none"] = Effect(None if hold == NONE else gain(square, hold, pruned))
            corners = [square.points(pruned=p, hold=h) for h in (hold, NONE) for p in (True, False)]
            row["more where pruned"] = Effect(None if hold == NONE else crossed(corners))
            yield row | {"collapse": Effect(None if square.selector == "random" else square.collapse(hold))}


def tracks(squares: Sequence[Square]) -> Iterator[dict[str, Value]]:
    """Yield a row for each hold that was tracked."""
    for square in squares:
        for hold in (hold for hold in HELD[:3] if square.points(hold=hold)):
            lean = square.tracked(hold, "lean")
            row: dict[str, Value] = {**square.where, "hold": hold}
            row |= {kind: mean_of(square.tracked(hold, kind)) for kind in KINDS}
            row |= {f"minus {k}": Effect(paired_difference(lean, square.tracked(hold, k))) for k in KINDS[1:]}
            yield row | {kind: mean_of(square.tracked(hold, kind)) for kind in RETURNS}


def panels(squares: Sequence[Square], chosen: Sequence[Square]) -> Iterator[Panel]:
    """Draw the differences of differences, the remedies of pruned weights, and the tracks."""
    for title, here, values in (
        ("pruning: chosen minus random samples", chosen, [square.collapse() for square in chosen]),
        ("coresets and masks of one run", squares, [square.pairing() for square in squares]),
    ):
        known = [(float(place), value) for place, value in enumerate(values) if value is not None]
        names = [square.short for square in here]
        yield Panel(title, "", "percentage points", [series_of("", known, line=False)], names=names, level=0.0)
    names = [square.short for square in squares]
    tried = [hold for hold in HOLDS[False] if any(hold in square.holds(pruned=True) for square in squares)]
    for title, unit, labels, read in (
        ("pruned weights", "test accuracy (%)", tried, lambda s, hold: mean_of(s.points(hold=hold))),
        ("dead weights held by left-out samples", "points", KINDS, lambda s, kind: mean_of(s.tracked(NONE, kind))),
    ):
        series = []
        for number, label in enumerate(labels):
            found = [(float(place), read(square, label)) for place, square in enumerate(squares)]
            known = [(place, value) for place, value in found if value is not None]
            series.append(series_of(label, known, shift=0.1 * (number - len(labels) / 2), line=False))
        yield Panel(title, "", unit, series, names=names)
