"""One row per arm: what it reached, how it differs from its controls, what it cost."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sartor.files import write_atomic
from sartor.report.arms import arm_order, is_joint
from sartor.report.collect import MONITOR, Collection, Comparison, RunRecord
from sartor.report.kinds import KINDS
from sartor.report.statistics import Interval, mean_interval, paired_difference


@dataclass(frozen=True, order=True)
class Setting:
    """What runs must share to be compared: the comparison's folder, data set, network, share of wrong labels, kind.

    The network is the comparison's, where there is one; arms may name their own beside it.
    """

    comparison: str
    data: str
    model: str
    noise: float
    kind: str = "joint"

    @property
    def title(self) -> str:
        """The setting in words."""
        noise = f"{100 * self.noise:g} % of the labels made wrong" if self.noise else "labels as they are"
        return f"{self.data}, {self.model}, {noise}"

    @property
    def slug(self) -> str:
        """The setting as part of a file name."""
        kind = "" if self.kind == "joint" else f"-{self.kind}"
        name = f"{self.data}-{self.model}-noise-{self.noise:g}{kind}"
        return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


@dataclass(frozen=True, eq=False)
class Row:
    """An arm within a block. Accuracies in percent, differences in percentage points paired by seed, shares in [0, 1].

    `flops_relative` and `seconds_relative` are ratios of means to the kind's dense arm trained for all epochs.
    `trained_accuracy` and `pruned_accuracy` are those before and right after a pruning at once.
    """

    setting: Setting
    match: str
    matched_arm: str | None
    arm: str
    runs: tuple[RunRecord, ...]
    accuracy: Interval
    best_accuracy: Interval | None
    minus_baseline: Interval | None
    minus_random: Interval | None
    flops: float
    flops_relative: float | None
    seconds: float
    seconds_relative: float | None
    epoch_equivalents: float | None
    selection_share: float | None
    kept_weights: float | None
    noise_ratio: float | None
    trained_accuracy: Interval | None
    pruned_accuracy: Interval | None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def by_seed(self) -> dict[int, float]:
        """Last-epoch test accuracy in percent by seed."""
        return accuracy_by_seed(self.runs)


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that may be compared: all at the same number of epochs, or all at the cost of `matched_arm`.

    A block at equal cost repeats the arm whose cost the others were given; its differences are to the arms in it.
    """

    setting: Setting
    match: str
    matched_arm: str | None
    baseline: str
    random: str
    rows: tuple[Row, ...]

    def row(self, arm: str) -> Row | None:
        """Return the row of that arm, or None."""
        return next((row for row in self.rows if row.arm == arm), None)

    @property
    def joint_rows(self) -> list[Row]:
        """The rows of arms that select and prune together."""
        return [row for row in self.rows if is_joint(row.arm)]


def accuracy_by_seed(runs: Iterable[RunRecord]) -> dict[int, float]:
    """Return last-epoch test accuracy in percent by seed."""
    return {run.seed: 100 * run.test_accuracy for run in runs}


def tabulate(collection: Collection) -> tuple[Block, ...]:
    """Sort runs into blocks and compute their rows: for each setting first equal epochs, then equal cost."""
    groups: dict[Setting, list[RunRecord]] = {}
    for run in collection.runs:
        model = collection.comparison_of(run.comparison).model or run.model
        groups.setdefault(Setting(run.comparison, run.data, model, run.noise, run.kind), []).append(run)
    blocks = []
    for setting, runs in sorted(groups.items(), key=lambda item: item[0]):
        comparison, dense = collection.comparison_of(setting.comparison, setting.kind), KINDS[setting.kind].dense
        plain = _by_arm([run for run in runs if run.match != "cost"])
        if plain:
            blocks.append(_block(setting, "epochs", None, plain, plain.get(dense), comparison))
        at_cost: dict[str | None, list[RunRecord]] = {}
        for run in runs:
            if run.match == "cost":
                at_cost.setdefault(run.matched_arm or _nearest_in_cost(run, plain), []).append(run)
        for matched_arm, matched_runs in sorted(at_cost.items(), key=lambda item: item[0] or ""):
            arms = _by_arm(matched_runs)
            if matched_arm in plain:
                arms = {str(matched_arm): plain[str(matched_arm)], **arms}
            blocks.append(_block(setting, "cost", matched_arm, arms, plain.get(dense), comparison))
    return tuple(blocks)


def _by_arm(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    arms: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        arms.setdefault(run.arm, []).append(run)
    return arms


def _nearest_in_cost(run: RunRecord, plain: dict[str, list[RunRecord]]) -> str | None:
    """Return the joint arm whose mean FLOPs are nearest in ratio, for runs that do not say whose cost they match."""
    distances = {
        arm: abs(math.log(_mean(r.flops for r in runs) / run.flops))
        for arm, runs in plain.items()
        if is_joint(arm) and run.flops > 0 and all(r.flops > 0 for r in runs)
    }
    return min(distances, key=lambda arm: distances[arm]) if distances else None


def _block(
    setting: Setting,
    match: str,
    matched_arm: str | None,
    arms: dict[str, list[RunRecord]],
    dense: Sequence[RunRecord] | None,
    comparison: Comparison,
) -> Block:
    """Compute the rows of one block; where the random arm of the comparison is absent, `random` takes its place."""
    random = comparison.random if comparison.random in arms else "random"
    names = arm_order(arms, [name.partition("@")[0] for name in comparison.arms], setting.kind)
    if match == "cost" and matched_arm in arms:
        names = [str(matched_arm), *(name for name in names if name != matched_arm)]
    empty = Block(setting, match, matched_arm, comparison.baseline, random, ())
    return replace(empty, rows=tuple(_row(empty, arm, arms, dense) for arm in names))


def _row(block: Block, arm: str, arms: dict[str, list[RunRecord]], dense: Sequence[RunRecord] | None) -> Row:
    runs, seeds = arms[arm], accuracy_by_seed(arms[arm])
    flops, seconds = _mean(run.flops for run in runs), _mean(run.seconds for run in runs)
    return Row(
        setting=block.setting,
        match=block.match,
        matched_arm=block.matched_arm,
        arm=arm,
        runs=tuple(runs),
        accuracy=mean_interval(list(seeds.values())),
        best_accuracy=_percent(run.best_test_accuracy for run in runs),
        minus_baseline=None if arm == block.baseline else _minus(seeds, arms.get(block.baseline)),
        minus_random=None if arm == block.random else _minus(seeds, arms.get(block.random)),
        flops=flops,
        flops_relative=_ratio(flops, [run.flops for run in dense or ()]),
        seconds=seconds,
        seconds_relative=_ratio(seconds, [run.seconds for run in dense or ()]),
        epoch_equivalents=_mean_known(run.epoch_equivalents for run in runs),
        selection_share=_mean_known(selection_share(run) for run in runs),
        kept_weights=_mean_known(_kept(run) for run in runs),
        noise_ratio=_mean_known(run.noise_ratio for run in runs),
        trained_accuracy=_percent(run.trained_accuracy for run in runs),
        pruned_accuracy=_percent(run.pruned_accuracy for run in runs),
    )


def _percent(shares: Iterable[float | None]) -> Interval | None:
    known = [100 * share for share in shares if share is not None]
    return mean_interval(known) if known else None


def _minus(seeds: dict[int, float], others: Sequence[RunRecord] | None) -> Interval | None:
    return paired_difference(seeds, accuracy_by_seed(others)) if others else None


def selection_share(run: RunRecord) -> float | None:
    """Return the share of the run's FLOPs that choosing samples took, monitoring left out."""
    total = sum(count for purpose, count in run.flops_by_purpose.items() if purpose != MONITOR)
    return run.flops_by_purpose.get("select", 0.0) / total if total else None


def _kept(run: RunRecord) -> float | None:
    return run.kept_weights / run.parameters if run.kept_weights is not None and run.parameters else None


def _ratio(cost: float, dense: Sequence[float]) -> float | None:
    return cost / _mean(dense) if sum(dense) > 0 else None


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return _mean(known) if known else None


def identity(row: Row) -> dict[str, Any]:
    """Return the columns that say which runs a line of results.csv is of."""
    return {
        "comparison": row.setting.comparison,
        "data": row.setting.data,
        "model": row.setting.model,
        "noise": row.setting.noise,
        "match": row.match,
        "matched_arm": row.matched_arm,
        "arm": row.arm,
        "n": row.n,
        "seeds": " ".join(str(run.seed) for run in row.runs),
    }


def interval_columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return the mean, the ends and the number of values of an interval as columns; None where there is no such."""
    values = {end: None if interval is None else getattr(interval, end) for end in ("mean", "low", "high", "n")}
    return {f"{name}_{end}": None if value is None or math.isnan(value) else value for end, value in values.items()}


def flat(row: Row) -> dict[str, Any]:
    """Return a row as one line of results.csv: numbers or None, accuracies in percent, shares in [0, 1].

    Accuracies around a pruning are there only where there was one.
    """
    line = identity(row)
    for name in ("accuracy", "best_accuracy", "minus_baseline", "minus_random"):
        line |= interval_columns(name, getattr(row, name))
    names = ("flops", "flops_relative", "seconds", "seconds_relative", "epoch_equivalents", "selection_share")
    line |= {name: getattr(row, name) for name in (*names, "kept_weights", "noise_ratio")}
    for name in ("trained_accuracy", "pruned_accuracy"):
        if getattr(row, name) is not None:
            line |= interval_columns(name, getattr(row, name))
    return line


def write_csv(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the lines under all columns that any of them has; an empty cell is a number that was not measured."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for line in lines for name in line)))
    writer.writeheader()
    writer.writerows(lines)
    write_atomic(path, text.getvalue())
