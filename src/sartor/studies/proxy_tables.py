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
ALIKE = 1.25
"""Parameters of two networks of about equal size differ by this factor at most."""
Row = Mapping[str, Any]


def pruned(sparsity: float) -> str:
    """Name a pruned network."""
    return f"pruned {sparsity:g}"


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

    def minus(self, network: str, other: str | None, acquisition: str, name: str) -> Interval | None:
        """Return by how much a network agrees more with the measure than another one does, paired by seed."""
        if other is None or other == network:
            return None
        return paired_difference(*(self.agreement(one, acquisition, name) for one in (network, other)))

    def row(self, network: str, acquisition: str, tops: Sequence[float]) -> dict[str, Value]:
        """Return a row of the table."""
        row: dict[str, Value] = {"labels": self.labels, "acquisition": acquisition, "network": network}
        row |= {"parameters": self.parameters(network)}
        row["accuracy"] = mean_of(self.numbers(network, lambda found: 100 * found["accuracy"]))
        for name, title in (("spearman", "Spearman's rho"), ("kendall", "Kendall's tau")):
            row[title] = mean_of(self.agreement(network, acquisition, name))
        for top in tops:
            shares = self.agreement(network, acquisition, overlap(top))
            row[f"{overlap(top)}, %"] = mean_of({seed: 100 * share for seed, share in shares.items()})
        first = measure_of(self, network, acquisition, tops)
        row["minus dense"] = Effect(self.minus(network, DENSE, acquisition, first), 3)
        small = self.equal(network) if is_pruned(network) else None
        row["minus proxy"] = Effect(self.minus(network, small, acquisition, first), 3)
        own = {} if network == DENSE else self.agreement(network, acquisition, first, "own")
        return row | {"with its own draw": mean_of(own) if is_pruned(network) else None}


def is_pruned(network: str) -> bool:
    """Tell a pruned network by its name."""
    return network.startswith(pruned(0)[:-1])


def measure_of(share: Share, network: str, acquisition: str, tops: Sequence[float]) -> str:
    """Return the measure of which differences are told: Spearman's, or the first overlap where nothing is scored."""
    return "spearman" if share.agreement(network, acquisition, "spearman") else overlap(tops[0])


def findings(results: Sequence[Row], acquisitions: Sequence[str], tops: Sequence[float]) -> Findings:
    """Tell what was found in a table for all, a verdict and a figure."""
    shares = [Share.of(results, labels) for labels in sorted({result["labels"] for result in results})]
    runs = counted(len({result["seed"] for result in results}), "seed")
    by_chance = listed([f"{100 * top:g} %" for top in tops])
    title = f"Agreement with another dense draw, {runs}; overlaps by chance are {by_chance}"
    rows = [share.row(network, spec, tops) for share in shares for spec in acquisitions for network in share.names]
    chart = Chart("figure", list(panels(shares, acquisitions, tops)))
    return Findings([Table(title, rows)], verdict(shares, acquisitions, tops), [chart])


def verdict(shares: Sequence[Share], acquisitions: Sequence[str], tops: Sequence[float]) -> list[str]:
    """Say how pruned networks stand to the noise floor and to proxies, acquisition by acquisition."""
    sentences = []
    for spec in acquisitions:
        places = [(share, name) for share in shares for name in share.names if is_pruned(name)]
        measures = [measure_of(share, name, spec, tops) for share, name in places]
        for what, others in (
            ("a dense network of the same draw", [DENSE] * len(places)),
            ("a small network of its own", [share.equal(name) for share, name in places]),
        ):
            effects = [
                share.minus(name, other, spec, measure)
                for (share, name), other, measure in zip(places, others, measures)
            ]
            if any(effect is not None for effect in effects):
                sentences.append(tally(f"By {spec}, agreement of a pruned network minus that of {what}", effects))
            else:
                sentences.append(f"By {spec}, there was no small network of about equal size; name some: --proxies.")
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
