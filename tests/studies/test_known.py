"""Outcomes from elsewhere stand for runs, and for none but those that would have been the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.cli.main import main
from sartor.cli.study import parse
from sartor.comparison import Work
from sartor.studies.cross_arms import SOURCES
from sartor.studies.drophot_grid import DropHotStudy
from sartor.studies.known import ReusingStudy

GRID = ("--data", "digits", "--model", "fc(hidden=8)", "--epochs", "2", "--batch-size", "256", "--fractions", "0.2")
DROPHOT = ("drophot", *GRID, "--sparsities", "0", "0.6", "--arms", "highest", "random", "baseline")
TIMING = ("timing", "--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--epochs", "4")
TIMING += ("--batch-size", "40", "--intervals", "3", "--fraction", "0.5", "--arms", "coreset-only")


def table(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a folder without what a clock measures."""
    rows = json.loads((folder / "results.json").read_text())["cells"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def runs(folder: Path) -> set[str]:
    """Return the run folders in a study's folder."""
    return {str(file.parent.relative_to(folder)) for file in folder.glob("noise-*/**/results.json")}


@pytest.mark.parametrize(
    ("words", "new", "also"),
    [
        (DROPHOT, ["seed-1"], {"noise-0/seed-0/defects-none/highest/fraction-0.2/sparsity-0"}),
        ((*TIMING, "--noise", "0.25"), ["seed-1"], set[str]()),
    ],
)
def test_a_grid_in_two_parts_is_the_grid(
    words: tuple[str, ...], new: list[str], also: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, part, rest = (str(tmp_path / name) for name in ("whole", "part", "rest"))
    assert main(["study", *words, "--seeds", "2", "--out", whole]) == 0, capsys.readouterr().err
    assert main(["study", *words, "--seeds", "1", "--out", part]) == 0, capsys.readouterr().err
    known = ("--known", f"{part}/results.json")
    assert main(["study", *words, "--seeds", "2", "--out", rest, *known]) == 0, capsys.readouterr().err
    count = len(table(tmp_path / "part")) - len(also)
    assert f"{count} runs of other places stand for what would be made here" in capsys.readouterr().out
    assert table(tmp_path / "rest") == table(tmp_path / "whole")
    made = {run for run in runs(tmp_path / "whole") if any(word in run.split("/") for word in new)} | also
    assert runs(tmp_path / "rest") == made
    for name in ("figure.csv", "pruning.csv", "scores.csv", "curves.csv"):
        if (tmp_path / "whole" / name).exists():
            assert (tmp_path / "rest" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    left = f"{rest}/results.json"  # what was put together is as good as what was made in one place
    assert main(["study", *words, "--seeds", "2", "--out", rest, "--known", left, "--dry-run"]) == 0
    assert len(recalled(*words, "--seeds", "2", "--known", left)) == len(table(tmp_path / "whole")) - 2 * len(also)


def recalled(*words: str) -> set[Work]:
    """Return the work of a study that is known."""
    return set(parse(words[0], words[1:]).recalled())


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Return the results of a grid of two runs."""
    assert main(["study", *DROPHOT[:-3], "random", "baseline", "--seeds", "1", "--out", str(tmp_path / "part")]) == 0
    return tmp_path / "part" / "results.json"


def test_a_known_run_has_the_same_options_network_and_samples(part: Path, tmp_path: Path) -> None:
    words = (*DROPHOT, "--known", str(part))
    assert {work.title.split(",")[0] for work in recalled(*words)} == {"random", "baseline"}
    assert len(recalled(*words)) == 4
    assert len(recalled(*words, "--sparsities", "0.3", "0.6")) == 2
    assert len(recalled(*words, "--device", "auto")) == 4, "where it was made decides nothing"
    others = (("--lr", "0.01"), ("--model", "fc(hidden=9)"), ("--data", "few(of=digits, samples=1000)"))
    for other in others:
        study = parse("drophot", [*DROPHOT[1:], *other])
        names = {cell.identity for cell in study.replaceable()}  # type: ignore[attr-defined]
        assert not names & {row["identity"] for row in json.loads(part.read_text())["cells"]}


def test_data_are_known_by_their_samples_not_by_their_place(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)).astype("float32"), np.arange(60) % 3

    def names(place: str, x: Any) -> list[str]:
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        grid = DropHotStudy(data=str(tmp_path / place / "data.npz"), model="fc(hidden=4)", seeds=1, fractions=(0.5,))
        return [cell.identity for cell in grid.cells()]

    first = names("a", x)
    assert len(set(first)) == len(first)
    assert names("b", x) == first
    assert not set(names("c", x + 1)) & set(first)


def test_runs_that_other_work_reads_are_made_here() -> None:
    cross = parse("cross", [])
    assert isinstance(cross, ReusingStudy)
    arms = {tuple(value for _, value in cell.factors) for cell in cross.replaceable()}  # type: ignore[attr-defined]
    assert arms
    assert not arms & {*SOURCES, *SOURCES.values()}
    double: Any = parse("double-loss", [])
    cells = double.replaceable()
    assert cells
    assert not any(double.tracked(cell) or double.sources(cell) for cell in cells)


def test_runs_of_one_recipe_are_known_with_it(tmp_path: Path) -> None:
    words = [*TIMING[1:], "--seeds", "1", "--noise", "0.25"]
    assert main(["study", "timing", *words, "--out", str(tmp_path)]) == 0
    kept = tmp_path / "results.json"
    content = json.loads(kept.read_text())
    study: Any = parse("timing", words)
    followers = [cell for cell in study.cells() if cell.first != cell]
    assert followers
    titles = {tuple(cell.where.values()) for cell in followers}
    content["cells"] = [
        row for row in content["cells"] if tuple(row[name] for name in followers[0].where) not in titles
    ]
    kept.write_text(json.dumps(content))
    again: Any = parse("timing", [*words, "--known", str(kept)])
    assert again.forecast() == "every training is known"
    assert {work.title for work in again.recalled()} == {cell.title for cell in study.cells()}
    for cell, row in again.recalled().items():
        assert {name: row[name] for name in cell.where} == cell.where


def test_known_runs_of_another_version_are_not_mixed_in(
    part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(part.read_text())
    for row in content["cells"]:
        del row["curves"]
    part.write_text(json.dumps(content))
    words = ["study", *DROPHOT[:-3], "random", "--seeds", "2", "--known", str(part), "--out", str(tmp_path / "rest")]
    assert main(words) == 2
    assert "not alike in: curves" in capsys.readouterr().err
    assert not (tmp_path / "rest" / "results.json").exists()
    assert main(words[:-4] + words[-2:]) == 0, "what was made is kept"


def test_a_network_is_known_by_its_layers(tmp_path: Path) -> None:
    def names(place: str, layers: str) -> set[str]:
        (tmp_path / place).mkdir()
        lines = ["import math", "import torch", "def net(classes, input_shape):"]
        lines.append("    last = torch.nn.Linear(math.prod(input_shape), classes)")
        lines.append(f"    return torch.nn.Sequential(torch.nn.Flatten(), {layers}, last)")
        (tmp_path / place / "net.py").write_text("\n".join(lines))
        study = DropHotStudy(data="digits", model=f"{tmp_path / place}/net.py:net", seeds=1, fractions=(0.5,))
        return {cell.identity for cell in study.cells()}

    first = names("a", "torch.nn.ReLU()")
    assert names("b", "torch.nn.ReLU()") == first
    assert not names("c", "torch.nn.Tanh()") & first


def test_costs_in_seconds_are_of_one_machine(part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "cost-conventions", "--known", str(part)]) == 2
    assert "must be of one machine" in capsys.readouterr().err


def test_files_that_know_nothing_are_refused(part: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    place = tmp_path.with_name(f"{tmp_path.name}-kept")
    place.mkdir()
    (tmp_path / "part").rename(place / "part")
    kept = place / "part" / "results.json"
    said = refused(*DROPHOT, "--lr", "0.01", "--known", str(kept))
    assert "has 4 runs, and none of this study" in said
    assert "is no file; give the results.json" in refused(*DROPHOT, "--known", str(place / "nothing.json"))
    rows = json.loads(kept.read_text())
    for row in rows["cells"]:
        del row["identity"]
    kept.write_text(json.dumps(rows))
    assert "do not say what decided them" in refused(*DROPHOT, "--known", str(kept))
