"""What a study says where a part of its work has failed."""

import shutil
from pathlib import Path

import pytest
from tiny import covers

from sartor.cli.main import main
from sartor.errors import TrainingError
from sartor.studies.trainings import Cell


@covers("a training of a study that fails for one seed")
def test_a_run_that_fails_takes_the_tables_of_the_others_with_it_only_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that diverges for one seed is told of; a setting that has no run at all leaves nothing to tell."""
    monkeypatch.chdir(tmp_path)
    words = ["study", "timing", "--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--seeds", "2"]
    words += ["--epochs", "4", "--batch-size", "40", "--noise", "0.25", "--intervals", "2", "--fraction", "0.5"]
    words += ["--arms", "coreset-only", "--out", "a"]
    failing = {"seed-1"}
    original = Cell.fit

    def fit(self: Cell, *given: object, **options: object) -> object:
        if "skip-epochs" in str(self.folder) and self.folder.name in failing:
            raise TrainingError("the loss is not finite; lower --lr.")
        return original(self, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Cell, "fit", fit)
    assert main(words) == 2
    said = capsys.readouterr()
    assert "1 run failed, see above; the tables are those of the others" in said.err
    table = Path("a/table.md").read_text()
    assert "Failed, and in no number above: coreset-only 2 skip epochs, noise 0.25, seed 1." in table
    assert "| skip |" in table
    Path("a/table.md").unlink()
    failing.add("seed-0")
    for folder in Path("a/noise-0.25").glob("*skip-epochs/seed-0"):
        shutil.rmtree(folder)
    assert main(words) == 2
    assert "2 of 8 cells failed" in capsys.readouterr().err
    assert not Path("a/table.md").exists()
