"""What a study says where a part of its work has failed."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import covers

from sartor.cli.main import main
from sartor.errors import TrainingError
from sartor.studies import drophot_cells
from sartor.studies.trainings import Cell


def let_fail(monkeypatch: pytest.MonkeyPatch, lost: Callable[[Cell], bool]) -> None:
    """Let some trainings diverge."""
    original = Cell.fit

    def fit(self: Cell, *given: object, **options: object) -> object:
        if lost(self):
            raise TrainingError("the loss is not finite; lower --lr.")
        return original(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Cell, "fit", fit)


def let_fail_in_grid(monkeypatch: pytest.MonkeyPatch, lost: Callable[[drophot_cells.Cell], bool]) -> None:
    """Let some runs of DropHot's grid diverge."""
    original = drophot_cells.Cell.run

    def run(self: drophot_cells.Cell) -> dict[str, object]:
        if lost(self):
            raise TrainingError("the loss is not finite; lower --lr.")
        return original(self)

    monkeypatch.setattr(drophot_cells.Cell, "run", run)


@covers("a training of a study that fails for one seed")
def test_a_run_that_fails_takes_the_tables_of_the_others_with_it_only_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that diverges for one seed is told of; a setting that has no run at all leaves nothing to tell."""
    monkeypatch.chdir(tmp_path)
    words = ["study", "timing", "--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--seeds", "2"]
    words += ["--epochs", "4", "--batch-size", "40", "--noise", "0.25", "--intervals", "3", "--fraction", "0.5"]
    words += ["--arms", "coreset-only", "--out", "a"]
    failing = {"seed-1"}
    let_fail(monkeypatch, lambda cell: "skip-epochs" in str(cell.folder) and cell.folder.name in failing)
    assert main(words) == 2
    said = capsys.readouterr()
    assert "1 run failed, see above; the tables are those of the others" in said.err
    table = Path("a/table.md").read_text()
    assert "Failed, and in no number here: coreset-only 3 skip epochs, noise 0.25, seed 1." in table
    assert "| skip |" in table
    Path("a/table.md").unlink()
    failing.add("seed-0")
    for folder in Path("a/noise-0.25").glob("*skip-epochs/seed-0"):
        shutil.rmtree(folder)
    assert main(words) == 2
    assert "2 of 10 cells failed" in capsys.readouterr().err
    assert not Path("a/table.md").exists()


@covers("a training of a study that fails for one seed")
def test_with_a_run_those_fail_that_are_made_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Swaps and tracks that read a lost run are lost too, and the others are told."""
    monkeypatch.chdir(tmp_path)
    words = ["study", "double-loss", "--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--seeds", "3"]
    words += ["--epochs", "4", "--batch-size", "40", "--every", "2", "--fractions", "0.5", "--selectors", "el2n"]
    words += ["--pruner", "rigl(every=2)", "--probe", "5", "--out", "a"]
    let_fail(monkeypatch, lambda cell: cell.title == "el2n 0.5 0.9 none own own, noise 0, seed 1")
    assert main(words) == 2
    said = capsys.readouterr()
    assert "it takes what el2n 0.5 0.9 none own own, noise 0, seed 1 should have left, and that failed" in said.out
    table = Path("a/table.md").read_text()
    lost = table.partition("Failed, and in no number here: ")[2].partition("\n")[0]
    gone = {"none swapped own": [0, 1], "none own swapped": [0, 1], "none swapped swapped": [0]}
    for name, seeds in gone.items():
        assert [seed for seed in range(3) if f"{name}, noise 0, seed {seed}" in lost] == seeds, name
    tracks = [f"track of el2n 0.5 0.9 none own own, noise 0, seed {seed}" in lost for seed in range(3)]
    assert tracks == [True, True, False], "a track stands beside the next seed's run"
    assert "| el2n | 0.5 | 0.9 |" in table


@covers("a training of a study that fails for one seed")
def test_a_grid_of_drophot_is_told_without_the_runs_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run whose folder tells of the scores fails, and one that shares its training; means are over what is left."""
    monkeypatch.chdir(tmp_path)
    words = ["study", "drophot", "--data", "few(of=digits, samples=120)", "--model", "fc(hidden=8)", "--epochs", "2"]
    words += ["--batch-size", "40", "--seeds", "3", "--fractions", "0.5", "--sparsities", "0", "0.5", "--out", "a"]
    words += ["--arms", "highest", "random", "baseline", "--defects", "none", "masks"]
    failing = {("highest", 0.0, "none", 1), ("highest", 0.5, "masks", 2)}
    let_fail_in_grid(monkeypatch, lambda cell: (cell.arm, cell.sparsity, cell.spoilt, cell.seed) in failing)
    assert main(words) == 2
    assert "2 runs failed, see above; the tables are those of the others" in capsys.readouterr().err
    table = Path("a/table.md").read_text()
    lost = table.partition("Failed, and in no number here: ")[2].strip()
    run = "highest, 0.5 of the data, sparsity"
    assert lost == f"{run} 0, noise 0, seed 1; {run} 0.5, defects masks, noise 0, seed 2."
    assert "All cells together, percentage points (n = 1 to 3)" in table, "seeds 1 and 2 have not all cells"
    assert table.count("50 % of the data (n = 2 to 3)") == 1
    scores, *_ = csv.DictReader(Path("a/scores-table.csv").read_text().splitlines())
    assert scores["never right, %_n"] == "3", "the other run of seed 1 tells of its scores"
    failing |= {("highest", 0.0, "none", seed) for seed in (0, 2)}
    Path("a/table.md").unlink()
    assert main(words) == 2
    assert "3 of 3 runs that score failed" in capsys.readouterr().err
    assert not Path("a/table.md").exists()


@covers("a training of a study that fails for one seed")
def test_runs_of_other_places_stand_beside_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", "drophot", "--data", "few(of=digits, samples=120)", "--model", "fc(hidden=8)", "--epochs", "1"]
    words += ["--batch-size", "40", "--fractions", "0.5", "--sparsities", "0.5", "--arms", "random", "baseline"]
    assert main([*words, "--seeds", "2", "--out", "a"]) == 0
    let_fail_in_grid(monkeypatch, lambda cell: cell.arm == "random" and cell.seed == 2)
    assert main([*words, "--seeds", "3", "--known", "a/results.json", "--out", "b"]) == 2
    assert "the tables are those of the others" in capsys.readouterr().err
    assert "50 % of the data (n = 2 to 3)" in Path("b/table.md").read_text()
