"""Find finished runs below some folders, read them, and name those that cannot be used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sartor.errors import DataError
from sartor.files import changed, read_sums
from sartor.report.kinds import KINDS

FORMAT = 1
MONITOR = "monitor"
"""The purpose whose cost counts for nothing: evaluation that only watches."""
STAGES = "stages"
"""The folder of a run that holds the trainings that it is made of."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One finished run. Accuracies and noise are shares in [0, 1]; FLOPs and seconds leave monitoring out.

    `epochs` and `selections` are the lines of metrics.jsonl by kind. `comparison` is the folder whose compare.json
    the run stands under, or "". `matched_arm` is the arm whose cost the run was given, where `match` is "cost".
    Of runs that ask for labels: `rounds` and `targets` as they were told, `cost_paper` of the selectors by labels, the
    seconds of each round by purpose, the recipe's `options` as config.json has them. Of those that prune at once: the
    accuracies before and right after.
    """

    folder: Path
    comparison: str
    arm: str
    match: str
    matched_arm: str | None
    seed: int
    data: str
    model: str
    noise: float
    test_accuracy: float
    best_test_accuracy: float | None
    noise_ratio: float | None
    flops: float
    flops_by_purpose: dict[str, float]
    seconds: float
    seconds_by_purpose: dict[str, float]
    epoch_equivalents: float | None
    parameters: int | None
    kept_weights: int | None
    density_by_layer: dict[str, float]
    command: str
    epochs: tuple[dict[str, Any], ...]
    selections: tuple[dict[str, Any], ...]
    rounds: tuple[dict[str, Any], ...] = ()
    targets: tuple[dict[str, Any], ...] = ()
    cost_paper: dict[str, float] = field(default_factory=dict)
    round_seconds: dict[int, dict[str, float]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    trained_accuracy: float | None = None
    pruned_accuracy: float | None = None

    @property
    def kind(self) -> str:
        """The kind of comparison that it belongs to."""
        return "asking" if self.targets else "joint" if self.trained_accuracy is None else "pruning"


@dataclass(frozen=True)
class Comparison:
    """What compare.json says: the arms in order, the two arms that others are held against, the runs to expect.

    `model` is the network of all arms that name none of their own.
    """

    arms: tuple[str, ...] = ()
    baseline: str = KINDS["joint"].baseline
    random: str = KINDS["joint"].random
    model: str | None = None
    seeds: tuple[int, ...] = ()
    noises: tuple[float, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Collection:
    """All runs that could be read, the comparisons they belong to by folder, and what had to be left out."""

    runs: tuple[RunRecord, ...]
    comparisons: dict[str, Comparison]
    warnings: tuple[str, ...]

    def comparison_of(self, folder: str, kind: str = "joint") -> Comparison:
        """Return the comparison of that folder, or the usual one of its kind for runs that stand alone."""
        usual = Comparison(baseline=KINDS[kind].baseline, random=KINDS[kind].random)
        return self.comparisons.get(folder, usual)


def collect(folders: Sequence[Path]) -> Collection:
    """Read every run below `folders`; unfinished, damaged and doubled runs become warnings.

    Raises: DataError: when a folder is missing or no finished run is found.
    """
    roots = [Path(folder).resolve() for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise DataError(f"there is no folder {root}; give folders of runs or of comparisons.")
    warnings: list[str] = []
    comparisons = _read_comparisons(roots, warnings)
    runs: dict[tuple[object, ...], RunRecord] = {}
    for folder in _run_folders(roots):
        try:
            run = _read_run(folder, _comparison_above(folder, comparisons), warnings)
        except (DataError, OSError) as error:
            warnings.append(str(error))
            continue
        if run is None:
            continue
        key = (run.comparison, run.data, run.model, run.noise, run.match, run.matched_arm, run.arm, run.seed)
        if key in runs:
            first = runs[key].folder
            warnings.append(f"{folder} repeats arm and seed of {first} and was left out; report them apart.")
        else:
            runs[key] = run
    if not runs:
        where = ", ".join(str(root) for root in roots) or "no folder"
        raise DataError(f"no finished run was found below {where}; give folders that hold results.json.")
    for folder_name, comparison in comparisons.items():
        warnings.extend(_absent(folder_name, comparison, list(runs.values())))
    return Collection(tuple(runs.values()), comparisons, tuple(warnings))


def _run_folders(roots: Sequence[Path]) -> list[Path]:
    """Return the folders of runs; the trainings that one of them is made of are no runs of their own."""
    names = ("config.json", "results.json")
    found = {path.parent for root in roots for name in names for path in root.rglob(name)}
    return sorted(folder for folder in found if not (folder.parent.name == STAGES and folder.parent.parent in found))


def _read_comparisons(roots: Sequence[Path], warnings: list[str]) -> dict[str, Comparison]:
    found = {}
    for path in sorted({path for root in roots for path in root.rglob("compare.json")}):
        try:
            raw = _read_json(path)
            found[str(path.parent)] = Comparison(
                arms=tuple(str(arm) for arm in raw.get("arms", ())),
                baseline=str(raw.get("baseline", Comparison.baseline)),
                random=str(raw.get("random", Comparison.random)),
                model=(raw.get("options") or {}).get("model"),
                seeds=tuple(int(seed) for seed in raw.get("seeds", ())),
                noises=tuple(float(noise) for noise in raw.get("noises", ())),
                command=str(raw.get("command", "")),
            )
        except (DataError, TypeError, ValueError, AttributeError) as error:
            warnings.append(f"{path} was not used: {error}")
    return found


def _comparison_above(folder: Path, comparisons: dict[str, Comparison]) -> str:
    return next((str(above) for above in (folder, *folder.parents) if str(above) in comparisons), "")


def _absent(folder: str, comparison: Comparison, runs: Sequence[RunRecord]) -> list[str]:
    """Name the runs that compare.json lists but that have no folder (those with one were named before)."""
    there = {(run.noise, run.arm, run.match, run.seed) for run in runs if run.comparison == folder}
    absent = []
    for noise in comparison.noises:
        for name in comparison.arms:
            arm, _, cost = name.partition("@")
            for seed in comparison.seeds:
                path = Path(folder, f"noise-{noise:g}", name, f"seed-{seed}")
                if (noise, arm, "cost" if cost else "epochs", seed) not in there and not path.is_dir():
                    absent.append(f"{name} (noise {noise:g}, seed {seed})")
    if not absent:
        return []
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    return [f"{folder} lists runs that are not there: {', '.join(absent[:3])}{more}."]


def _read_run(folder: Path, comparison: str, warnings: list[str]) -> RunRecord | None:
    """Read one run folder; None for a report's own folder, whose results.json holds rows."""
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(f"{folder} holds an unfinished run and was left out; start it again to finish it.")
    altered = changed(folder, read_sums(folder), ("results.json", "metrics.jsonl"))
    if "results.json" in altered:
        raise DataError(f"{path} was changed after the run had ended and was left out; start it again to mend it.")
    if altered and (folder / "metrics.jsonl").exists():
        warnings.append(f"{folder / 'metrics.jsonl'} was changed after the run had ended; its curves may be wrong.")
    raw = _read_json(path)
    if "rows" in raw:
        return None
    if raw.get("format") != FORMAT:
        raise DataError(f"{path} has format {raw.get('format')!r}; this version reads format {FORMAT}.")
    try:
        lines = _read_lines(folder / "metrics.jsonl", warnings)
        return RunRecord(
            folder=folder,
            comparison=comparison,
            arm=str(raw["arm"]),
            match=str(raw["match"]),
            matched_arm=str(raw["matched_arm"]) if raw.get("matched_arm") else None,
            seed=int(raw["seed"]),
            data=str(raw["data"]),
            model=str(raw["model"]),
            noise=float(raw.get("noise") or 0.0),
            test_accuracy=_accuracy(raw),
            best_test_accuracy=_optional(raw, "best_test_accuracy"),
            noise_ratio=_optional(raw, "noise_ratio"),
            flops=_cost(raw, "flops"),
            flops_by_purpose=_numbers(raw, "flops_by_purpose"),
            seconds=_cost(raw, "seconds"),
            seconds_by_purpose=_numbers(raw, "seconds_by_purpose"),
            epoch_equivalents=_optional(raw, "epoch_equivalents"),
            parameters=None if raw.get("parameters") is None else int(raw["parameters"]),
            kept_weights=None if raw.get("kept_weights") is None else int(raw["kept_weights"]),
            density_by_layer=_numbers(raw, "density_by_layer"),
            command=str(raw.get("command", "")),
            epochs=tuple(line for line in lines if line.get("kind") == "epoch"),
            selections=tuple(line for line in lines if line.get("kind") == "selection"),
            rounds=_told(raw, "rounds", {"round": int, "labelled": int}),
            targets=_told(raw, "targets", {"labelled": int, "flops": float}),
            cost_paper=_numbers(raw.get("cost_paper") or {}, "selector") if "rounds" in raw else {},
            round_seconds=_round_seconds(raw, folder, warnings) if "rounds" in raw else {},
            options=_options(folder, warnings) if "rounds" in raw else {},
            trained_accuracy=_optional(raw, "trained_accuracy"),
            pruned_accuracy=_optional(raw, "pruned_accuracy"),
        )
    except KeyError as error:
        raise DataError(f"{path} has no {error.args[0]!r}; the run was left out.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} holds a value of the wrong kind ({error}); the run was left out.") from error


def _options(folder: Path, warnings: list[str]) -> dict[str, Any]:
    """Read a run's configuration; one that cannot be read is named in `warnings`."""
    path = folder / "config.json"
    try:
        return _read_json(path)
    except (DataError, OSError):
        warnings.append(f"{path} is missing or damaged; in what else its arm differs from others is not told.")
        return {}


def _round_seconds(raw: dict[str, Any], folder: Path, warnings: list[str]) -> dict[int, dict[str, float]]:
    """Return the seconds of a run by round and purpose; monitoring is left out.

    Older runs do not tell them: their trainings are added up, without what was done between these.
    """
    if "seconds_by_round" in raw:
        told = raw["seconds_by_round"]
        rounds = {int(number): _numbers(told, number) for number in told}
        return {n: {name: value for name, value in spent.items() if name != MONITOR} for n, spent in rounds.items()}
    found: dict[int, dict[str, float]] = {}
    for path in sorted((folder / STAGES).glob("*-round-*/ledger.json")):
        try:
            accounts = _read_json(path)["by_purpose"]
            seconds = {str(name): float(account["seconds"]) for name, account in accounts.items() if name != MONITOR}
        except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
            warnings.append(f"{path} is damaged; the seconds of its round are too few.")
            continue
        spent = found.setdefault(int(path.parent.name.partition("-round-")[2].partition("-")[0]), {})
        for name, value in seconds.items():
            spent[name] = spent.get(name, 0.0) + value
    return found


def _accuracy(raw: dict[str, Any]) -> float:
    accuracy = float(raw["test_accuracy"])
    if not 0 <= accuracy <= 1:
        raise ValueError(f"test_accuracy is {accuracy:g}; it must be a share in [0, 1]")
    return accuracy


def _cost(raw: dict[str, Any], key: str) -> float:
    cost = float(raw[key])
    if not 0 <= cost < math.inf:
        raise ValueError(f"{key} is {cost:g}; it must be finite and not negative")
    return cost


def _told(raw: dict[str, Any], key: str, kinds: Mapping[str, Callable[[Any], Any]]) -> tuple[dict[str, Any], ...]:
    """Return what was told line by line; each has the entries of `kinds`."""
    return tuple({**line, **{name: kind(line[name]) for name, kind in kinds.items()}} for line in raw.get(key) or ())


def _optional(raw: dict[str, Any], key: str) -> float | None:
    return None if raw.get(key) is None else float(raw[key])


def _numbers(raw: dict[str, Any], key: str) -> dict[str, float]:
    return {str(name): float(value) for name, value in (raw.get(key) or {}).items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}); it was left out.") from error
    if not isinstance(raw, dict):
        raise DataError(f"{path} holds {type(raw).__name__}; it must hold an object.")
    return raw


def _read_lines(path: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """Read the JSON lines up to the first damaged one, which is named in `warnings`."""
    if not path.is_file():
        warnings.append(f"{path} is missing; its run has no curves.")
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            warnings.append(f"{path} is damaged at line {number}; its curves end there.")
            break
        lines.append(line)
    return lines
