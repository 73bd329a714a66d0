"""The study of polynomials: what it draws, what it tells, what it leaves."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sartor.cli.main import main
from sartor.cli.study import parse
from sartor.registry import STUDIES
from sartor.studies.polynomial_cells import CORESET, FULL, READINGS, Difficulty, Fits
from sartor.studies.runge import RungeStudy
from sartor.studies.runge_table import increases, quartiles, spread

FEW = ("study", "runge", "--draws", "4", "--functions", "runge", "--bases", "monomial")


def test_it_leaves_tables_figures_and_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FEW, "--out", "a"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    left = {path.name for path in (tmp_path / "a").iterdir()}
    assert left == {"results.json", "results.csv", "table.md", "figure.csv", "figure.svg", "figure.png"}
    assert (tmp_path / "a/table.md").read_text() in printed
    rows = list(csv.DictReader((tmp_path / "a/results.csv").open()))
    assert {row["reading"] for row in rows} - {""} == set(READINGS)
    drawn = list(csv.DictReader((tmp_path / "a/figure.csv").open()))
    assert len({row["panel"] for row in drawn}) == 3
    assert all(math.isfinite(float(row["y"])) for row in drawn)
    swapped = [row for row in drawn if row["series"] == "swapped"]
    assert {int(row["x"]) for row in swapped} == set(range(1, 19)), "from degree 19 on, L can vanish"
    kept = json.loads((tmp_path / "a/results.json").read_text())
    assert kept["options"]["draws"] == 4
    assert len(kept["cells"]) == 2 + 4


def test_the_same_draws_stand_beside_each_other() -> None:
    sets = Fits("runge", True, "monomial", 1).sets(3)
    full, coreset = sets[FULL], sets[CORESET]
    assert (len(full.x), len(coreset.x)) == (10, 5)
    assert set(coreset.y) <= set(full.y)
    assert not coreset.noisy.any()
    large, small = Difficulty("runge", "subset", 1).pair(0)
    assert (len(large.x), len(small.x)) == (70, 20)
    assert set(small.y) <= set(large.y)
    assert (large.noisy.sum(), small.noisy.sum()) == (50, 0)
    one, other = Difficulty("runge", "independent", 1).pair(0)
    assert not set(one.x) & set(other.x)
    assert [len(s.x) for s in Difficulty("runge", "swapped", 1).pair(0)] == [20, 50]


def test_medians_of_the_paper_s_setting() -> None:
    """Values computed by another program, of other draws: each lies between our quartiles."""
    found = Fits("runge", True, "monomial", 60).run()
    for name, key, expected in ((FULL, "before", 0.056), (FULL, "after", 3.5)):
        low, _, high = quartiles(found["sets"][name][key])
        assert low < expected < high
    assert quartiles(found["sets"][CORESET]["before"])[1] == pytest.approx(0.21, abs=0.005)
    assert quartiles(found["sets"][CORESET]["after"])[1] == pytest.approx(0.28, abs=0.005)
    assert found["sets"]["10 clean"]["before"][0] == pytest.approx(0.029, abs=0.001)
    ten, five = increases(found, "after")
    assert np.mean(ten > five) > 0.9


@pytest.mark.parametrize(
    ("reading", "first", "last"), [("subset", 0.37, 2.41), ("independent", 0.50, 103), ("spaced", 0.14, 1.70)]
)
def test_medians_of_the_difficulty(reading: str, first: float, last: float) -> None:
    found = Difficulty("runge", reading, 60).run()["difficulty"]
    for degree, expected in (("1", first), ("20", last)):
        low, _, high = quartiles(found[degree])
        assert low < expected < high


def test_quartiles_of_what_is_infinite() -> None:
    assert quartiles([None, 1.0, 2.0, 3.0, None]) == (2.0, 3.0, math.inf)
    assert spread([1.0, 1.0, 1.0]) == "1 (1 to 1)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--draws", "1"), "draws is 1"),
        (("--functions", "runge", "sin"), "functions is 'sin'.*'sine'"),
        (("--bases", "legendre"), "must be one of monomial"),
        (("--jobs", "0"), "jobs is 0"),
    ],
)
def test_wrong_options_are_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "runge", *words]) == 2
    error = capsys.readouterr().err
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)
    assert not list(tmp_path.iterdir())


def test_quick_is_a_set_of_options_that_others_override(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("draws: 9\nout: elsewhere\n")
    named = parse("runge", ["--quick", "--config", str(tmp_path / "own.yaml")])
    assert isinstance(named, RungeStudy)
    assert (named.out, named.functions, named.draws) == (Path("elsewhere"), ("runge",), 9)
    assert isinstance(STUDIES["runge"], type)
    quick = parse("runge", ["--quick", "--draws", "7"])
    assert quick == RungeStudy(draws=7, functions=("runge",), bases=("monomial",), out=Path("runs/runge-quick"))
    assert parse("runge", []) == RungeStudy()
