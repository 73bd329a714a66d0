"""What defects add to the gain that DropHot's report claims: by hand, and from small grids that were run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sartor.cli.main import main
from sartor.studies.drophot_defects import verdict_of
from sartor.studies.drophot_table import GridLine, grid_lines, grid_markdown

T = 12.7062047
"""Student's t at 97.5 % with one degree of freedom: the interval of two values d apart is their mean +- T d / 2."""


def runs(arm: str, finals: tuple[float, ...], **place: Any) -> list[dict[str, Any]]:
    """Made-up runs of an arm with these accuracies in points, seed by seed."""
    where = {"arm": arm, "fraction": 0.1, "sparsity": 0.5, "defects": "none", "noise": 0.0} | place
    where.setdefault("spoilt_by", where["defects"])
    told = {"trained_accuracy": 0.2, "pruned_accuracy": 0.15, "flops": 1.0}
    return [where | told | {"seed": seed, "test_accuracy": final / 100} for seed, final in enumerate(finals)]


# gains over all data: 2 and 3 without the defect, 11 and 13 with it
SOUND = [*runs("highest", (70, 72)), *runs("baseline", (68, 69), fraction=1.0)]
SPOILT = [
    *runs("highest", (71, 76), defects="batchnorm"),
    *runs("baseline", (60, 63), fraction=1.0, defects="batchnorm"),
]
# a second cell: gains 1 and 1 without, 2 and 5 with
WIDER = [
    *runs("highest", (69, 70), fraction=0.3),
    *runs("highest", (62, 68), fraction=0.3, defects="batchnorm"),
]


def line_of(results: list[dict[str, Any]], arm: str, defects: str, fraction: float = 0.1) -> GridLine:
    (found,) = [
        line for line in grid_lines(results) if (line.arm, line.defects, line.fraction) == (arm, defects, fraction)
    ]
    return found


def test_the_share_of_a_defect_is_the_gain_over_all_data_with_it_minus_that_without() -> None:
    added = line_of(SOUND + SPOILT, "highest", "batchnorm").added_by_defects
    assert added is not None
    assert (added.mean, added.n) == pytest.approx((9.5, 2)), "9 and 10; without the baseline it would be 2.5"
    assert (added.low, added.high) == pytest.approx((9.5 - T / 2, 9.5 + T / 2))
    assert line_of(SOUND + SPOILT, "baseline", "batchnorm").added_by_defects is None
    assert line_of(SOUND + SPOILT, "highest", "none").added_by_defects is None


def test_the_share_is_of_the_same_cell_and_of_the_seeds_that_are_in_both() -> None:
    everything = SOUND + SPOILT + WIDER
    assert line_of(everything, "highest", "batchnorm", 0.3).added_by_defects.mean == pytest.approx((1 + 4) / 2)
    noisy = [run | {"noise": 0.2} for run in SOUND]
    assert line_of(noisy + SPOILT, "highest", "batchnorm").added_by_defects is None, "of other labels"
    one = [run for run in SOUND if run["seed"] == 1]
    added = line_of(one + SPOILT, "highest", "batchnorm").added_by_defects
    assert (added.mean, added.n) == pytest.approx((10, 1))


def test_a_defect_that_reaches_neither_the_arm_nor_the_baseline_has_no_share() -> None:
    same = [
        *runs("random", (66, 67)),
        *runs("random", (66, 67), defects="scores", spoilt_by="none"),
        *runs("highest", (67, 67), defects="scores"),
        *runs("baseline", (68, 69), fraction=1.0, defects="scores", spoilt_by="none"),
    ]
    assert line_of(SOUND + same, "random", "scores").added_by_defects is None
    assert line_of(SOUND + same, "highest", "scores").added_by_defects.mean == pytest.approx(-4), "-3 and -5"
    (said,) = verdict_of(SOUND + same)
    assert "highest" in said
    assert "random" not in said


def test_the_table_has_the_share_where_there_are_defects() -> None:
    sound, spoilt = grid_markdown(grid_lines(SOUND + SPOILT)).split("### ")[:0:-1]
    assert "added to minus all data by the defects" not in sound
    assert "added to minus all data by the defects" in spoilt
    row = next(line for line in spoilt.splitlines() if "highest" in line)
    assert "| **+9.50 (+3.15 to +15.85)** | 1 |" in row
    heads = spoilt.splitlines()[2]
    assert row.count("|") == heads.count("|")


def test_the_verdict_tells_shares_on_average_over_the_cells_and_cell_by_cell() -> None:
    (said,) = verdict_of(SOUND + SPOILT + WIDER)
    # by seed: (2 + 1) / 2 and (3 + 1) / 2 without, (11 + 2) / 2 and (13 + 5) / 2 with, so 5 and 7 more
    average, by_cell = said.split(" Cell by cell, ")
    assert average == (
        "What `batchnorm` adds to the gain over all data, in points and on average over 2 cells: "
        "highest +6.00 (-6.71 to +18.71) (+1.75 without, +7.75 with, n = 2)."
    )
    assert by_cell.startswith("highest: of 2 comparisons, 1 above 0, 0 below 0, 1 where none could be shown")
    unreached = [
        *runs("random", (70, 70)),
        *runs("random", (70, 70), defects="batchnorm", spoilt_by="none"),
    ]
    (again,) = verdict_of(SOUND + SPOILT + WIDER + unreached)
    assert "random +7.00 (-5.71 to +19.71) (+1.50 without, +8.50 with, n = 2)" in again, (
        "what the baseline loses: 8 and 6"
    )
    assert again.endswith(f" Cell by cell, {by_cell}")
    wrong = [run | {"noise": 0.2} for run in SOUND + SPOILT]
    assert "all data with 20 % of the labels wrong, in points" in verdict_of(wrong)[0]
    (alone,) = verdict_of([run for run in SOUND + SPOILT if run["seed"] == 0])
    assert "highest +9.00 (+2.00 without, +11.00 with, n = 1)" in alone
    assert "nothing is shown" in alone


def test_what_a_share_lacks_is_said() -> None:
    assert verdict_of(SOUND) == [], "no defect, no share"
    assert verdict_of(SPOILT) == [
        "What the defects add to the gain over all data is not told: that takes `none` among the defects."
    ]
    bare = [run for run in SOUND + SPOILT if run["arm"] != "baseline"]
    assert "that takes `baseline` among the arms." in verdict_of(bare)[0]
    assert "`none` among the defects and `baseline` among the arms." in verdict_of(bare[2:])[0]
    idle = [run | {"spoilt_by": "none"} for run in SOUND + SPOILT]
    assert "nothing, for it reaches no arm's gain here" in verdict_of(idle)[0]


SMALL = ("--data", "digits", "--model", "fc(hidden=8)", "--epochs", "1", "--batch-size", "128", "--seeds", "2")


def test_a_small_grid_tells_its_shares(tmp_path: Path) -> None:
    flags = [*SMALL, "--fractions", "0.2", "--sparsities", "0.8", "--arms", "highest", "random", "baseline"]
    assert main(["study", "drophot", *flags, "--defects", "none", "scores", "--out", str(tmp_path)]) == 0
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    final = {(run["arm"], run["defects"], run["seed"]): 100 * run["test_accuracy"] for run in cells}
    gain = {(d, s): final["highest", d, s] - final["baseline", d, s] for d in ("none", "scores") for s in (0, 1)}
    share = sum(gain["scores", seed] - gain["none", seed] for seed in (0, 1)) / 2
    rows = {(row["arm"], row["defects"]): row for row in csv.DictReader((tmp_path / "results.csv").open())}
    assert float(rows["highest", "scores"]["added_by_defects_mean"]) == pytest.approx(share)
    empty = [place for place, row in rows.items() if not row["added_by_defects_mean"]]
    assert len(empty) == len(rows) - 1, "the defect reaches neither random coresets nor the baseline"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.startswith(
        "- What `scores` adds to the gain over all data, in points and on average over 1 cell: highest"
    )


def test_a_grid_without_a_sound_half_says_so(tmp_path: Path) -> None:
    flags = [*SMALL, "--fractions", "0.2", "--sparsities", "0.8", "--arms", "random", "baseline"]
    assert main(["study", "drophot", *flags, "--defects", "masks", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.startswith("- What the defects add to the gain over all data is not told: that takes `none`")
