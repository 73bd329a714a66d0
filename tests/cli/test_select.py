"""`sartor select`: what it chooses is what the selector chooses from the run as it was; what it writes can be used."""

import csv
import json
import os
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import SMALL, Ended, call, done, refused, results_of, write_images
from safetensors.torch import load_file, save_file

from sartor.cli.main import COMMANDS, main
from sartor.data.opening import open_data
from sartor.history import History
from sartor.recipes.dense import Dense
from sartor.recipes.finished import read_finished
from sartor.recipes.setup import prepare_data
from sartor.registry import SELECTORS
from sartor.scanning import scan

RUN = ("train", "dense", *SMALL, "--epochs", "2", "--noise", "0.2", "--out", "run")
FIFTH = ("--run", "run", "--fraction", "0.2")
PROBE = '''
from dataclasses import dataclass
import torch
from sartor.types import Subset

@dataclass(frozen=True)
class Probe:
    """Keeps what it was given, and chooses the first rows."""
    wants: str = "lr"
    members_from: str = "dropout"
    members_count: int = 3

    @property
    def needs(self):
        return frozenset(self.wants.split("+")) | {"targets"}

    def scores(self, scan):
        """Return the row of each sample; higher is later."""
        return scan.rows.double()

    def select(self, scan, k, *, generator):
        seen.append(scan)
        return Subset.of(scan.rows[:k], 1.0 + torch.arange(k))

seen = []

def dropping(classes, input_shape):
    size = 1
    for side in input_shape:
        size *= side
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(size, classes))
'''


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a finished run on them."""
    folder, before = tmp_path_factory.mktemp("template"), Path.cwd()
    write_images(folder / "images")
    (folder / "probe.py").write_text(PROBE)
    try:
        os.chdir(folder)
        done(*RUN)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    folder = tmp_path / "here"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def table(path: str = "coreset.csv") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def described(path: str = "coreset.json") -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def given(wants: str, *more: object) -> Any:
    """The scan that a selector gets from the run which needs some parts."""
    done("select", f"probe.py:Probe(wants='{wants}')", *(more or FIFTH), "--overwrite")
    from sartor.registry import _module

    return _module("probe.py").seen[-1]


class Reader(HTMLParser):
    """Text, images and addresses of a page whose elements are all closed."""

    def __init__(self, path: str = "coreset.html") -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.images, self.addresses = "", [], []
        self.feed(Path(path).read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.images.append(found)
        if tag not in ("meta", "img", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_is_a_command() -> None:
    assert "select" in COMMANDS


def test_help_names_every_selector(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["select", "--help"])
    assert not end.value.code
    firsts = {word for line in capsys.readouterr().out.splitlines() for word in line.split()[:1]}
    assert set(SELECTORS) <= firsts


@pytest.mark.parametrize("spec", ["el2n(keep=lowest)", "gradmatch", "moderate"])
def test_the_choice_is_that_of_the_selector_on_the_run_as_it_was(spec: str) -> None:
    done("select", spec, *FIFTH)
    splits = open_data("mnist", "images")
    pool = prepare_data(Dense(epochs=2, noise=0.2, batch_size=32), splits.train, None).train
    found, selector = read_finished(Path("run")), SELECTORS.build(spec)
    state = load_file("run/model.safetensors")
    assert all(torch.equal(state[name], value) for name, value in found.model.state_dict().items())
    subset = selector.select(scan(found.model, pool, needs=selector.needs), 43, generator=torch.Generator())
    rows = table()
    assert [int(line["row"]) for line in rows] == subset.rows.tolist()
    assert [line["id"] for line in rows] == pool.ids_of(subset.rows)
    assert [int(line["label"]) for line in rows] == pool.targets_of(subset.rows).tolist()
    assert [float(line["weight"]) for line in rows] == pytest.approx(subset.weights.tolist(), rel=1e-4)
    told = described()
    assert (told["k"], told["n"], told["selector"]) == (43, 216, spec)
    assert told["noise_ratio"] == {
        "all": pytest.approx(pool.noise.ratio(pool.rows)),
        "chosen": pytest.approx(pool.noise.ratio(subset.rows)),
    }
    assert told["classes"]["chosen"] == torch.bincount(pool.targets_of(subset.rows), minlength=10).tolist()
    assert sum(told["classes"]["all"]) == 216


def test_it_is_charged_for_the_look_and_for_the_choice() -> None:
    done("select", "gradmatch", *FIFTH)
    costs = described()["costs"]["by_purpose"]
    run = results_of(Path("run"))
    assert costs["scan"]["forward"] == 216
    assert costs["scan"]["flops"] == pytest.approx(run["full_epoch_flops"] / 3)
    assert costs["select"]["flops"] > 0
    done("select", "random", *FIFTH)
    costs = described()["costs"]["by_purpose"]
    assert costs["scan"]["flops"] == costs["scan"]["forward"] == 0


def test_what_was_held_out_is_never_chosen() -> None:
    done("select", "random", "--run", "run", "--fraction", "1")
    held = {name for name, _ in [(line["id"], 0) for line in table()]} ^ set(open_data("mnist", "images").train.ids)
    assert len(held) == 24
    assert given("validation+logits").validation.rows.tolist() == sorted(int(name.split("/")[1]) for name in held)


def test_the_parts_of_the_scan_are_those_of_the_run() -> None:
    seen = given("lr+progress+validation+logits+features+gradient_norms")
    assert (seen.lr, seen.progress, len(seen.validation)) == (0.05, 1.0, 24)
    assert seen.validation.logits.shape == (24, 10)
    assert seen.features.shape == (216, 16)
    assert bool((seen.gradient_norms > 0).all())
    costs = described()["costs"]["by_purpose"]["scan"]
    assert (costs["forward"], costs["trained"]) == (240, 216)
    assert given("lr", *FIFTH, "--lr", "0.3").lr == pytest.approx(0.3)
    with pytest.raises(KeyError):
        seen.parts["history"]


def test_members_are_passes_with_dropout_as_many_as_the_selector_wants() -> None:
    done("train", "dense", *SMALL[:4], "--model", "probe.py:dropping", "--epochs", "1", "--out", "drop")
    seen = given("members", "--run", "drop", "--k", "5")
    assert len(seen.members) == 3
    assert not torch.equal(seen.members[0].logits, seen.members[1].logits)
    assert described()["costs"]["by_purpose"]["scan"]["forward"] == 3 * 216
    assert "Sequential" not in described()["source"]["model"]


def test_the_history_of_the_run_is_read_where_it_kept_one() -> None:
    assert re.search(r"needs history, which the run did not keep; .*--record", refused("select", "forgetting", *FIFTH))
    rows = read_finished(Path("run")).pools.train.rows
    history, draws = History(rows), torch.Generator().manual_seed(0)
    for _ in range(5):
        history.visit(rows, torch.randn(len(rows), 10, generator=draws), torch.zeros(len(rows), dtype=torch.int64))
    save_file(history.state_dict(), "run/history.safetensors")
    done("select", "forgetting(keep=highest)", *FIFTH)
    scores = {int(line["row"]): float(line["score"]) for line in table()}
    never = float(history.forgotten.max()) + 1
    events = [never if right == 0 else count for count, right in zip(history.forgotten.tolist(), history.times_right)]
    assert scores == {row: events[rows.tolist().index(row)] for row in scores}
    assert min(scores.values()) >= sorted(events)[-len(scores)]
    assert described()["costs"]["by_purpose"]["scan"]["flops"] == 0


def test_the_command_that_is_printed_trains_on_the_coreset_with_its_weights() -> None:
    out = done("select", "gradmatch", *FIFTH, "--out", "my set.csv").out
    line = out.splitlines()[-1]
    assert line == described("my set.json")["commands"]["Train on it as the run did"]
    done(*shlex.split(line)[1:], "--out", "again")
    kept = json.loads(Path("again/subsets/epoch-0000.json").read_text())
    rows = table("my set.csv")
    assert kept["ids"] == [line["id"] for line in rows]
    assert kept["weights"] == pytest.approx([float(line["weight"]) for line in rows])
    assert results_of(Path("again"))["epochs"] == 2
    assert re.search(r"the training data lack|other samples", call(*shlex.split(line)[1:], "--seed", "1").message)
    assert re.search(r"tells other labels of", call(*shlex.split(line)[1:], "--noise", "0").message)


def test_the_same_seed_gives_the_same_file_and_its_own_command_repeats_it() -> None:
    files = []
    for seed in ("4", "4", "5"):
        done("select", "random", *FIFTH, "--seed", seed)
        files.append(Path("coreset.csv").read_bytes())
    assert files[0] == files[1] != files[2]
    done(*shlex.split(described()["commands"]["Choose it again"])[1:])
    assert Path("coreset.csv").read_bytes() == files[2]


def test_weights_of_a_network_choose_from_all_training_data() -> None:
    where = ("--data", "mnist", "--root", "images", "--k", "30")
    done("select", "el2n", *where, "--model", "cnn(width=2)", "--weights", "run/model.safetensors")
    found = read_finished(Path("run"))
    pool, selector = open_data("mnist", "images").train, SELECTORS.build("el2n")
    subset = selector.select(scan(found.model, pool, needs=selector.needs), 30, generator=torch.Generator())
    assert [int(line["row"]) for line in table()] == subset.rows.tolist()
    assert described()["noise_ratio"] is None
    assert "Train on it as the run did" not in described()["commands"]
    assert len(done("select", "random", *where).out.splitlines()) == 6


def test_data_and_network_can_be_named_anew() -> None:
    Path("images").rename("elsewhere")
    message = refused("select", "el2n", *FIFTH)
    assert "images" in message
    assert "--root" in message
    done("select", "el2n", *FIFTH, "--root", "elsewhere")
    assert "--root elsewhere" in described()["commands"]["Train on it as the run did"]
    write_images(Path("elsewhere"), train=250)
    assert re.search(
        r"training data are not those of run \(225 samples, it had 216\)",
        refused("select", "el2n", *FIFTH, "--root", "elsewhere"),
    )


def test_a_run_that_was_made_from_python_says_what_to_name() -> None:
    splits = open_data("mnist", "images")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    Dense(epochs=1, batch_size=32).fit(model, splits.train, splits.test, out="own", augment=splits.augment)
    asked = ("select", "el2n", "--run", "own", "--k", "10")
    assert re.search(r"own does not name its data and network.*--data and --model", refused(*asked))
    data = ("--data", "mnist", "--root", "images")
    assert re.search(r"network of own cannot be made again by its name 'Sequential'.*--model", refused(*asked, *data))
    assert re.search(
        r"weights in own/model.safetensors do not fit lenet|needs 16", refused(*asked, *data, "--model", "lenet")
    )
    Path("mine.py").write_text(
        "import torch\ndef make(classes, input_shape):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))\n"
    )
    done(*asked, *data, "--model", "mine.py:make")
    assert len(table()) == 10


def test_a_run_that_cannot_be_read_is_refused() -> None:
    asked = ("select", "el2n", "--k", "10", "--run")
    assert re.search(r"^images is no run folder", refused(*asked, "images"))
    state = load_file("run/model.safetensors")
    save_file({name: value + 1 for name, value in state.items()}, "run/model.safetensors")
    assert re.search(r"^model.safetensors in run is damaged", refused(*asked, "run"))
    Path("run/SHA256SUMS").unlink()
    assert re.search(r"is not the one that results.json tells of", refused(*asked, "run"))
    Path("run/results.json").unlink()
    assert re.search(r"the run in run is not finished", refused(*asked, "run"))


def test_the_page_shows_classes_pictures_and_the_score() -> None:
    done("select", "probe.py:Probe", *FIFTH)
    page, told = Reader(), described()
    for label in range(10):
        assert f"{told['classes']['chosen'][label]} of {told['classes']['all'][label]}" in page.text
    assert "The row of each sample; higher is later." in page.text
    assert "43 of 216 samples of mnist" in page.text
    assert told["commands"]["Choose it again"] in page.text
    assert "worth 33 equal ones" in page.text  # weights 1 .. 43: (sum w)^2 / sum w^2 = 3 * 43 * 44 / (2 * 87)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.images) == sum(
        min(7, part)
        for taken, of in zip(told["classes"]["chosen"], told["classes"]["all"])
        for part in (taken, of - taken)
    )
    assert re.fullmatch(r"train/\d{5}, score \d+, weight [\d.]+(, its label was made wrong)?", page.images[0]["title"])
    wrong = [image for image in page.images if "wrong" in image["class"]]
    assert len(wrong) == sum("its label was made wrong" in image["title"] for image in page.images) > 0
    text = Path("coreset.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_without_a_score_the_page_tells_losses_and_without_a_network_neither() -> None:
    done("select", "gradmatch", *FIFTH)
    assert "The selector ranks by no single number" in Reader().text
    assert "score" not in table()[0]
    done("select", "random", *FIFTH)
    page = Reader()
    assert "Where along" not in page.text
    assert page.images


def embeddings(n: int = 90) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    targets = draws.integers(0, 3, n)
    logits = draws.normal(size=(n, 3)).astype(np.float32)
    ids = np.array([f"s{number:03d}" for number in draws.permutation(n)])
    return {"logits": logits, "features": np.repeat(logits, 2, axis=1), "targets": targets, "ids": ids}


@pytest.mark.parametrize("spec", ["el2n", "gradmatch", "moderate", "random", "random(balanced=True)"])
def test_arrays_in_a_file_a_folder_or_another_order_give_the_same_coreset(spec: str) -> None:
    arrays, order = embeddings(), np.random.default_rng(1).permutation(90)
    np.savez("a.npz", **arrays, class_names=["cat", "dog", "a <b> & c"])
    np.savez("b.npz", **{name: array[order] for name, array in arrays.items()})
    Path("c").mkdir()
    for name, array in arrays.items():
        np.save(f"c/{name}.npy", array[order[::-1]])
    files = []
    for place in ("a.npz", "b.npz", "c"):
        done("select", spec, "--embeddings", place, "--k", "30", "--out", "arrays.csv")
        files.append(Path("arrays.csv").read_bytes())
    assert files[0] == files[1] == files[2]
    labels = dict(zip(arrays["ids"], arrays["targets"]))
    rows = table("arrays.csv")
    assert len({line["id"] for line in rows}) == 30
    assert all(int(line["label"]) == labels[line["id"]] and line["id"] == f"s{int(line['row']):03d}" for line in rows)
    done("select", spec, "--embeddings", "a.npz", "--k", "30", "--out", "arrays.csv")
    page = Reader("arrays.html")
    assert not page.images
    assert "a <b> & c" in page.text


def test_arrays_without_labels_or_ids_will_do_for_a_selector_without_labels() -> None:
    np.savez("a.npz", features=np.eye(6))
    done("select", "random", "--embeddings", "a.npz", "--k", "2")
    assert list(table()[0]) == ["id", "row", "weight"]
    assert "all samples" in Reader().text
    assert described()["classes"] is None


def test_a_file_of_another_kind_is_not_overwritten() -> None:
    for name in ("coreset.csv", "coreset.json", "coreset.html"):
        Path(name).write_text("something else")
        assert re.search(
            rf"^{name} is there and no coreset of sartor select; .*--overwrite", refused("select", "random", *FIFTH)
        )
        Path(name).unlink()
    Path("coreset.csv").write_text("something else")
    done("select", "random", *FIFTH, "--overwrite")
    done("select", "random", *FIFTH, "--page", "look.html")
    assert Path("look.html").exists()


MODEL = ("--data", "mnist", "--root", "images", "--model", "cnn(width=2)", "--weights", "run/model.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"^name a selector: .*known: .*el2n"),
        (("el2", *FIFTH), r"no selector called 'el2'.*Did you mean 'el2n'"),
        (("el2n(kep=lowest)", *FIFTH), r"Did you mean 'keep'"),
        (("el2n", "--run", "run"), r"give --k or --fraction, one of them"),
        (("el2n", *FIFTH, "--k", "3"), r"give --k or --fraction, one of them"),
        (("el2n", "--run", "run", "--fraction", "1.5"), r"^fraction is 1\.5; .*Did you mean 0\.15"),
        (("el2n", "--run", "run", "--fraction", "0.001"), r"fraction 0\.001 of 216 samples is k = 0"),
        (("el2n", "--run", "run", "--k", "217"), r"^k is 217; it must lie in \[1, 216\]"),
        (("gradmatch", "--run", "run", "--k", "9"), r"^k is 9, but gradmatch needs 1 of each of the 10 classes"),
        (("el2n", "--k", "3"), r"^say what to choose from"),
        (("el2n", *FIFTH, "--embeddings", "a.npz"), r"^say what to choose from"),
        (("el2n", *FIFTH, "--weights", "run/model.safetensors"), r"^weights has no effect on a choice from run"),
        (("el2n", "--embeddings", "a.npz", "--k", "3", "--root", "images"), r"^root has no effect .* from embeddings"),
        (("el2n", "--embeddings", "a.npz", "--k", "3", "--device", "cpu"), r"^device has no effect"),
        (
            ("el2n", *MODEL[:4], "--k", "3"),
            r"^el2n needs logits, which nothing brings without a network; give --run, or",
        ),
        (("el2n", *MODEL[:6], "--k", "3"), r"^--model and --weights go together"),
        (("random", *MODEL[:4], "--k", "3", "--head", "x"), r"^head has no effect on a choice from data"),
        (("el2n", *MODEL[:7], "nowhere", "--k", "3"), r"^nowhere cannot be read"),
        (("el2n", *MODEL[:5], "cnn(width=3)", *MODEL[6:], "--k", "3"), r"do not fit cnn\(width=3\) \(size mismatch"),
        (("el2n(keep=switch)", *MODEL, "--k", "3"), r"needs progress, which only a run has; give --run"),
        (("forgetting", *MODEL, "--k", "3"), r"^forgetting needs history, which only a run has"),
        (("probe.py:Probe", *MODEL, "--k", "3"), r"needs lr, which only a run has; give --lr"),
        (("probe.py:Probe(wants=validation)", *MODEL, "--k", "3"), r"needs validation, which only a run has"),
        (("probe.py:Probe(wants=labelled)", *FIFTH), r"needs labelled, which is not known here; give --embeddings"),
        (("probe.py:Probe(wants=gradients)", *FIFTH), r"needs gradients, which is not known here; give --embeddings"),
        (("probe.py:Probe(wants=members)", *FIFTH), r"has no dropout"),
        (("probe.py:Probe(wants=members, members_from=snapshots)", *FIFTH), r"are snapshots of a training and unknown"),
        (("el2n", *FIFTH, "--lr", "0.1"), r"^lr has no effect on el2n"),
        (("el2n", *FIFTH, "--out", "coreset.txt"), r"^out is coreset\.txt; it must end with \.csv"),
        (("el2n", *FIFTH, "--out", "no/coreset.csv"), r"^the folder of no/coreset\.csv is not there"),
        (("el2n", *FIFTH, "--page", "coreset.json"), r"^page is coreset\.json"),
        (("el2n", *FIFTH, "--page", "images"), r"^images is there and no coreset"),
        (("el2n", *FIFTH, "--threads", "0"), r"^threads is 0"),
        (("el2n", *FIFTH, "--batch-size", "0"), r"^batch_size is 0"),
        (("el2n", *FIFTH, "--workers", "-1"), r"^workers is -1"),
        (("el2n", *FIFTH, "--head", "nothing"), r"^head has no effect on el2n, which reads no features"),
        (("moderate", *FIFTH, "--head", "nothing"), r"^head is 'nothing'"),
        (("el2n", *FIFTH, "--fracton", "0.5"), r"Did you mean: --fraction"),
        (("el2n", "--embeddings", "nowhere.npz", "--k", "3"), r"^nowhere\.npz is not there"),
        (("el2n", "--embeddings", "images", "--k", "3"), r"^images holds no npy file"),
        (
            ("moderate", "--embeddings", "a.npz", "--k", "3"),
            r"needs features, which a\.npz does not hold; add features",
        ),
    ],
)
def test_wrong_words_are_one_line(words: tuple[str, ...], message: str) -> None:
    np.savez("a.npz", logits=np.eye(9, 3), targets=np.arange(9) % 3)
    assert re.search(message, refused("select", *words))


def test_it_says_what_was_chosen_and_where_it_is() -> None:
    ended: Ended = done("select", "probe.py:Probe", *FIFTH)
    lines = ended.out.splitlines()
    assert lines[0] == "probe.py:Probe chose 43 of 216 samples (19.9 %)"
    assert lines[1] == "weights from 0.045 to 1.95, mean 1: worth 33 equal ones"
    assert re.fullmatch(r"wrong labels: [\d.]+ % of the chosen, 20 % of all", lines[2])
    assert lines[3].endswith("to choose")
    assert {"coreset.csv", "coreset.json", "coreset.html"} <= set(lines)
