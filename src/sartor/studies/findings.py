"""What a study found: tables, figures, and a paragraph that says no more than its intervals do."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sartor.report.charts import Chart, as_csv, draw
from sartor.report.statistics import Interval, equivalence
from sartor.report.wording import counted


@dataclass(frozen=True)
class Effect:
    """A difference in which more is better, or None where there is nothing to compare; `digits` after the point."""

    interval: Interval | None
    digits: int = 2

    def __str__(self) -> str:
        found = self.interval
        if found is None:
            return ""
        if math.isnan(found.low):
            return f"{found.mean:+.{self.digits}f}"
        text = f"{found.mean:+.{self.digits}f} ({found.low:+.{self.digits}f} to {found.high:+.{self.digits}f})"
        return text if found.outcome == "unclear" else f"**{text}**"


Value = str | int | float | Interval | Effect | None


@dataclass(frozen=True)
class Table:
    """Rows of one shape: what a column is called, and its values. Intervals and effects are four columns of a csv."""

    title: str
    rows: Sequence[Mapping[str, Value]]

    def markdown(self) -> str:
        """Return the table as text; differences that leave out 0 are in bold."""
        names = list(self.rows[0]) if self.rows else []
        lines = [f"### {self.title}", "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines += [f"| {' | '.join(shown(row[name]) for name in names)} |" for row in self.rows]
        return "\n".join([*lines, ""])


@dataclass(frozen=True)
class Findings:
    """Tables, figures and the verdict, an entry for what answers one question."""

    tables: Sequence[Table]
    verdict: Sequence[str]
    charts: Sequence[Chart] = field(default=())

    @property
    def text(self) -> str:
        """The verdict and the tables, as table.md has them."""
        return "\n".join([as_list(self.verdict), *(table.markdown() for table in self.tables)])

    def files(self) -> Iterator[tuple[str, str | bytes]]:
        """Yield file names and contents."""
        yield "results.csv", rows_as_csv(self.tables)
        yield "table.md", self.text
        yield from chart_files(self.charts)


def as_list(verdict: Sequence[str]) -> str:
    """Write a verdict as a list, a line for each question."""
    return "".join(f"- {answer}\n" for answer in verdict)


def chart_files(charts: Sequence[Chart]) -> Iterator[tuple[str, str | bytes]]:
    """Yield file names and contents of figures: as csv, svg and png."""
    for chart in charts:
        yield f"{chart.name}.csv", as_csv(chart)
        for kind in ("svg", "png"):
            yield f"{chart.name}.{kind}", draw(chart, kind)


def shown(value: Value) -> str:
    """Write one value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, Interval):
        return f"{value.mean:.2f}" + ("" if math.isnan(value.low) else f" ± {value.half_width:.2f}")
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def rows_as_csv(tables: Sequence[Table]) -> str:
    """Return all rows of all tables, the table's title first; what a table has no column for is empty."""
    return csv_of([{"table": table.title, **flat(row)} for table in tables for row in table.rows])


def csv_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as csv; what a row has not is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(row: Mapping[str, Value]) -> dict[str, str | int | float | None]:
    """Return a row with mean, ends and n of each interval in columns of their own."""
    line: dict[str, str | int | float | None] = {}
    for name, value in row.items():
        if isinstance(value, Interval | Effect):
            found = value.interval if isinstance(value, Effect) else value
            for end in ("mean", "low", "high", "n"):
                number = None if found is None else getattr(found, end)
                line[f"{name}_{end}"] = None if number is None or math.isnan(number) else number
        else:
            line[name] = value
    return line


def compared(name: str, other: str, found: Interval | None, unit: str = "points") -> str:
    """Say in one sentence what a paired difference shows, and nothing that its interval does not."""
    if found is None:
        return f"Nothing stands beside {name} to compare {other} with."
    if math.isnan(found.low):
        return f"{name} minus {other} is {found.mean:+.2f} {unit} with one seed, which shows nothing."
    amount = f"{found.mean:+.2f} {unit}, {found.low:+.2f} to {found.high:+.2f}, n = {found.n}"
    if found.outcome == "unclear":
        return f"Between {name} and {other} no difference could be shown ({amount})."
    return f"{name} is {found.outcome} than {other} ({amount})."


def tally(what: str, effects: Sequence[Interval | None], positive: str = "above 0", negative: str = "below 0") -> str:
    """Say how many of several differences leave out 0, on which side, and how many do not; one seed shows nothing."""
    outcomes = [effect.outcome for effect in effects if effect is not None]
    alone = outcomes.count("unknown")
    if alone == len(outcomes):
        return f"{what}: nothing is shown, for that takes two seeds or more."
    return (
        f"{what}: of {counted(len(outcomes) - alone, 'comparison')}, {outcomes.count('better')} {positive}, "
        f"{outcomes.count('worse')} {negative}, {outcomes.count('unclear')} where none could be shown "
        f"(95 % intervals, not corrected for their number{left_out(alone)})."
    )


def left_out(alone: int) -> str:
    """Say of how many differences there is one seed only."""
    return f"; {alone} more of one seed left out" if alone else ""


def summed(what: str, effects: Mapping[str, Interval | None]) -> str:
    """Say how many differences could be shown, then which, by where they are."""
    return tally(what, list(effects.values())) + named(effects)


def named(effects: Mapping[str, Interval | None]) -> str:
    """Continue with those of the differences that leave out 0, if any does."""
    found = [(name, e) for name, e in effects.items() if e is not None and e.outcome in ("better", "worse")]
    each = [f"{name}: {e.mean:+.2f} ({e.low:+.2f} to {e.high:+.2f})" for name, e in found]
    return f" Shown are {'; '.join(each)}." if each else ""


def standing(found: Interval | None, margin: float) -> str:
    """Say where a difference stands to 0 and to +- margin; `within` is by two one-sided tests at 5 %."""
    if found is None or math.isnan(found.low):
        return "unknown"
    side = {"better": "above 0", "worse": "below 0"}.get(found.outcome, "")
    within = f"within {margin:g}" if equivalence(found, margin) < 0.05 else ""
    return ", ".join(filter(None, (side, within))) or "undecided"


def bounded(what: str, effects: Mapping[str, Interval | None], margin: float) -> str:
    """Say whether every difference lies within +- margin, how many do, and which could be shown to leave out 0."""
    stands = [standing(found, margin) for found in effects.values() if found is not None]
    alone = stands.count("unknown")
    if alone == len(stands):
        return f"{what}: nothing is shown, for that takes two seeds or more."
    within = sum("within" in stand for stand in stands)
    whole = "all of them, so over the whole grid" if within == len(effects) else f"{within} of them"
    return (
        f"{what}: of {counted(len(stands) - alone, 'difference')}, within {margin:g} points of 0 (two one-sided tests, "
        f"5 %{left_out(alone)}) are {whole}; {sum('undecided' in stand for stand in stands)} stay undecided."
        f"{named(effects)}"
    )
