"""`--preset NAME` gives values that a file and flags override."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import SMALL, done, refused, results_of, set_up

from sartor.cli import main
from sartor.cli.options import take_option
from sartor.errors import ConfigError
from sartor.recipes.presets import PRESETS

PRESET = "swast/prune-rates"
SHORT = ("--epochs", "4", "--fraction", "0.3", "--every", "2", "--pruner", "rigl(every=3)")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return set_up(tmp_path, monkeypatch)


def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_flags_override_a_preset_and_the_rest_is_its(place: Path) -> None:
    done("train", "swast", "--preset", PRESET, *SMALL, *SHORT, "--out", "a")
    done("train", f"--preset={PRESET}", *SMALL, *SHORT, "--out", "without-recipe")
    explicit = ("--selector", "moderate", "--noise", "0.1", "--sparsity", "0.9")
    done("train", "swast", *SMALL, *SHORT, *explicit, "--out", "b")
    assert config(place / "a") == config(place / "b") == config(place / "without-recipe")
    assert results_of(place / "a")["digest"] == results_of(place / "b")["digest"]
    again = results_of(place / "a")["command"]
    assert "--preset" not in again
    assert "--noise 0.1" in again


def test_a_file_overrides_a_preset_and_flags_override_both(place: Path) -> None:
    (place / "options.yaml").write_text("noise: 0.2\nsparsity: 0.5\n")
    words = (*SMALL, *SHORT, "--config", "options.yaml", "--sparsity", "0.4", "--out", "run")
    done("train", "swast", *words, "--preset", PRESET)
    found = config(place / "run")
    assert (found["noise"], found["sparsity"], found["selector"]) == (0.2, 0.4, "moderate")


def test_a_comparison_takes_a_preset_too(place: Path) -> None:
    out = done("compare", "--preset", PRESET, *SMALL, *SHORT, "--arms", "dense", "swast-cut", "--dry-run").out
    assert "all 10 runs" in out, "five seeds of two arms, at the preset's one level of noise"
    assert re.search(r"weights kept .*\(1\d\.\d %\)", out), "sparsity 0.9"


def test_they_are_listed_with_their_data_and_model() -> None:
    lines = done("list", "presets").out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert lines[0].endswith("Wan et al. 2025, Table 1, GradMatch; data cifar10, model resnet18")


def test_networks_of_other_packages_and_ones_own_are_listed() -> None:
    out = done("list", "models").out
    for name in ("timm:NAME", "torchvision:NAME", "package.module:NAME"):
        assert re.search(rf"(?m)^  {re.escape(name)} +\S.*", out), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "swast", "--preset", "swast/cifar10-resnt18"), "Did you mean 'swast/cifar10-resnet18'"),
        (("train", "--preset", "swast/cifar10-resnt18"), "Did you mean 'swast/cifar10-resnet18'"),
        (("train", "dense", "--preset", PRESET), f"preset '{PRESET}' is for swast, not for dense"),
        (("train", "swast", "--preset"), "--preset needs a name; write --preset NAME"),
        (("train", "swast", "--preset", PRESET, f"--preset={PRESET}"), "--preset is given 2 times"),
        (("train", "swast", "--config", "a.yaml", "--config", "b.yaml"), "--config is given 2 times"),
        (("report", "--preset", PRESET), "Unrecognized options: --preset"),
        (("train", "swast", "--preset", PRESET, "--epochs", "two"), "--epochs"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], message: str) -> None:
    assert message in refused(*words)


def test_options_are_taken_out_in_both_forms() -> None:
    assert take_option(["a", "--x", "1", "b"], "--x", "name") == (["a", "b"], "1")
    assert take_option(["a", "--x=1=2", "--xy", "b"], "--x", "name") == (["a", "--xy", "b"], "1=2")
    assert take_option(["--y"], "--x", "name") == (["--y"], None)
    with pytest.raises(ConfigError, match="--x needs a name"):
        take_option(["--x"], "--x", "name")


@pytest.mark.parametrize("words", [("train", "swast"), ("compare",)])
def test_help_tells_of_presets(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert "--preset NAME" in capsys.readouterr().out
