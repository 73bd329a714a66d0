"""The scores that DropHot chooses by: what they count, how seeds agree, whether they tell hard from easy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from safetensors.torch import load_file
from torch import Tensor

from sartor.data.pool import Pool
from sartor.errors import SartorError
from sartor.files import read_json
from sartor.history import History
from sartor.randomness import derive
from sartor.recipes.drophot import SCORER, DropHot
from sartor.recipes.outcome import HISTORY
from sartor.recipes.staged import FOUND
from sartor.recipes.telling import correlation
from sartor.report.charts import Chart, Panel, Series, series_of
from sartor.report.statistics import Interval, mean_interval
from sartor.run_folder import CONFIG
from sartor.select.forgetting import forgetting_events
from sartor.studies.findings import Table, Value

EVENTS, CHANGES = "forgetting events", "changes by position"
ALIKE = ("train", "model_shapes", "batch_size", "lr", "optimizer")
"""What the configuration of a run and of the training that scored for it have in common."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one training said of its samples; `changes` are counts by position, where that defect is on.

    `scorer` is the share of the channels that its network was without. `wrong` marks the samples whose labels were made
    wrong, if some were: other ones in every seed.
    """

    defects: str
    noise: float
    seed: int
    epochs: int
    history: History
    changes: Int64[Tensor, "n"] | None
    wrong: Bool[Tensor, "n"] | None = None
    scorer: float = 0.0

    @property
    def setting(self) -> tuple[float, str, float]:
        """What it shares with other seeds."""
        return self.scorer, self.defects, self.noise

    @cached_property
    def events(self) -> Int64[Tensor, "n"]:
        """How often each sample was forgotten; one that was never right has one more than any other."""
        return forgetting_events(self.history).long()

    @property
    def right(self) -> Float64[Tensor, "n"]:
        """Share of its visits at which each sample was right."""
        return self.history.times_right.double() / self.history.visits

    @property
    def chosen_by(self) -> Int64[Tensor, "n"]:
        """The counts by which coresets were chosen."""
        return self.events if self.changes is None else self.changes


def read_scores(recipe: DropHot, folder: Path, shared: Path, train: Pool) -> Scores:
    """Read what the training found that scored for a finished run of `recipe` on `train` in `folder`."""
    history = History.from_tables(load_file(folder / HISTORY))
    defects, changes, wrong = recipe.defects - {"masks"}, None, None
    if recipe.noise:
        made_wrong = set(read_json(folder / "noise.json")["ids"])
        wrong = torch.tensor([name in made_wrong for name in train.ids_of(history.rows)])
    if "scores" in defects:
        config = read_json(folder / CONFIG)
        sought = {name: config[name] for name in ALIKE} | {"scores": "by position", "epochs": recipe.scored}
        sought |= {"seed": derive(recipe.seed, "score"), "mode": "eval" if "batchnorm" in defects else None}
        sought |= {SCORER: recipe.score_sparsity or None}
        if recipe.score_sparsity:
            del sought["model_shapes"]
        changes = torch.tensor(read_json(found_of(shared, sought) / FOUND)["changes"])
    spoilt = ",".join(sorted(defects)) or "none"
    given = (spoilt, recipe.noise, recipe.seed, recipe.scored, history, changes, wrong)
    return Scores(*given, scorer=recipe.score_sparsity)


def found_of(shared: Path, sought: Mapping[str, Any]) -> Path:
    """Return the folder of the training that scored with these options. Raises: SartorError: where there is none."""
    for place in sorted(shared.glob("score-*")):
        config = read_json(place / "config.json")
        if all(config.get(name) == value for name, value in sought.items()):
            return place
    raise SartorError(
        f"{shared} does not hold the training that scored for a run of seed {sought['seed']}; run it anew."
    )


def by_setting(scores: Iterable[Scores]) -> Iterator[tuple[str, list[Scores]]]:
    """Yield what each setting is called, and its scores by seed."""
    ordered = sorted(scores, key=lambda one: (*one.setting, one.seed))
    for (scorer, defects, noise), some in itertools.groupby(ordered, key=lambda one: one.setting):
        spoilt = "counted right" if defects == "none" else f"defects {defects}"
        without = f", by a network without {100 * scorer:g} % of its channels" if scorer else ""
        yield spoilt + without + ("" if noise == 0 else f", {100 * noise:g} % wrong labels"), list(some)


def pairs(some: Sequence[Scores], value: Callable[[Scores], Tensor]) -> list[float]:
    """Return the correlations of a count between all pairs of seeds; where a count is constant there is none.

    They are over the samples whose labels are right in both seeds.
    """
    found = []
    for a, b in itertools.combinations(some, 2):
        kept = right_in_both(a, b)
        found.append(correlation(value(a)[kept], value(b)[kept]))
    return [one for one in found if one is not None]


def right_in_both(one: Scores, other: Scores) -> Bool[Tensor, "n"]:
    """Return whether the label of each sample is right in two seeds; all are where none was made wrong."""
    kept = torch.ones(len(one.history), dtype=torch.bool)
    for scores in (one, other):
        kept &= True if scores.wrong is None else ~scores.wrong
    return kept


def scores_table(scores: Iterable[Scores], classes: int) -> Table:
    """Tell of each setting what its counts are: rates, ties, correlations; expected are those of independent draws."""
    rows: list[dict[str, Value]] = []
    given = list(scores)
    whole = {(*one.setting[1:], one.seed): one for one in given if not one.scorer}
    for name, some in by_setting(given):
        partners = [(one, whole.get((*one.setting[1:], one.seed))) for one in some if one.scorer]
        by_position, comparisons = some[0].changes is not None, some[0].epochs - 1
        same = 1 - 1 / classes
        rows.append(
            {
                "scores": name,
                "what is counted": CHANGES if by_position else EVENTS,
                "samples": len(some[0].events),
                "change rate, %": over(some, lambda one: 100 * rate(one)) if by_position else None,
                "1 - 1/c, %": 100 * same if by_position else None,
                "at the highest count, %": over(some, lambda one: 100 * share_highest(one)),
                "expected, %": 100 * same**comparisons if by_position else None,
                "never right, %": over(some, lambda one: 100 * float((one.history.times_right == 0).double().mean())),
                "correlation between seeds": told(pairs(some, lambda one: one.chosen_by)),
                "with the true counts": told(own(some)) if by_position else None,
                "with those of the whole network": told(agreement(partners)) if partners else None,
            }
        )
    return Table("What coresets by forgetting are chosen by", rows)


def over(some: Sequence[Scores], value: Callable[[Scores], float]) -> Interval:
    """Return the mean over seeds."""
    return mean_interval([value(one) for one in some])


def rate(one: Scores) -> float:
    """Return how many of the comparisons found a change."""
    return float(one.chosen_by.double().mean()) / max(1, one.epochs - 1)


def share_highest(one: Scores) -> float:
    """Return the share of samples at the highest count: of these, ties decide who is chosen."""
    highest = one.chosen_by.max() if one.changes is None else one.epochs - 1
    return float((one.chosen_by == highest).double().mean())


def own(some: Sequence[Scores]) -> list[float]:
    """Return the correlation of counts by position with the forgetting events of the same training, seed by seed."""
    found = [correlation(one.chosen_by, one.events) for one in some]
    return [value for value in found if value is not None]


def agreement(partners: Iterable[tuple[Scores, Scores | None]]) -> list[float]:
    """Return the correlations of counts with those that another network's training of the same seed has found."""
    found = [correlation(one.chosen_by, other.chosen_by) for one, other in partners if other is not None]
    return [value for value in found if value is not None]


def told(values: Sequence[float]) -> str:
    """Write some correlations: their mean and their range."""
    if not values:
        return ""
    mean = math.fsum(values) / len(values)
    return f"{mean:.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


def scores_chart(scores: Iterable[Scores], classes: int) -> Chart:
    """Draw of each setting how counts are distributed, how they agree between seeds, and who is right by count."""
    return Chart("scores", [panel for name, some in by_setting(scores) for panel in panels_of(name, some, classes)])


def panels_of(name: str, some: Sequence[Scores], classes: int) -> list[Panel]:
    """Draw one setting."""
    by_position = some[0].changes is not None
    counts = {EVENTS: events_on_one_scale(some)}
    correlations = {"events, two seeds": pairs(some, lambda one: one.events)}
    if by_position:
        counts = {CHANGES: [one.chosen_by for one in some], **counts}
        correlations = {"changes, two seeds": pairs(some, lambda one: one.chosen_by), **correlations}
        correlations["changes and events"] = own(some)
    (counted, first), *_ = counts.items()
    top = some[0].epochs - 1 if by_position else max(int(one.max()) for one in first)
    series = [distribution(counted, first, top)]
    if by_position:
        series.append(binomial(top, 1 - 1 / classes))
    highest = max(max(one.high or one.y) for one in series)
    marks = [(float(place), value) for place, values in enumerate(correlations.values()) for value in values]
    agreement = Series("correlation", [place for place, _ in marks], [value for _, value in marks], line=False)
    ends = (min([0.0, *agreement.y]) - 0.05, 1.0)
    never = " (the last: never right)"
    judged = [by_count(label, some, values) for label, values in counts.items()]
    return [
        Panel(
            f"{name}: {counted}",
            counted + ("" if by_position else never),
            "% of samples",
            series,
            limits=(0.0, min(100.0, 1.05 * highest)),
        ),
        Panel(f"{name}: agreement", "", "correlation", [agreement], names=list(correlations), level=0.0, limits=ends),
        Panel(
            f"{name}: who is right in another seed",
            "count (the last of events: never right)",
            "% of visits",
            judged,
            limits=(0.0, 100.0),
        ),
    ]


def events_on_one_scale(some: Sequence[Scores]) -> list[Int64[Tensor, "n"]]:
    """Return forgetting events in which those never right have one more than any other sample in any seed."""
    never = 1 + max(int(one.history.forgotten.max()) for one in some)
    return [one.history.forgotten.long().masked_fill(one.history.times_right == 0, never) for one in some]


def distribution(label: str, counts: Sequence[Int64[Tensor, "n"]], top: int) -> Series:
    """Return the share of samples at each count, over seeds."""
    shares = [100 * torch.bincount(one, minlength=top + 1).double() / len(one) for one in counts]
    bars = [(float(x), mean_interval([float(share[x]) for share in shares])) for x in range(top + 1)]
    return series_of(label, bars, bars=True)


def binomial(trials: int, share: float) -> Series:
    """Return what independent draws would give."""
    counts = range(trials + 1)
    values = [100 * math.comb(trials, x) * share**x * (1 - share) ** (trials - x) for x in counts]
    return Series("independent draws", [float(x) for x in counts], values)


def by_count(label: str, some: Sequence[Scores], counts: Sequence[Int64[Tensor, "n"]]) -> Series:
    """Return how often samples of each count were right in the training of the next seed, over seeds.

    They are those whose labels are right in both.
    """
    found: dict[int, list[float]] = {}
    for one, other, values in zip(some, [*some[1:], some[0]] if len(some) > 1 else [], counts):
        kept = right_in_both(one, other)
        for count in values[kept].unique().tolist():
            found.setdefault(count, []).append(100 * float(other.right[kept & (values == count)].mean()))
    return series_of(label, [(float(count), mean_interval(values)) for count, values in sorted(found.items())])
