"""A study of selectors: one network to choose by, the same training for all, differences paired by seed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sartor.cli.main import main
from sartor.errors import ConfigError
from sartor.report.statistics import mean_interval
from sartor.studies import SelectorStudy
from sartor.studies.selector_table import Line, as_markdown, lines_as_csv, lines_of

SMALL = ("study", "selectors", "--data", "digits", "--model", "cnn(width=2)", "--seeds", "2", "--scorer-epochs", "2")
SMALL += ("--fractions", "0.1", "--sample-steps", "400", "--selectors", "el2n", "alse(snapshots=2)", "forgetting")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_runs_and_is_read_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--out", "study"]) == 0, capsys.readouterr().err
    table = Path("study/table.md").read_text()
    assert "### 10 % of the data, labels as they are (n = 2)" in table
    for name in ("random", "redrawn", "el2n", "alse(snapshots=2)", "forgetting"):
        assert f"| {name} | " in table
    files = {
        path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file() and ".lock" not in path.name
    }
    assert main([*SMALL, "--out", "study"]) == 0
    assert {path: path.read_bytes() for path in files} == files, "a finished study is read back"
    choices = sorted(Path("study").rglob("coreset.csv"))
    assert len(choices) == 2 * 3
    rows = {path: [line["row"] for line in csv.DictReader(path.open())] for path in choices}
    assert len({tuple(chosen) for chosen in rows.values()}) == 6
    assert {len(chosen) for chosen in rows.values()} == {117}


def test_every_network_is_trained_on_as_many_samples(folder: Path) -> None:
    study = SelectorStudy(data="digits", model="cnn(width=2)", out=folder, fractions=(0.1, 0.3), sample_steps=1280)
    counts = set()
    for cell in study.cells():
        steps = round(study.sample_steps / study.batch_size)
        recipe = study.dense(0.0, 0, sampler="redraw", fraction=cell.fraction, warmup=0, steps=steps)
        counts.add(sum(slot.steps(recipe.batch_size) for slot in recipe.timetable(1000)))
    assert counts == {10}


def cell(selector: str, seed: int, accuracy: float) -> dict:
    costs = {"seconds": 2.0, "flops": 5.0, "choose_seconds": 0.5, "choose_flops": 1.0}
    return {"noise": 0.0, "fraction": 0.1, "selector": selector, "seed": seed, "test_accuracy": accuracy} | costs


def test_differences_are_paired_by_seed_and_costs_are_whole() -> None:
    cells = [cell("random", 0, 0.5), cell("random", 1, 0.7), cell("el2n", 0, 0.6), cell("el2n", 1, 0.8)]
    scorers = {(0.0, seed): {"seconds": 10.0, "flops": 100.0} for seed in (0, 1)}
    best, control = lines_of(cells, scorers)
    assert (best.selector, control.selector) == ("el2n", "random")
    assert best.minus_random is not None
    assert (best.minus_random.mean, best.minus_random.low) == pytest.approx((10, 10))
    assert control.minus_random is None
    assert (best.flops, control.flops) == (106.0, 6.0), "who draws at random needs no network to choose by"
    assert (best.scorer_seconds, control.scorer_seconds) == (10.0, 0.0)
    assert "**+10.00 (+10.00 to +10.00)**" in as_markdown([best, control])
    assert len(list(csv.DictReader(lines_as_csv([best, control]).splitlines()))) == 2


def test_a_single_seed_shows_no_interval() -> None:
    line = Line(0.2, 0.1, "el2n", mean_interval([50.0]), mean_interval([3.0]), None, 1.0, 1.0, 1.0, 1.0)
    assert "| el2n | 50.00 | +3.00 |  |" in as_markdown([line])
    (row,) = csv.DictReader(lines_as_csv([line]).splitlines())
    assert (row["accuracy_mean"], row["accuracy_low"], row["minus_redrawn_mean"]) == ("50.0", "", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("study",), r"name a study: sartor study .*selectors"),
        (("study", "selector"), r"no study called 'selector'.*Did you mean 'selectors'"),
        ((*SMALL[:4], "--selectors", "el3n"), r"el3n.*Did you mean 'el2n'"),
        ((*SMALL[:4], "--seeds", "0"), r"seeds is 0"),
        ((*SMALL[:4], "--fractions", "1.5"), r"fractions is 1\.5"),
    ],
)
def test_wrong_input(words: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(error)
    assert error.count("\n") == 1
    assert not list(folder.iterdir())
