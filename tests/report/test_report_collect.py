import json
from pathlib import Path

import pytest
from made_up_runs import results, write_comparison, write_run

from sartor.errors import DataError
from sartor.report.collect import Comparison, collect

PAIR = ("coreset-only", "swast-cut")


def test_every_run_below_the_folders_is_found_once(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", arms=PAIR, seeds=(0, 1), noises=(0.2,))
    found = collect([folder, tmp_path, folder / "noise-0.2" / "swast-cut"])
    assert sorted((run.arm, run.seed) for run in found.runs) == [(arm, seed) for arm in PAIR for seed in (0, 1)]
    assert found.warnings == ()
    run = next(run for run in found.runs if run.arm == "swast-cut")
    assert run.comparison == str(folder)
    assert len(run.epochs) == 40
    assert [line["epoch"] for line in run.selections][:2] == [4, 9]
    assert found.comparison_of(str(folder)).seeds == (0, 1)


def test_runs_without_compare_json_take_the_usual_names(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("dense", 0, 0.0))
    found = collect([tmp_path])
    assert found.runs[0].comparison == ""
    assert found.comparison_of("") == Comparison(baseline="coreset-only", random="redrawn")


def test_the_nearest_compare_json_counts(tmp_path: Path) -> None:
    write_comparison(tmp_path, arms=("dense",), seeds=(0,), noises=(0.0,))
    inner = write_comparison(tmp_path / "inner", arms=("dense",), seeds=(0,), noises=(0.0,))
    assert sorted(run.comparison for run in collect([tmp_path]).runs) == [str(tmp_path), str(inner)]


def test_unfinished_run_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "done", results("dense", 0, 0.0))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert found.warnings == (
        f"{tmp_path / 'half'} holds an unfinished run and was left out; start it again to finish it.",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": 1, "arm"', "damaged"),
        ("[1, 2]", "list"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "match": "epochs"}', "no 'arm'"),
    ],
)
def test_damaged_results_are_named_not_fatal(tmp_path: Path, text: str, says: str) -> None:
    write_run(tmp_path / "good", results("dense", 0, 0.0))
    (write_run(tmp_path / "bad", results("dense", 1, 0.0)) / "results.json").write_text(text)
    found = collect([tmp_path])
    assert [run.seed for run in found.runs] == [0]
    assert len(found.warnings) == 1
    assert says in found.warnings[0]
    assert str(tmp_path / "bad") in found.warnings[0]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("test_accuracy", 97.3, "share"), ("seconds", float("nan"), "finite"), ("seed", "first", "wrong kind")],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, key: str, value: object, says: str) -> None:
    write_run(tmp_path / "good", results("dense", 0, 0.0))
    folder = write_run(tmp_path / "bad", results("dense", 1, 0.0))
    (folder / "results.json").write_text(json.dumps(results("dense", 1, 0.0) | {key: value}))
    (warning,) = collect([tmp_path]).warnings
    assert says in warning


def test_torn_metrics_keep_the_lines_before(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", results("swast-cut", 0, 0.2))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:3], '{"kind": "epo']))
    found = collect([tmp_path])
    assert len(found.runs[0].epochs) == 3
    assert "line 4" in found.warnings[0]


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    (write_run(tmp_path / "a", results("dense", 0, 0.0)) / "metrics.jsonl").unlink()
    found = collect([tmp_path])
    assert found.runs[0].epochs == ()
    assert "missing" in found.warnings[0]


def test_repeated_run_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, results("dense", 0, 0.0))
    found = collect([tmp_path])
    assert [run.folder.name for run in found.runs] == ["a"]
    assert "repeats" in found.warnings[0]


def test_absent_runs_of_a_comparison_are_named(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, arms=PAIR, seeds=(0,), noises=(0.0,))
    listing = json.loads((folder / "compare.json").read_text())
    (folder / "compare.json").write_text(json.dumps({**listing, "seeds": [0, 1, 2]}))
    (warning,) = collect([folder]).warnings
    assert "coreset-only (noise 0, seed 1), coreset-only (noise 0, seed 2), swast-cut (noise 0, seed 1)" in warning
    assert "1 more" in warning


def test_runs_at_cost_are_known_by_their_folder_name(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, arms=PAIR, seeds=(0,), noises=(0.0,), at_cost=("coreset-only",))
    found = collect([folder])
    assert found.warnings == ()
    assert [(run.arm, run.matched_arm) for run in found.runs if run.match == "cost"] == [("coreset-only", "swast-cut")]


def test_a_report_in_the_folder_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("dense", 0, 0.0))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "results.json").write_text('{"format": 1, "rows": []}')
    found = collect([tmp_path])
    assert (len(found.runs), found.warnings) == (1, ())


def test_damaged_compare_json_is_named(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, arms=PAIR, seeds=(0,), noises=(0.0,))
    (folder / "compare.json").write_text('{"seeds": ["x"]}')
    found = collect([folder])
    assert "compare.json was not used" in found.warnings[0]
    assert {run.comparison for run in found.runs} == {""}


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run was found"):
        collect([tmp_path])
    with pytest.raises(DataError, match="there is no folder"):
        collect([tmp_path / "absent"])
