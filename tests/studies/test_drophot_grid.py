import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sartor.comparison import run_jobs
from sartor.errors import ConfigError
from sartor.studies.drophot_cells import Cell
from sartor.studies.drophot_grid import DropHotStudy
from sartor.studies.drophot_table import grid_lines, grid_markdown
from sartor.studies.selector_table import lines_as_csv


def study(folder: Path, **options: Any) -> DropHotStudy:
    small: dict[str, Any] = {"data": "digits", "model": "fc(hidden=8)", "epochs": 1, "batch_size": 256, "seeds": 2}
    small |= {"fractions": (0.2,), "sparsities": (0.0, 0.8)}
    return DropHotStudy(out=folder, **{**small, **options})


def test_the_full_grid_has_all_cells_and_the_baseline_once_for_all_fractions() -> None:
    cells = DropHotStudy().cells()
    assert len(cells) == 3 * (5 * 25 + 5)
    assert len({cell.folder for cell in cells}) == len(cells)


def test_no_two_runs_of_a_wave_make_the_same_training(tmp_path: Path) -> None:
    grid = study(tmp_path, defects=("none", "scores", "masks"))
    grid.check()
    waves, scored, trained = grid.waves(), set[Any](), set[Any]()
    made = [cell.folder for wave in waves for cell in wave]
    assert len(made) == len(set(made))
    assert set(made) == {cell.folder for cell in grid.cells()}
    for wave in waves:
        for seen, keys in ((scored, [c.scoring for c in wave if c.scoring]), (trained, [c.trained for c in wave])):
            fresh = [key for key in keys if key not in seen]
            assert len(fresh) == len(set(fresh))
            seen |= set(keys)


def test_a_run_that_no_defect_reaches_is_the_same_run_and_is_counted_once(tmp_path: Path) -> None:
    grid = study(tmp_path, defects=("none", "masks", "scores"), arms=("highest", "random"), seeds=1)
    spoilt = {(cell.arm, cell.defects, cell.sparsity): cell.spoilt for cell in grid.cells()}
    reached = {
        ("highest", "masks", 0.8),
        ("random", "masks", 0.8),
        ("highest", "scores", 0.0),
        ("highest", "scores", 0.8),
    }
    assert {place for place, found in spoilt.items() if found != "none"} == reached
    assert len(grid.cells()) == 12
    assert grid.forecast().startswith("8 runs")


def test_mini_batch_coresets_have_the_batches_of_the_study() -> None:
    (cell,) = study(Path(), arms=("crest",), sparsities=(0.8,), seeds=1, batch_size=32).cells()
    assert cell.recipe.selector == "crest(batch_size=32)"
    assert DropHotStudy(arms=("crest",)).cells()[0].recipe.selector == "crest(batch_size=64)"


def test_options_of_the_recipe_reach_every_run() -> None:
    grid = study(Path(), sparsities=(0.0, 0.8), iterations=3, epochs=3, optimizer="adamw", augment="auto", seeds=1)
    grid = replace(grid, tuning="regrow")
    grid.check()
    for cell in grid.cells():
        assert (cell.recipe.optimizer, cell.recipe.augment) == ("adamw", "auto")
        assert cell.recipe.tuning == ("regrow" if cell.sparsity else "masked")
        assert cell.recipe.iterations == (3 if cell.sparsity else 1), "nothing is pruned in steps where nothing is"


def test_a_small_grid_is_run_and_told(tmp_path: Path) -> None:
    grid = study(tmp_path, arms=("highest", "random", "baseline", "baseline-matched"), sparsities=(0.8,))
    grid.check()
    assert grid.forecast().startswith("8 runs")
    found: dict[Cell, Any] = {}
    for wave in grid.waves():
        for work, outcome in run_jobs(wave, 1):
            assert not isinstance(outcome, Exception), outcome
            found[work] = outcome
    lines = grid_lines([found[cell] for cell in grid.cells()])
    assert [line.arm for line in lines] == list(grid.arms)
    by_arm = {line.arm: line for line in lines}
    assert by_arm["highest"].minus_baseline.mean == pytest.approx(
        by_arm["highest"].accuracy.mean - by_arm["baseline"].accuracy.mean
    )
    assert by_arm["baseline"].minus_baseline is None
    assert by_arm["highest"].flops == pytest.approx(by_arm["baseline-matched"].flops, rel=0.1)
    assert "| 0.8 | highest |" in grid_markdown(lines)
    rows = list(csv.DictReader(lines_as_csv(lines).splitlines()))
    assert [row["arm"] for row in rows] == list(grid.arms)
    made = Counter(path.name.partition("-")[0] for path in (tmp_path / "shared").iterdir() if path.is_dir())
    assert made == {"score": 2, "train": 2 * 4, "tune": 2 * 4}, "a score training a seed, the others an arm"
    results = json.loads((grid.cells()[0].folder / "results.json").read_text())
    assert results["arm"] == "highest"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": ("hihgest",)}, "Did you mean 'highest'"),
        ({"arms": ()}, "arms is empty"),
        ({"sparsities": (1.0,)}, "sparsity is 1"),
        ({"defects": ("all",)}, "legacy_defects is 'all'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"pruning": "channel"}, "Did you mean 'channels'"),
        ({"arms": ("baseline",), "fractions": (0.1,)}, "fractions: without effect without an arm with a coreset"),
        ({"arms": ("random",), "record": "epoch"}, "record: without effect without an arm by forgetting"),
        ({"score_sparsity": 0.8}, "score_sparsity: without effect without an arm that ends in -pruned"),
        ({"sparsities": (0.0,), "tuning": "regrow"}, "tuning: without effect without a sparsity above 0"),
        (
            {"arms": ("random", "baseline"), "defects": ("none", "scores")},
            "scores, which reaches none of the arms random",
        ),
        ({"arms": ("random",), "defects": ("batchnorm",)}, "batchnorm, which reaches none of the arms"),
        ({"sparsities": (0.0,), "defects": ("none", "masks")}, "name a sparsity above 0"),
        ({"tuning": "regrow", "defects": ("none", "masks")}, "what tuning regrow is"),
        ({"record": "epoch", "defects": ("none", "scores")}, "record epoch would differ"),
    ],
)
def test_what_no_grid_can_be_made_of_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DropHotStudy(out=tmp_path, **options).check()
