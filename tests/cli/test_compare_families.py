"""`sartor compare prunefuse` and `sartor compare drophot`, from flags to the report."""

import csv
import json
from pathlib import Path

import pytest
from command_line import COMPARE, SMALL, done, refused, results_of, set_up

FUSE = ("compare", "prunefuse", *SMALL, "--epochs", "1", "--probe", "0", "--budgets", "24,48", "--targets", "all")
HOT = ("compare", "drophot", *SMALL, "--epochs", "1", "--fraction", "0.3")
OWN = "bald(model='cnn(width=2, dropout=0.5)')"
ARMS = ("active", "random", "prunefuse", OWN)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return set_up(tmp_path, monkeypatch)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_ways_to_ask_for_labels_side_by_side(folder: Path) -> None:
    words = (*FUSE, "--arms", *ARMS, "--seeds", "2", "--out", "runs")
    first = done(*words)
    assert first.out.count(" FLOPs, ") == 2 * len(ARMS)
    listing = json.loads((folder / "runs" / "compare.json").read_text())
    assert (listing["family"], listing["baseline"], listing["random"]) == ("prunefuse", "active", "random")
    assert listing["command"].startswith("sartor compare prunefuse --data mnist")
    runs = {arm: folder / "runs" / "noise-0" / arm / "seed-1" for arm in ARMS[:-1]}
    assert {arm: results_of(run)["recipe"] for arm, run in runs.items()} == {
        "active": "active",
        "random": "active",
        "prunefuse": "prunefuse",
    }
    own = results_of(folder / "runs" / "noise-0" / "bald-model-cnn-width-2-dropout-0.5" / "seed-0")
    assert (own["arm"], own["model"]) == (OWN, "cnn(width=2, dropout=0.5)")
    assert "--model 'cnn(width=2, dropout=0.5)'" in own["command"]
    lines = table(folder / "runs" / "results.csv")
    assert [(line["arm"], line["labelled"]) for line in lines] == [
        (arm, n) for arm in sorted_arms() for n in ("24", "48")
    ]
    for line in lines:
        found = [results_of(run) for run in (folder / "runs").glob(f"noise-0/{line['arm']}/seed-*")]
        targets = [one for result in found for one in result["targets"] if str(one["labelled"]) == line["labelled"]]
        if targets:
            mean = sum(100 * one["test_accuracy"] for one in targets) / len(targets)
            assert float(line["accuracy_mean"]) == pytest.approx(mean)
            assert float(line["flops"]) == pytest.approx(sum(one["flops"] for one in targets) / len(targets))
    page = (folder / "runs" / "report.html").read_text()
    assert "24 labels" in page
    assert "FLOPs of all selectors, choices and targets so far" in page
    assert "Accuracy over labels" in page
    assert "joint" not in page.lower().replace('class="joint"', "").replace("tr.joint", "")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert done(*words).out.count(" FLOPs, ") == 2 * len(ARMS)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def sorted_arms() -> list[str]:
    """The arms in the order of their family."""
    return ["active", "random", OWN, "prunefuse"]


def test_drophot_beside_its_controls(folder: Path) -> None:
    done(*HOT, "--seeds", "2", "--out", "runs")
    lines = table(folder / "runs" / "results.csv")
    assert [line["arm"] for line in lines] == [
        "unpruned",
        "baseline",
        "baseline-matched",
        "random",
        "random-matched",
        "drophot",
    ]
    for line in lines:
        found = [results_of(run) for run in (folder / "runs").glob(f"noise-0/{line['arm']}/seed-*")]
        for name, key in (("trained", "trained_accuracy"), ("pruned", "pruned_accuracy")):
            mean = sum(100 * result[key] for result in found) / len(found)
            assert float(line[f"{name}_accuracy_mean"]) == pytest.approx(mean)
    assert lines[0]["minus_baseline_mean"] != ""
    page = (folder / "runs" / "report.html").read_text()
    for heading in ("before pruning (%)", "after pruning (%)", "after tuning (%)", "minus baseline (pp)"):
        assert heading in page
    assert "DropHot" in page
    found = {line["arm"]: float(line["flops"]) for line in lines}
    assert found["random-matched"] == pytest.approx(found["drophot"], rel=0.05)
    assert found["baseline-matched"] == pytest.approx(found["drophot"], rel=0.05)


@pytest.mark.parametrize(("words", "arms"), [(FUSE, 5), (HOT, 6), (COMPARE, 8)], ids=["prunefuse", "drophot", "swast"])
def test_forecasts_of_all_default_arms(folder: Path, words: tuple[str, ...], arms: int) -> None:
    out = done(*words, "--dry-run", "--seeds", "3").out
    assert f"all {3 * arms} runs" in out
    assert not (folder / "runs").exists()


def test_swast_by_name_is_what_it_is_without(folder: Path) -> None:
    named = ("compare", "swast", *COMPARE[1:])
    assert done(*named, "--dry-run").out.splitlines()[:-1:7] == done(*COMPARE, "--dry-run").out.splitlines()[:-1:7]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "prunfuse"), "Did you mean 'prunefuse'?"),
        (("compare", "active"), "what is compared is 'active'; it must be one of swast, prunefuse, drophot"),
        ((*FUSE, "--match", "cost"), "--match cost is for swast"),
        ((*HOT, "--match", "cost"), "--match cost is for swast"),
        ((*FUSE, "--arms", "svp"), "arm svp needs proxy"),
        ((*FUSE, "--arms", "bald"), "dropout"),
        ((*FUSE, "--arms", "dense"), "arm is 'dense'"),
        ((*FUSE, "--seed", "3"), "--seed"),
        ((*HOT, "--shared", "there"), "--shared"),
        ((*FUSE, "--no-kd"), "a comparison starts from fusion, kd"),
        ((*FUSE, "--arms", "active(model=nosuchnet)"), "nosuchnet"),
    ],
)
def test_what_is_refused_before_anything_runs(folder: Path, words: tuple[str, ...], message: str) -> None:
    assert message in refused(*words)


def test_a_folder_holds_one_family(folder: Path) -> None:
    done(*FUSE, "--arms", "random", "--seeds", "1", "--out", "runs")
    assert "holds a comparison of prunefuse, not of drophot" in refused(*HOT, "--out", "runs")
