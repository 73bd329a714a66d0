"""Whole trainings: streamed data end where data in memory end, from Python and from the shell."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_pictures import write_folder

from sartor import comparison
from sartor.cli import main
from sartor.data import Augment, Pool, Splits
from sartor.data.folders import imagefolder
from sartor.errors import ConfigError, Stopped
from sartor.models.build import build_model
from sartor.recipes import SWaST
from sartor.registry import SELECTORS
from sartor.scanning import scan

SWAST = SWaST(
    epochs=3,
    fraction=0.3,
    every=1,
    warmup=1,
    batch_size=8,
    selector="gradmatch",
    pruner="rigl(every=2)",
    noise=0.2,
    probe=10,
)
FLAGS = (
    "--epochs",
    "2",
    "--fraction",
    "0.4",
    "--every",
    "1",
    "--warmup",
    "1",
    "--batch-size",
    "8",
    "--selector",
    "el2n",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pets"), 14, mixed=True)


@pytest.fixture(scope="module")
def both(root: Path) -> tuple[Splits, Splits]:
    return imagefolder(root, size=8), imagefolder(root, size=8, streamed=True)


def fit(splits: Splits, out: Path | None = None, workers: int = 0, **options: Any) -> dict[str, Any]:
    """Train and return all results but the seconds."""
    model = build_model("cnn(width=2)", classes=3, input_shape=(3, 8, 8), seed=0)
    augment = Augment(crop=2, flip=True)
    made = SWAST.fit(model, splits.train, splits.test, out=out, augment=augment, workers=workers, **options)
    return {name: value for name, value in made.results.items() if not name.startswith("seconds")}


@pytest.fixture(scope="module")
def expected(both: tuple[Splits, Splits]) -> dict[str, Any]:
    return fit(both[0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_weights_masks_subsets_and_costs_are_identical(
    both: tuple[Splits, Splits], expected: dict[str, Any], workers: int
) -> None:
    assert fit(both[1], workers=workers) == expected
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_a_run_goes_on_with_the_other_loader(
    both: tuple[Splits, Splits], expected: dict[str, Any], tmp_path: Path, first: int, second: int
) -> None:
    """Stopped in mid-epoch with data in memory it goes on streamed, and the other way round."""
    asked = iter(range(100))
    with pytest.raises(Stopped):
        fit(both[first], tmp_path / "run", workers=2 * first, stopping=lambda: next(asked) == 6)
    assert not multiprocessing.active_children()
    assert fit(both[second], tmp_path / "run", workers=2 * second) == expected


def test_a_scan_sees_the_same(both: tuple[Splits, Splits]) -> None:
    model = build_model("cnn(width=2)", classes=3, input_shape=(3, 8, 8), seed=0)
    needs = SELECTORS.build("gradmatch").needs | {"logits"}
    first = scan(model, both[0].train, needs=needs, batch_size=7, precision="fp32")
    for workers in (0, 2):
        second = scan(model, both[1].train, needs=needs, batch_size=7, precision="fp32", workers=workers)
        assert torch.equal(first.logits, second.logits)
        assert torch.equal(first.features, second.features)
        assert torch.equal(first.targets, second.targets)


def test_any_dataset_streamed_trains_the_same() -> None:
    class Squares(torch.utils.data.Dataset[tuple[np.ndarray, int]]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
            noise = np.random.default_rng(number).normal(size=(1, 4, 4))
            return (noise + number % 2).astype(np.float32), number % 2

    results = []
    for streamed in (False, True):
        model = build_model("fc(hidden=8)", classes=2, input_shape=(1, 4, 4), seed=0)
        pool = Pool.from_dataset(Squares(), streamed=streamed)
        results.append(SWAST.fit(model, pool, workers=int(streamed)).results["digest"])
    assert results[0] == results[1]


def test_workers_without_anything_to_read(both: tuple[Splits, Splits], expected: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="workers has no effect: the data are in memory"):
        assert fit(both[0], workers=2) == expected
    with pytest.raises(ConfigError, match="workers is -1"):
        fit(both[0], workers=-1)


def shell(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run a command as the shell would; return what it printed."""
    out, err = io.StringIO(), io.StringIO()
    comparison.load.cache_clear()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main([str(argument) for argument in arguments]) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


class TestFromTheShell:
    def test_a_folder_of_mixed_pictures(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        _, error = shell("train", "swast", "--data", root, "--model", "cnn(width=2)", *FLAGS, code=2)
        assert 'bring them to one with --data "imagefolder(size=64)" --root' in error
        assert len(error.splitlines()) == 1
        for place, spec, workers in (("a", "imagefolder(size=8)", 0), ("b", "imagefolder(size=8,streamed=true)", 2)):
            options = ("--data", spec, "--root", root, "--model", "cnn(width=2)", "--workers", workers, *FLAGS)
            out, error = shell("train", "swast", *options, "--out", place)
            assert "test accuracy" in out
            assert not error
        first, second = results(tmp_path / "a"), results(tmp_path / "b")
        assert first["digest"] == second["digest"]
        assert first["test_accuracy"] == second["test_accuracy"]
        assert "--workers 2" in second["command"]
        config = [json.loads((tmp_path / place / "config.json").read_text()) for place in "ab"]
        assert config[0] == config[1]

    def test_a_path_names_the_run_folder_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_folder(tmp_path / "my pets" / "2024", 8)
        monkeypatch.chdir(tmp_path)
        shell("train", "dense", "--data", "my pets/2024", "--model", "cnn(width=2)", "--epochs", "1")
        assert results(tmp_path / "runs" / "dense-my-pets-2024-0")["data"] == "my pets/2024"

    def test_a_table_trains_a_fully_connected_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        generator = np.random.default_rng(0)
        lines = ["height,colour,width,kind"]
        for number in range(120):
            x, y = generator.normal(size=2)
            lines.append(f"{x:.3f},{('red', 'blue')[number % 2]},{1000 * y:.1f},{('low', 'high')[int(x + y > 0)]}")
        Path("table.csv").write_text("\n".join(lines) + "\n")
        for data in (("--data", "table.csv"), ("--data", "csv(target=kind)", "--root", "table.csv")):
            shell("train", "swast", *data, "--model", "fc(hidden=16)", *FLAGS, "--lr", "0.1", "--out", data[1][:3])
        assert results(tmp_path / "tab")["digest"] == results(tmp_path / "csv")["digest"]
        assert results(tmp_path / "tab")["test_accuracy"] > 0.6

    def test_the_data_sets_are_listed(self) -> None:
        out, _ = shell("list", "datasets")
        for name in ("imagefolder", "tinyimagenet", "imagenet", "npz", "csv", "manifest", "cifar10"):
            assert f"  {name} " in out
        _, error = shell("train", "dense", "--data", "./nowhere", code=2)
        assert "./nowhere is not there" in error
        _, error = shell("train", "dense", "--workers", "-2", code=2)
        assert "workers is -2" in error


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_runs_of_a_comparison_read_ahead_too(root: Path, tmp_path: Path, jobs: int) -> None:
    planned = comparison.plan_jobs(
        SWAST,
        data="imagefolder(size=8, streamed=true)",
        root=str(root),
        model="cnn(width=2)",
        out=tmp_path,
        arms=["dense", "swast-cut"],
        seeds=[0],
        noises=[0.0],
        workers=1,
    )
    assert [job.workers for job in planned] == [1, 1]
    made = [outcome for _, outcome in comparison.run_jobs(planned, jobs)]
    assert all(isinstance(outcome, dict) and outcome["n"] == 31 for outcome in made), made
    assert not multiprocessing.active_children()
