import csv
from pathlib import Path

import pytest
from made_up_runs import results, write_comparison, write_run

from sartor.report.collect import collect
from sartor.report.statistics import paired_difference
from sartor.report.table import Block, flat, tabulate, write_csv


def blocks_of(folder: Path, **options: object) -> tuple[Block, ...]:
    return tabulate(collect([write_comparison(folder, **options)]))  # type: ignore[arg-type]


def test_settings_and_arms_come_in_order(tmp_path: Path) -> None:
    blocks = blocks_of(tmp_path, arms=("swast-cut", "dense", "redrawn"), seeds=(0,))
    assert [(block.setting.noise, [row.arm for row in block.rows]) for block in blocks] == [
        (0.0, ["swast-cut", "dense", "redrawn"]),
        (0.2, ["swast-cut", "dense", "redrawn"]),
    ]


def test_a_row_by_hand(tmp_path: Path) -> None:
    accuracies = {
        "dense": (0.90, 0.92),
        "coreset-only": (0.95, 0.97),
        "redrawn": (0.91, 0.93),
        "swast-cut": (0.96, 0.99),
    }
    (block,) = blocks_of(tmp_path, arms=tuple(accuracies), seeds=(0, 1), noises=(0.2,), accuracies=accuracies)
    row = block.row("swast-cut")
    assert row is not None
    assert (row.n, row.accuracy.mean) == (2, pytest.approx(97.5))
    assert row.minus_baseline == paired_difference({0: 96.0, 1: 99.0}, {0: 95.0, 1: 97.0})
    assert row.minus_random is not None
    assert row.minus_random.mean == pytest.approx(5.5)
    raw, dense = results("swast-cut", 0, 0.2), results("dense", 0, 0.2)
    assert row.flops == pytest.approx(raw["flops"])
    assert row.flops_relative == pytest.approx(raw["flops"] / dense["flops"])
    assert row.kept_weights == pytest.approx(raw["kept_weights"] / 15418)
    assert row.noise_ratio == pytest.approx(0.001)
    assert row.epoch_equivalents == pytest.approx(raw["epoch_equivalents"])


def test_selection_share_leaves_monitoring_out(tmp_path: Path) -> None:
    purposes = {"train": 60.0, "select": 20.0, "score": 20.0, "monitor": 900.0}
    write_run(tmp_path / "a", results("coreset-only", 0, 0.0, flops_by_purpose=purposes))
    ((row,),) = (block.rows for block in tabulate(collect([tmp_path])))
    assert row.selection_share == pytest.approx(0.2)
    assert row.flops_relative is None
    assert row.minus_baseline is None


def test_drawn_once_takes_the_place_of_an_absent_random_arm(tmp_path: Path) -> None:
    (block,) = blocks_of(tmp_path, arms=("random", "coreset-only"), seeds=(0, 1), noises=(0.0,))
    row = block.row("coreset-only")
    assert block.random == "random"
    assert row is not None
    assert row.minus_random is not None


def test_arms_at_equal_cost_stand_in_their_own_block(tmp_path: Path) -> None:
    plain, at_cost = blocks_of(
        tmp_path,
        arms=("coreset-only", "swast-cut"),
        seeds=(0, 1),
        noises=(0.2,),
        at_cost=("coreset-only",),
        accuracies={"coreset-only": (0.97, 0.98), "coreset-only@cost": (0.9, 0.92), "swast-cut": (0.96, 0.97)},
    )
    assert (plain.match, [row.arm for row in plain.rows]) == ("epochs", ["coreset-only", "swast-cut"])
    assert (at_cost.match, at_cost.matched_arm) == ("cost", "swast-cut")
    assert [row.arm for row in at_cost.rows] == ["swast-cut", "coreset-only"]
    assert plain.rows[1].minus_baseline is not None
    assert at_cost.rows[0].minus_baseline is not None
    assert plain.rows[1].minus_baseline.mean == pytest.approx(-1.0)
    assert at_cost.rows[0].minus_baseline.mean == pytest.approx(5.5)


def test_a_cost_run_that_does_not_say_is_put_to_the_nearest_joint_arm(tmp_path: Path) -> None:
    blocks = blocks_of(
        tmp_path, arms=("swast-trim", "swast-cut"), seeds=(0,), noises=(0.0,), at_cost=("dense",), matched_arm=None
    )
    cost = {row.arm: row.flops for row in blocks[0].rows} | {"dense": blocks[1].rows[1].flops}
    assert abs(cost["dense"] - cost["swast-cut"]) < abs(cost["dense"] - cost["swast-trim"])
    assert blocks[1].matched_arm == "swast-cut"


def test_two_comparisons_are_kept_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_comparison(tmp_path / name, arms=("dense",), seeds=(0,), noises=(0.0,))
    assert len(tabulate(collect([tmp_path]))) == 2


def test_csv_holds_what_the_rows_hold(tmp_path: Path) -> None:
    blocks = blocks_of(tmp_path / "c", arms=("dense", "coreset-only", "swast-cut"), seeds=(0,), noises=(0.2,))
    rows = [row for block in blocks for row in block.rows]
    write_csv([flat(row) for row in rows], tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["arm"] for line in lines] == ["dense", "coreset-only", "swast-cut"]
    assert float(lines[2]["minus_baseline_mean"]) == flat(rows[2])["minus_baseline_mean"]
    assert lines[2]["minus_baseline_low"] == ""
    assert lines[0]["noise_ratio"] == ""
    assert lines[0]["n"] == "1"
