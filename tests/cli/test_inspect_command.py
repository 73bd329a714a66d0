import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, done, refused, results_of, set_up
from PIL import Image

from sartor.cli.findings import aligned, class_lines, few, group_line, plain
from sartor.data.inspection import Inspection, Part, Sample, Twins

IMAGES = ("inspect", "mnist", "--root", "images", "--model", "cnn(width=2)", "--batch-size", "32")
PLAN = ("--epochs", "4", "--fraction", "0.3", "--every", "2")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for `images/`."""
    return set_up(tmp_path, monkeypatch)


def inspected(*arguments: object) -> dict[str, Any]:
    """What a command writes as JSON."""
    done("inspect", *arguments, "--json", "found.json")
    return json.loads(Path("found.json").read_text())


def write_pictures(folder: Path, count: int = 12) -> Path:
    """Write pictures of two kinds: two are equal, one is blank, one is damaged."""
    for kind, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([kind, number]).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    (folder / "dog" / "copy.png").write_bytes((folder / "cat" / "004.png").read_bytes())
    Image.new("RGB", (12, 12), "white").save(folder / "dog" / "blank.png")
    (folder / "cat" / "damaged.png").write_bytes(b"no picture")
    return folder


def test_counts_values_and_plans_of_images() -> None:
    lines = done(*IMAGES, *PLAN).out.splitlines()
    assert lines[0] == "mnist: 240 train and 60 test samples, 10 classes"
    assert "3         24     6" in lines
    assert "inputs: uint8 (1, 8, 8), images of 8 x 8 pixels, 1 channel" in lines
    assert any(line.startswith("none found: unlabelled samples, missing classes, constant images") for line in lines)
    assert re.fullmatch(r"dense +4 +216 +0 +\S+ +4\.0 +\d+ +0\.0", next(x for x in lines if x.startswith("dense")))


def test_a_plan_costs_what_the_training_costs() -> None:
    recipe = ("--arms", "swast-cut(selector=moderate, pruner='rigl(every=3)')", "dense", "random")
    found = inspected(*IMAGES[1:], *PLAN, *recipe)
    joint, dense, random = found["plans"]
    common = ("--data", *IMAGES[1:], "--epochs", "4", "--seed", "0")
    select = ("--fraction", "0.3", "--every", "2", "--selector", "moderate", "--pruner", "rigl(every=3)")
    done("train", "swast", *common, *select, "--out", "joint")
    done("train", "dense", *common, "--out", "dense")
    for plan, out in ((joint, "joint"), (dense, "dense")):
        results = results_of(Path(out))
        assert plan["flops"] == pytest.approx(results["flops"], rel=1e-9)
        assert (plan["epochs"], plan["k"]) == (results["epochs"], results["k"])
    assert dense["dense_epochs"] == pytest.approx(4)
    assert joint["dense_epochs"] == pytest.approx(4 * joint["flops"] / dense["flops"])
    assert joint["table_bytes"] == 4 * 216 * (10 + 16), "moderate reads 16 features; cut preserves 10 logits"
    assert dense["table_bytes"] == random["table_bytes"] == 0
    assert joint["selections"] == len(list(Path("joint/subsets").glob("*.json")))
    assert min(plan["seconds"] for plan in found["plans"]) > 0


def test_a_folder_of_pictures_and_what_is_wrong_with_it(place: Path) -> None:
    write_pictures(place / "pets")
    ended = call("inspect", "pets", "--json", "found.json", *PLAN)
    assert ended.code == 0, ended.err
    assert re.search(r"(?m)^constant images in (train|test) +1: dog/blank\.png$", ended.out)
    assert re.search(r"(?m)^unreadable files +1: cat/damaged\.png \(no picture that Pillow knows\)$", ended.out)
    groups = r"2 samples, groups 1: \w+ cat/004\.png \(cat\) = \w+ dog/copy\.png \(dog\)"
    assert re.search(rf"(?m)^equal samples of different labels +{groups}$", ended.out)
    found = json.loads((place / "found.json").read_text())
    assert found["skipped"] == [["cat/damaged.png", "no picture that Pillow knows"]]
    assert {sample["id"] for sample in found["twins"][0]["samples"]} == {"cat/004.png", "dog/copy.png"}
    assert found["obstacle"] is None
    assert call("inspect", "imagefolder(unreadable=refuse)", "--root", "pets").code == 2


def test_a_table_is_priced_with_a_network_for_tables(place: Path) -> None:
    rows = [f"{number},{number % 7},{'yes' if number % 2 else 'no'}" for number in range(40)]
    (place / "rows.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    found = inspected("rows.csv", *PLAN)
    assert [plan["arm"] for plan in found["plans"]] == ["dense", "swast-cut"]
    assert found["parts"][0]["values"][0]["shape"] == [2]
    assert "cnn is asked" in refused("inspect", "rows.csv", "--model", "cnn")


def test_data_that_training_refuses_are_inspected_all_the_same(place: Path) -> None:
    inputs = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    labels = np.arange(30) % 3
    labels[[4, 7]] = -1
    np.savez(place / "some.npz", x_train=inputs[:20], y_train=labels[:20], x_test=inputs[20:], y_test=labels[20:])
    out = done("inspect", "some.npz", "--json", "found.json").out
    assert re.search(r"(?m)^unlabelled samples in train +2: train/000004, train/000007$", out)
    assert "training would be refused: 2 of 20 training samples have no label" in out
    found = json.loads((place / "found.json").read_text())
    assert found["plans"] == []
    assert found["obstacle"].startswith("2 of 20 training samples")
    few_samples = done(*IMAGES, "--fraction", "0.01").out
    assert re.search(r"training would be refused: fraction 0\.01 of 216 samples", few_samples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inspect",), r"^name a data set, a folder or a file"),
        (("inspect", "nowhere.csv"), r"nowhere\.csv is not there"),
        (("inspect", "mnits"), r"no dataset called 'mnits'.*Did you mean 'mnist'"),
        ((*IMAGES, "--fraction", "1.5"), r"^fraction is 1\.5; .*Did you mean 0\.15\?"),
        ((*IMAGES, "--arms", "swast-ct"), r"arm is 'swast-ct'; .*Did you mean 'swast-cut'"),
        ((*IMAGES, "--arms", "swast-cut(sparsty=0.5)"), r"Did you mean 'sparsity'"),
        ((*IMAGES, "--model", "cn"), r"no model called 'cn'"),
        ((*IMAGES, "--model", "lenet"), r"needs 16 x 16 or more"),
        ((*IMAGES, "--json", "nowhere/found.json"), r"nowhere/found\.json, whose folder is not there"),
        ((*IMAGES, "--threads", "0"), r"^threads is 0"),
        ((*IMAGES, "--workers", "-1"), r"^workers is -1"),
        ((*IMAGES, "--fracton", "0.5"), r"Did you mean: --fraction"),
    ],
)
def test_wrong_words_are_one_line(words: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused(*words))


def part_of(counts: tuple[int, ...]) -> Part:
    return Part("train", sum(counts), counts, (), (), (), ())


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    counts = tuple(range(100, 160))
    found = Inspection("made", tuple(f"class {number}" for number in range(60)), (part_of(counts),), (), ())
    lines = class_lines(found)
    assert [line.split()[:2] for line in lines[1:6]] == [["class", str(number)] for number in (59, 58, 57, 56, 55)]
    assert lines[6] == "..."
    assert lines[-1].split() == ["class", "0", "100"]
    assert len(lines) == 12


def test_only_a_few_are_shown_of_each_kind() -> None:
    assert few([]) == ""
    assert few(["a", "b"]) == "2: a, b"
    assert few(list("abcdefg")) == "7: a, b, c, d, e, ..."
    samples = tuple(Sample("train", str(number), number % 2) for number in range(8))
    assert group_line(Twins(samples), ("no", "yes")).endswith("train 4 (no) = 3 more")
    assert group_line(Twins(samples[:4:2]), ("no", "yes")) == "train 0 = train 2"
    assert "(unlabelled)" in group_line(Twins((*samples[:2], Sample("test", "9", -1))), ("no", "yes"))


def test_names_that_no_terminal_could_print_are_escaped() -> None:
    assert plain("Katze/süß.png") == "Katze/süß.png"
    assert plain("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert plain("caf\udce9.png") == "caf\\udce9.png"
    assert aligned([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc   d"]


def test_pictures_of_mixed_sizes_are_looked_at_in_one() -> None:
    folder = write_pictures(Path("pictures"))
    Image.new("RGB", (30, 20), "red").save(folder / "dog" / "large.png")
    ended = done("inspect", "pictures", "--json", "found.json")
    assert re.search(r"12 x 12 \(\d+\), 20 x 30 \(1\); bring them to one with .*imagefolder\(size=64\)", ended.err)
    assert "images of 64 x 64 pixels" in ended.out
    assert len(json.loads(Path("found.json").read_text())["skipped"]) == 1
