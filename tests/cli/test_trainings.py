import json
from pathlib import Path

import pytest
from command_line import COMPARE, DENSE, SWAST, done, refused, set_up

from sartor.recipes.training import TRAININGS

STRONG = TRAININGS["strong"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for `images/`."""
    return set_up(tmp_path, monkeypatch)


def config(folder: str) -> dict:
    """The options that a run was made with."""
    return json.loads(Path(folder, "config.json").read_text())


def test_a_training_stands_for_its_values_which_flags_override() -> None:
    done(*DENSE, "--out", "plain")
    done(*DENSE, "--training", "paper", "--out", "paper")
    done(*DENSE, "--training=strong", "--out", "strong")
    done(*DENSE, "--lr", "0.03", "--training", "strong", "--schedule", "cosine", "--out", "mixed")
    plain, strong, mixed = (config(folder) for folder in ("plain", "strong", "mixed"))
    assert config("paper") == plain
    assert {name for name in plain if plain[name] != strong[name]} == {
        name for name in STRONG if plain[name] != STRONG[name]
    }
    assert {name: strong[name] for name in STRONG} == dict(STRONG)
    assert mixed == {**strong, "lr": 0.03, "schedule": "cosine"}
    assert "training" not in strong


def test_the_command_in_the_results_names_the_values_and_gives_the_same_run() -> None:
    done(*SWAST, "--training", "strong", "--out", "run")
    command = json.loads(Path("run/results.json").read_text())["command"]
    assert "--schedule one-cycle" in command
    assert "--training" not in command
    again = [word.strip("'\"") for word in command.split()[1:]]
    assert done(*again).out.splitlines()[-1] == "run", "the folder belongs to this very command"


def test_a_file_may_name_a_training_and_override_it(place: Path) -> None:
    (place / "options.yaml").write_text("training: strong\nlr: 0.07\n")
    done(*DENSE, "--config", "options.yaml", "--out", "file")
    assert {name: config("file")[name] for name in STRONG} == {**STRONG, "lr": 0.07}
    done(*DENSE, "--config", "options.yaml", "--training", "paper", "--out", "flag")
    assert (config("flag")["schedule"], config("flag")["lr"]) == ("cosine", 0.07)


def test_a_training_overrides_a_preset_and_a_file_overrides_both(place: Path) -> None:
    """What the training does not name stays as it was published."""
    (place / "options.yaml").write_text("label_smoothing: 0.3\n")
    words = ("train", "--preset", "swast/cifar10-resnet18", "--training", "strong", "--config", "options.yaml")
    done(*words, *SWAST[2:], "--selector", "moderate", "--out", "run")
    made = config("run")
    assert {name: made[name] for name in STRONG} == {**STRONG, "label_smoothing": 0.3}
    assert (made["variant"], made["preserve_weight"], made["epochs"]) == ("cut", 0.1, 4)


def test_a_comparison_trains_all_arms_so() -> None:
    done(*COMPARE, "--training", "strong", "--seeds", "1", "--arms", "dense", "swast-cut", "--out", "runs")
    runs = sorted(Path("runs").glob("noise-0/*/seed-0"))
    assert len(runs) == 2
    for run in [*runs, None]:
        made = json.loads(Path("runs/compare.json").read_text())["options"] if run is None else config(str(run))
        assert {name: made[name] for name in STRONG} == dict(STRONG)


def test_what_is_refused() -> None:
    assert "Did you mean 'strong'" in refused(*DENSE, "--training", "strng", "--out", "run")
    assert "--training needs a name" in refused(*DENSE, "--out", "run", "--training")
    assert "given 2 times" in refused(*DENSE, "--training", "strong", "--training", "paper", "--out", "run")
    assert "peak_at is for schedule one-cycle" in refused(*DENSE, "--peak-at", "0.3", "--out", "run")
