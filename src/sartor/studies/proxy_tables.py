"""How the study of rankings tells what it found: every network beside the noise floor and a proxy of its own size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.report.charts import Chart, Panel, series_of
from sartor.report.statistics import Interval, paired_difference
from sartor.report.wording import counted, listed
from sartor.studies.agreement import overlap
from sartor.studies.findings import Effect, Findings, Table, Value, tally
from sartor.studies.trainings import mean_of

DENSE, MEASURE = "dense", "another dense draw"
"""The network out of which others are cut, and the one whose ranking all are held against."""
RANKS = {"spearman": "Spearman's rho", "kendall": "Kendall's tau"}
PLAIN = "l2"
"""The criterion that a pruned network's name leaves out."""
ALIKE = 1.25
"""Parameters of two networks of about equal size differ by this factor at most."""
Row = Mapping[str, Any]


def pruned(sparsity: float, criterion: str = PLAIN) -> str:
    """Name a pruned network."""
    return f"pruned {sparsity:g}" + ("" if criterion == PLAIN else f" by {criterion}")


def alike(one: float, other: float) -> bool:
    """Tell whether two networks have about as many parameters."""
    return max(one, other) <= ALIKE * min(one, other)


@dataclass(frozen=True)
class Share:
    """What was found with one share of labels, by network and seed."""

    labels: float
    by_network: Mapping[str, Mapping[int, Row]]

    @classmethod
    def of(cls, results: Sequence[Row], labels: float) -> Share:
        """Gather it."""
        found: dict[str, dict[int, Row]] = {}
        for result in results:
            for row in result["networks"] if result["labels"] == labels else ():
                found.setdefault(row["network"], {})[result["seed"]] = row
        return cls(labels, found)

    @property
    def names(self) -> list[str]:
        """All networks but the one that is the measure."""
        return [name for name in self.by_network if name != MEASURE]

    def numbers(self, network: str, value: Callable[[Row], float | None]) -> dict[int, float]:
        """Return one number of a network by seed."""
        found = {seed: value(row) for seed, row in self.by_network[network].items()}
        return {seed: number for seed, number in found.items() if number is not None}

    def agreement(self, network: str, acquisition: str, name: str, side: str = "measure") -> dict[int, float]:
        """Return how a network agrees with the measure (or its `own` dense one) by seed; nothing without scores."""
        return self.numbers(network, lambda row: row[side][acquisition].get(name))

    def parameters(self, network: str) -> int:
        """Return the number of a network's parameters."""
        return next(iter(self.by_network[network].values()))["parameters"]

    def equal(self, network: str) -> str | None:
        """Return the proxy whose size is nearest to a pruned network's; None where none is alike."""
        wanted = self.parameters(network)
        others = [name for name in self.names if name != DENSE and not is_pruned(name)]
        known = [name for name in others if alike(self.parameters(name), wanted)]
        return min(known, key=lambda name: abs(self.parameters(name) - wanted), default=None)

    def minus(self, network: str, other: str, acquisition: str, name: str) -> Interval | None:
        """Return by how much more a network agrees with the measure than another one does, paired by seed."""
        return paired_difference(*(scaled(name, self.agreement(one, acquisition, name)) for one in (network, other)))

    def row(self, network: str, acquisition: str, measures: Mapping[str, str]) -> dict[str, Value]:
        """Return how a network agrees with the measure; a pruned one also by Spearman's rho with its own dense draw."""
        row = self.where(network, acquisition) | {"parameters": self.parameters(network)}
        row["accuracy"] = mean_of(self.numbers(network, lambda found: 100 * found["accuracy"]))
        for name, title in measures.items():
            row[title] = mean_of(scaled(name, self.agreement(network, acquisition, name)))
        own = self.agreement(network, acquisition, "spearman", "own")
        return row | {"rho with its own draw": mean_of(own) if is_pruned(network) else None}

    def against(self, network: str, other: str, acquisition: str, measures: Mapping[str, str]) -> dict[str, Value]:
        """Return by how much more a network agrees with the measure than another one does."""
        row = self.where(network, acquisition) | {"minus": other}
        effects = {title: (self.minus(network, other, acquisition, name), name) for name, title in measures.items()}
        return row | {title: Effect(effect, 3 if is_rank(name) else 2) for title, (effect, name) in effects.items()}

    def where(self, network: str, acquisition: str) -> dict[str, Value]:
        """Name the place."""
        return {"labels": self.labels, "acquisition": acquisition, "network": network}


def is_pruned(network: str) -> bool:
    """Tell a pruned network by its name."""
    return network.startswith(pruned(0)[:-1])


def is_rank(name: str) -> bool:
    """Tell a rank correlation from an overlap."""
    return name in RANKS


def scaled(name: str, values: Mapping[int, float]) -> dict[int, float]:
    """Return overlaps in percent, rank correlations as they are."""
    return {seed: value if is_rank(name) else 100 * value for seed, value in values.items()}


def by_criterion(network: str, criterion: str) -> str:
    """Name the pruned network of the same sparsity that another criterion leaves.

    >>> by_criterion("pruned 0.5 by snip", "l2"), by_criterion("pruned 0.5", "random")
    ('pruned 0.5', 'pruned 0.5 by random')
    """
    return pruned(float(network.split()[1]), criterion)


def findings(
    results: Sequence[Row], acquisitions: Sequence[str], tops: Sequence[float], criteria: Sequence[str] = (PLAIN,)
) -> Findings:
    """Tell what was found in tables of values and of differences, a verdict and a figure."""
    shares = [Share.of(results, labels) for labels in sorted({result["labels"] for result in results})]
    measures = RANKS | {overlap(top): f"{overlap(top)}, %" for top in tops}
    runs = counted(len({result["seed"] for result in results}), "seed")
    places = [(share, name, spec) for share in shares for spec in acquisitions for name in share.names]
    floor = [(share, name, DENSE, spec) for share, name, spec in places if name != DENSE]
    equals = [(share, name, share.equal(name), spec) for share, name, spec in places if is_pruned(name)]
    pairs = [(share, name, other, spec) for share, name, other, spec in equals if other is not None]
    cuts = [(share, name, by_criterion(name, criteria[0]), spec) for share, name, spec in places if is_pruned(name)]
    cuts = [(share, name, other, spec) for share, name, other, spec in cuts if name != other]
    by_chance = listed([f"{100 * top:g} %" for top in tops])
    compared = {
        "Minus the noise floor": floor,
        "Minus a proxy of about equal size": pairs,
        f"Minus channels pruned by {criteria[0]}": cuts,
    }
    title = f"Agreement with another dense draw, {runs}; overlaps by chance are {by_chance}"
    tables = [Table(title, [share.row(name, spec, measures) for share, name, spec in places])]
    for title, there in compared.items():
        rows = [share.against(one, two, spec, measures) for share, one, two, spec in there]
        tables += [Table(f"{title}, {runs}", rows)] if rows else []
    chart = Chart("figure", list(panels(shares, acquisitions, tops)))
    sides = {
        "the noise floor": [pair for pair in floor if is_pruned(pair[1])],
        "a proxy of equal size": pairs,
        f"one pruned by {criteria[0]}": cuts,
    }
    return Findings(tables, verdict(sides, acquisitions, tops), [chart])


Pairs = Sequence[tuple[Share, str, str, str]]
"""Where two networks are compared: share of labels, network, the other one, acquisition."""


def verdict(sides: Mapping[str, Pairs], acquisitions: Sequence[str], tops: Sequence[float]) -> list[str]:
    """Say how pruned networks stand to what is beside them, acquisition by acquisition."""
    alone = not sides["a proxy of equal size"]
    sentences = ["No small network of about equal size stands beside a pruned one; give --proxies."] if alone else []
    for spec, (what, places) in itertools.product(acquisitions, sides.items()):
        here = [(share, name, other) for share, name, other, acquisition in places if acquisition == spec]
        for title, names in (("rank correlation", ["spearman"]), ("overlap", [overlap(top) for top in tops])):
            effects = [share.minus(one, two, spec, name) for share, one, two in here for name in names]
            if any(effect is not None for effect in effects):
                sentences.append(tally(f"By {spec}, {title} of a pruned network minus that of {what}", effects))
    return sentences


def panels(shares: Sequence[Share], acquisitions: Sequence[str], tops: Sequence[float]) -> Iterator[Panel]:
    """Draw correlations and overlaps of all networks, a panel for each share of labels and measure."""
    measures = [("spearman", "Spearman's rho", None), *((overlap(top), overlap(top), top) for top in tops)]
    for share, (name, title, chance) in itertools.product(shares, measures):
        series = []
        for number, spec in enumerate(acquisitions):
            values = [(float(place), mean_of(share.agreement(n, spec, name))) for place, n in enumerate(share.names)]
            known = [(place, value) for place, value in values if value is not None]
            series.append(series_of(spec, known, shift=0.1 * (number - (len(acquisitions) - 1) / 2), line=False))
        yield Panel(f"{title}, {share.labels:g} of the labels", "", title, series, names=share.names, level=chance)
