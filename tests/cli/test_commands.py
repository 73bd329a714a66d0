import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from command_line import COMPARE, DENSE, SMALL, SWAST, call, done, files_below, results_of, set_up

import sartor.cli.compare
from sartor.cli.list import KINDS
from sartor.recipes.arms import ARMS
from sartor.report import Report


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for `images/`."""
    return set_up(tmp_path, monkeypatch)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare without drawing the report, which takes longer than the runs."""
    monkeypatch.setattr(sartor.cli.compare, "write_report", lambda *_: Report([], "verdict", []))


def test_flags_come_on_top_of_a_yaml_file(place: Path) -> None:
    lines = ["data: mnist", "root: images", "model: cnn(width=2)", "batch_size: 32", "epochs: 9", "fraction: 0.3"]
    lines += ["every: 2", "pruner: rigl(every=3)", "selector: moderate(center=mean)", "warmup: null", "lr: 5e-2"]
    lines += ["channels-last: false", "out: from-yaml"]
    (place / "options.yaml").write_text("\n".join(lines) + "\n")
    done("train", "swast", "--config", "options.yaml", "--epochs", "4", "--out", "a")
    done(*SWAST, "--selector", "moderate(center=mean)", "--no-channels-last", "--out", "b")
    assert not (place / "from-yaml").exists()
    assert results_of(place / "a")["digest"] == results_of(place / "b")["digest"]
    assert (place / "a" / "config.json").read_bytes() == (place / "b" / "config.json").read_bytes()
    (place / "empty.yaml").write_text("# nothing\n")
    done(*SWAST, "--config", "empty.yaml", "--dry-run")


def test_a_list_in_yaml_is_several_words(place: Path) -> None:
    (place / "options.yaml").write_text("arms: [dense, random]\nnoise: [0.0, 0.5]\nseeds: 2\ndry_run: true\n")
    out = done(*COMPARE, "--config", "options.yaml").out
    assert "all 8 runs" in out
    assert "all 4 runs" in done(*COMPARE, "--config", "options.yaml", "--arms", "dense").out
    assert not (place / "runs").exists()


def test_a_module_in_the_current_folder_can_be_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed command has no current folder on its path; a network there is found all the same."""
    (place / "my_nets.py").write_text(
        "from torch import nn\n\n\ndef flat(classes, input_shape, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))\n"
    )
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", str(place))])
    done(*DENSE, "--model", "my_nets:flat(width=3)", "--out", "run")
    assert results_of(place / "run")["parameters"] == 64 * 3 + 3 + 3 * 10 + 10


def numbers(text: str) -> dict[str, str]:
    """The lines of a dry run by their first word."""
    return {line.split()[0]: line for line in text.splitlines()}


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(place: Path) -> None:
    before = files_below(place)
    lines = numbers(done(*SWAST, "--noise", "0.2", "--out", "run", "--dry-run").out)
    assert files_below(place) == before
    done(*SWAST, "--noise", "0.2", "--out", "run")
    results = results_of(place / "run")
    assert f"{results['n']:,} samples; a subset holds {results['k']:,}" in lines["training"]
    assert f"{results['kept_weights']:,} of {results['parameters']:,}" in lines["weights"]
    assert f"{results['epochs']} epochs, {results['steps']} steps, 2 selections" in lines["epochs,"]
    assert f"{results['flops']:.3g}" in lines["FLOPs"]
    for purpose, flops in results["flops_by_purpose"].items():
        assert f"{purpose} {flops:.3g}" in lines["FLOPs"]
    assert re.search(r"theoretical, 2 per multiply-add", lines["FLOPs"])
    assert re.search(r"about \d+", lines["seconds"])


def test_a_dry_run_of_a_comparison_names_every_arm_and_writes_nothing(place: Path) -> None:
    before = files_below(place)
    out = done(*COMPARE, "--arms", *ARMS, "--seeds", "2", "--dry-run", "--out", "runs").out
    assert files_below(place) == before
    for arm in ARMS:
        assert arm in out.splitlines()
    for word in ("a subset holds", "weights kept", "FLOPs", "steps", "seconds"):
        assert out.count(word) >= len(ARMS)
    assert re.search(rf"all {2 * len(ARMS)} runs, 1 at a time: about \d+ s", out)


def test_list_names_everything_with_a_line_about_it(place: Path) -> None:
    out = done("list").out
    for kind, registry in KINDS.items():
        assert kind in out.splitlines()
        assert len(registry) > 0
        own = done("list", kind).out
        for name in registry:
            assert re.search(rf"(?m)^  {re.escape(name)} +\S.*", out), name
            assert re.search(rf"(?m)^  {re.escape(name)} +\S.*", own), name
    assert done("list", "models", "pruners").out.splitlines()[0] == "models"


def test_help_is_told_everywhere() -> None:
    for words in ((), ("--help",), ("-h",), ("help",), ("train", "--help"), ("list", "--help")):
        assert "usage: sartor" in done(*words).out
    for words in (("train", "swast"), ("train", "dense"), ("compare",), ("report",)):
        with pytest.raises(SystemExit) as ended:
            call(*words, "--help")
        assert ended.value.code == 0
    assert re.fullmatch(r"sartor \d+\.\d+\.\d+\S*", done("--version").out.strip())


@pytest.mark.parametrize(
    "words",
    [
        (*SWAST, "--noise", "0.2", "--seed", "-3", "--selector", "el2n(keep='lowest', balanced=True)"),
        (*SWAST, "--variant", "whole", "--sparsity", "0.5", "--no-channels-last", "--precision", "bf16"),
        (*DENSE, "--sampler", "redraw(every=1)", "--fraction", "0.2", "--save-every", "5"),
        ("train", "dense", *SMALL, "--steps", "11", "--optimizer", "adamw", "--lr", "1e-3"),
    ],
    ids=["swast-noise", "swast-whole", "dense-redraw", "dense-steps"],
)
def test_a_run_prints_the_command_that_repeats_it(place: Path, words: tuple[str, ...]) -> None:
    printed = done(*words, "--out", "first folder").out.splitlines()[0]
    results = results_of(place / "first folder")
    assert results["command"] == printed
    again = shlex.split(printed)
    assert again[0] == "sartor"
    assert again[-2:] == ["--out", "first folder"]
    done(*again[1:-1], "second")
    assert results_of(place / "second")["digest"] == results["digest"]
    assert results_of(place / "second")["flops"] == results["flops"]


@pytest.mark.parametrize(
    ("match", "arms"),
    [("epochs", tuple(ARMS)), ("cost", ("dense", "redrawn", "swast-trim", "prune-only+preserve"))],
    ids=["epochs", "cost"],
)
@pytest.mark.usefixtures("no_report")
def test_every_run_of_a_comparison_holds_the_command_that_repeats_it(
    place: Path, match: str, arms: tuple[str, ...]
) -> None:
    done(*COMPARE, "--arms", *arms, "--seeds", "1", "--noise", "0.2", "--match", match, "--out", "runs")
    folders = [path.parent for path in (place / "runs").rglob("results.json")]
    assert len(folders) == len(arms)
    for number, folder in enumerate(folders):
        results = results_of(folder)
        done(*shlex.split(results["command"])[1:], "--out", f"again-{number}")
        assert results_of(place / f"again-{number}")["digest"] == results["digest"], results["arm"]


def test_a_comparison_ends_with_a_report_and_goes_on_when_it_is_widened(place: Path) -> None:
    words = (*COMPARE, "--arms", "swast-cut", "coreset-only", "--out", "runs")
    first = done(*words, "--seeds", "1")
    assert "[  2/2" in first.out
    assert first.out.strip().endswith("runs/report.html")
    for name in ("report.html", "results.csv", "results.json", "compare.json"):
        assert (place / "runs" / name).stat().st_size > 0
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("*.safetensors")}
    done(*words, "--seeds", "2")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    described = json.loads((place / "runs" / "compare.json").read_text())
    assert described["seeds"] == [0, 1]
    assert shlex.split(described["command"])[:2] == ["sartor", "compare"]
    done("report", "runs", "--out", "elsewhere")
    assert (place / "elsewhere" / "report.html").exists()


@pytest.mark.usefixtures("no_report")
def test_failed_runs_are_named_and_the_others_are_made(place: Path) -> None:
    lost = place / "runs" / "noise-0" / "dense" / "seed-0"
    words = (*COMPARE, "--arms", "dense", "random", "--seeds", "1", "--out", "runs")
    done(*words, "--arms", "random")
    lost.mkdir(parents=True)
    (lost / "thesis.txt").write_text("do not lose me")
    ended = call(*words)
    assert ended.code == 2
    assert re.search(r"dense, noise 0, seed 0: failed: .*is no run folder", ended.out)
    assert re.search(r"^1 of 2 runs failed", ended.message)
    (lost / "thesis.txt").unlink()
    done(*words)


def test_where_every_run_fails_the_message_says_so(place: Path) -> None:
    lost = place / "runs" / "noise-0" / "dense" / "seed-0"
    lost.mkdir(parents=True)
    (lost / "thesis.txt").write_text("do not lose me")
    ended = call(*COMPARE, "--arms", "dense", "--seeds", "1", "--out", "runs")
    assert ended.code == 2
    assert re.search(r"^1 of 1 runs failed", ended.message)


def test_a_finished_run_is_told_not_repeated(place: Path) -> None:
    first = done(*DENSE, "--out", "run").out.splitlines()
    before = files_below(place)
    again = done(*DENSE, "--out", "run").out.splitlines()
    assert files_below(place) == before
    assert [line for line in first if not line.startswith("epoch")][-2:] == again[-2:]
    assert not any(line.startswith("epoch") for line in again)


def test_the_random_state_of_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    done(*DENSE, "--out", "run")
    assert torch.equal(torch.random.get_rng_state(), before)
