"""Ways to ask for labels, compared: points by hand, words that follow from intervals, csv, JSON and page."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import results, write_run

from sartor.report import write_report
from sartor.report.budgets import budgets_of, claims_of, difference_at, points_of
from sartor.report.collect import collect
from sartor.report.statistics import mean_interval, paired_difference
from sartor.report.table import Block, tabulate
from sartor.report.verdict import judge

BUDGETS = (40, 80)
Accuracies = Mapping[str, Sequence[Sequence[float]]]
"""By arm: for each seed, accuracy at each budget."""
FOUND: dict[str, Sequence[Sequence[float]]] = {
    "active": ((0.50, 0.80), (0.52, 0.81), (0.51, 0.83)),
    "random": ((0.50, 0.78), (0.52, 0.76), (0.51, 0.77)),
    "prunefuse": ((0.60, 0.79), (0.61, 0.82), (0.62, 0.81)),
    "prunefuse-random": ((0.60, 0.77), (0.61, 0.75), (0.62, 0.80)),
}


def told(arm: str, seed: int, accuracies: Sequence[float], *, chance: bool = False) -> dict[str, Any]:
    """What a run that asks for labels leaves in its results."""
    asks = not arm.endswith("random")
    small = arm.startswith("prunefuse")
    rounds: list[dict[str, Any]] = [
        {"round": number, "labelled": size, "asked": 40 if number == 0 else 0} for number, size in enumerate(BUDGETS)
    ]
    if asks:
        rounds[0] |= {"selector_accuracy": 0.4 + 0.01 * seed, "at_chance": chance, "selector_parameters": 100}
    targets = [
        {
            "labelled": size,
            "test_accuracy": value,
            "best_test_accuracy": value + 0.01,
            "flops": 1e9 * size * (1 + small),
        }
        for size, value in zip(BUDGETS, accuracies)
    ]
    if small:
        rounds[-1] |= {"selector_accuracy": 0.5, "at_chance": chance, "selector_parameters": 100}
    cost = 1e10 if asks else 0.0
    paper = {"selector": {"40": 0.0, "80": cost / (4 if small else 1)}, "target": 1e11, "total": 1e11 + cost}
    recipe = "prunefuse" if small else "active"
    return {
        "recipe": recipe,
        "test_accuracy": accuracies[-1],
        "rounds": rounds,
        "targets": targets,
        "cost_paper": paper,
        "flops_by_purpose": {"train": 9e10, **({"select": 1e10} if asks else {})},
    }


def write_all(folder: Path, found: Accuracies = FOUND, *, chance: bool = False, model: str = "cnn") -> Path:
    """Write a comparison of finished runs, with the ledgers of the trainings of PruneFuse's first round."""
    listing = {"family": "prunefuse", "arms": list(found), "baseline": "active", "random": "random", "noises": [0.0]}
    seeds = list(range(len(next(iter(found.values())))))
    folder.mkdir(parents=True)
    (folder / "compare.json").write_text(json.dumps(listing | {"seeds": seeds, "options": {"model": "cnn"}}))
    for arm, by_seed in found.items():
        for seed, accuracies in enumerate(by_seed):
            place = folder / "noise-0" / arm.partition("(")[0] / f"seed-{seed}"
            own = {"model": model} if arm.startswith("bald") else {}
            write_run(place, results(arm, seed, 0.0, **told(arm, seed, accuracies, chance=chance), **own))
            if arm == "prunefuse":
                write_ledger(place, "01-selector-round-0", {"selector": 2.0 + seed, "select": 0.5, "monitor": 9.0})
                write_ledger(place, "02-target-round-0", {"train": 3.0, "distill": 1.0})
    return folder


def write_ledger(run: Path, stage: str, seconds: Mapping[str, float]) -> None:
    """Write the ledger of one training of a run."""
    (run / "stages" / stage).mkdir(parents=True)
    accounts = {name: {"seconds": value, "flops": 1.0} for name, value in seconds.items()}
    (run / "stages" / stage / "ledger.json").write_text(json.dumps({"by_purpose": accounts}))


def block_of(folder: Path) -> Block:
    (block,) = tabulate(collect([folder]))
    return block


def test_points_by_hand(tmp_path: Path) -> None:
    block = block_of(write_all(tmp_path / "all"))
    assert (block.setting.kind, block.baseline, block.random) == ("asking", "active", "random")
    assert budgets_of(block) == list(BUDGETS)
    row = block.row("prunefuse")
    assert row is not None
    first, last = points_of(block, row)
    assert (first.labelled, last.labelled, first.n) == (40, 80, 3)
    assert last.accuracy == mean_interval([79.0, 82.0, 81.0])
    assert last.best_accuracy is not None
    assert last.best_accuracy.mean == pytest.approx(81.6667, abs=1e-3)
    assert last.minus_baseline == paired_difference({0: 79.0, 1: 82.0, 2: 81.0}, {0: 80.0, 1: 81.0, 2: 83.0})
    assert last.minus_random == difference_at(block, "prunefuse", "random", 80)
    assert first.selector_accuracy is not None
    assert first.selector_accuracy.mean == pytest.approx(41.0)
    assert (first.chose, last.chose) == (True, False)
    assert (first.flops, last.flops, last.cost_paper) == (8e10, 1.6e11, 2.5e9)
    assert first.seconds == {"selector": 3.0, "choosing": 0.5, "target": 4.0}
    assert set(last.seconds.values()) == {0.0}
    assert len(claims_of(block)) == len(BUDGETS)


def test_the_verdict_follows_from_the_intervals(tmp_path: Path) -> None:
    verdict = judge([block_of(write_all(tmp_path / "all"))])
    assert verdict.headline == "PruneFuse beats active in 1 of 2 budgets; no difference could be shown in 1."
    text = str(verdict)
    assert "prunefuse: better than active with 40 (+10.0 pp, " in text
    assert "no difference to active could be shown with 80 (" in text
    assert "labels by a pruned network" not in text, "there is no arm scratch"
    assert "With 80 labels, choosing by the dense network (active minus random): +4.3 pp" in text
    assert "prunefuse 200 % / 25 % / " in text
    assert "joint" not in text.lower()


def with_options(folder: Path, options: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write configurations of all runs: the options of their arm, beside those that all have."""
    for arm, own in options.items():
        for path in (folder / "noise-0" / arm).glob("seed-*/config.json"):
            path.write_text(json.dumps({"lr": 0.1, "epochs": 20, "schedule": "steps", "stop_after": None, **own}))
    return folder


ARMS: Accuracies = FOUND | {"scratch": FOUND["random"]}
TARGETS = {"target_lr": None, "target_epochs": None, "target_schedule": "same"}


@pytest.mark.parametrize(
    ("given", "besides"),
    [
        ({}, ""),
        ({"target_lr": 0.1, "target_epochs": 20, "target_schedule": "steps"}, ""),
        ({"target_lr": 0.01}, ", and another learning rate of the target"),
        ({"target_epochs": 10, "target_schedule": "cosine"}, ", and another length and schedule of the target"),
        ({"stop_after": 5, "target_epochs": 20}, ", and another length of the target"),
    ],
)
def test_a_contrast_says_what_else_differs_in_targets(tmp_path: Path, given: dict[str, Any], besides: str) -> None:
    plain = {name: value for name, value in given.items() if not name.startswith("target")}
    fused = ("prunefuse", "prunefuse-random", "scratch")
    options = dict.fromkeys(fused, TARGETS | given) | dict.fromkeys(("active", "random"), plain)
    text = str(judge([block_of(with_options(write_all(tmp_path / "all", ARMS), options))]))
    assert f"with nothing chosen in either{besides} (prunefuse-random minus random)" in text
    assert f"targets from scratch in both{besides} (scratch minus active)" in text
    assert "with fusion and distillation in both (prunefuse minus prunefuse-random)" in text
    assert "choose for both (prunefuse minus scratch)" in text
    assert "choosing by the dense network (active minus random)" in text


def test_a_contrast_says_where_a_teacher_is_missed_in_synchronisation(tmp_path: Path) -> None:
    synced = TARGETS | {"t_sync": 2, "kd": True}
    options = {"prunefuse": synced, "prunefuse-random": synced, "scratch": synced | {"kd": False}}
    text = str(judge([block_of(with_options(write_all(tmp_path / "all", ARMS), options))]))
    assert "selectors that scratch synchronises without a teacher (prunefuse minus scratch)" in text
    assert text.count("without a teacher") == 1


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "all")
    path = with_options(folder, {"random": {}}) / "noise-0" / "active" / "seed-0" / "config.json"
    path.write_text("{")
    collection = collect([folder])
    assert any(f"{path} is missing or damaged" in warning for warning in collection.warnings)
    assert len(collection.runs) == 3 * len(FOUND)
    assert "choosing by the dense network (active minus random)" in str(judge(tabulate(collection)))


def test_one_seed_and_no_baseline_show_nothing(tmp_path: Path) -> None:
    one = judge([block_of(write_all(tmp_path / "one", {arm: seeds[:1] for arm, seeds in FOUND.items()}))])
    assert one.headline == "Nothing is shown about PruneFuse against active: a single seed gives no interval."
    assert "one seed, which shows nothing" in str(one)
    alone = judge([block_of(write_all(tmp_path / "alone", {"prunefuse": FOUND["prunefuse"]}))])
    assert alone.headline == "Nothing can be said about PruneFuse: no such arm stands beside active."


def test_a_selector_that_learnt_nothing_is_named(tmp_path: Path) -> None:
    text = str(judge([block_of(write_all(tmp_path / "all", chance=True))]))
    assert "prunefuse: what chooses had learnt nothing with 40 labels in 3 of 3 runs" in text
    assert "random: what chooses" not in text
    assert "active: what the target" not in text
    lost = (
        "what the target begins from or is taught by had learnt nothing with 80 labels in 3 of 3 runs; it chose nothing"
    )
    assert f"prunefuse: {lost}" in text
    assert f"prunefuse-random: {lost}" in text


def test_a_cost_of_nothing_is_no_unknown_cost(tmp_path: Path) -> None:
    report = write_report([write_all(tmp_path / "all")], tmp_path / "out")
    assert "random 100 % / 0.0 % / " in str(report.verdict)
    assert "prunefuse 200 % / 25 % / " in str(report.verdict)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<td>0</td>") == 2 * 2 + 2, "two random arms at both budgets, two that choose at the first"


def test_an_arm_with_a_network_of_its_own_stands_beside_the_others(tmp_path: Path) -> None:
    arm = "bald(model='cnn(dropout=0.5)')"
    block = block_of(write_all(tmp_path / "all", {**FOUND, arm: FOUND["active"]}, model="cnn(dropout=0.5)"))
    assert block.setting.model == "cnn"
    assert [row.arm for row in block.rows][-1] == arm
    assert difference_at(block, arm, "active", 80) == mean_interval([0.0, 0.0, 0.0])


def test_csv_json_and_page_tell_the_same(tmp_path: Path) -> None:
    report = write_report([write_all(tmp_path / "all")], tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(FOUND) * len(BUDGETS)
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    for line, other in zip(lines, kept["budgets"], strict=True):
        assert (line["arm"], int(line["labelled"])) == (other["arm"], other["labelled"])
        assert float(line["accuracy_mean"]) == other["accuracy_mean"]
    found = {(line["minus"], line["labelled"]): line["mean"] for line in kept["differences"]}
    assert found["active", 40] == pytest.approx(10.0)
    assert set(found) == {(arm, size) for arm in FOUND if arm != "prunefuse" for size in BUDGETS}
    page = (tmp_path / "out" / "report.html").read_text()
    assert str(report.verdict.headline) in page
    assert "2.00 s / – / –" not in page
    assert "3.00 s / 0.50 s / 4.00 s" in page
    drawn = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    kinds = ("accuracy-over-labels", "accuracy-over-flops", "learning-curves", "costs-by-phase")
    assert drawn == {f"digits-cnn-noise-0-asking-{kind}.svg" for kind in kinds}


def test_a_damaged_ledger_of_a_training_is_named(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "all")
    path = folder / "noise-0" / "prunefuse" / "seed-1" / "stages" / "02-target-round-0" / "ledger.json"
    path.write_text("{")
    collection = collect([folder])
    assert any(f"{path} is damaged" in warning for warning in collection.warnings)
    run = next(run for run in collection.runs if run.arm == "prunefuse" and run.seed == 1)
    assert run.round_seconds == {0: {"selector": 3.0, "select": 0.5}}


def test_seconds_that_a_run_tells_by_round_are_taken(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "all")
    for path in (folder / "noise-0" / "prunefuse").glob("seed-*/results.json"):
        seconds = {"0": {"prune": 1.0, "selector": 2.0, "monitor": 9.0}, "1": {"fuse": 0.25, "train": 3.0}}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds_by_round": seconds}))
    block = block_of(folder)
    row = block.row("prunefuse")
    assert row is not None
    assert [point.seconds for point in points_of(block, row)] == [
        {"selector": 3.0, "choosing": 0.0, "target": 0.0},
        {"selector": 0.0, "choosing": 0.0, "target": 3.25},
    ]


def test_kinds_of_runs_do_not_mix(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("dense", 0, 0.0))
    write_run(tmp_path / "b", results("active", 0, 0.0, **told("active", 0, (0.5, 0.8))))
    pruned = {"recipe": "drophot", "trained_accuracy": 0.9, "pruned_accuracy": 0.4}
    write_run(tmp_path / "c", results("drophot", 0, 0.0, **pruned))
    blocks = tabulate(collect([tmp_path]))
    assert [(block.setting.kind, block.baseline) for block in blocks] == [
        ("asking", "active"),
        ("joint", "coreset-only"),
        ("pruning", "baseline"),
    ]
    report = write_report([tmp_path], tmp_path / "out")
    assert report.verdict.headline.count("Nothing can be said about") == 3
    row = blocks[2].rows[0]
    assert row.trained_accuracy is not None
    assert row.pruned_accuracy is not None
    assert (row.trained_accuracy.mean, row.pruned_accuracy.mean) == (90.0, 40.0)
