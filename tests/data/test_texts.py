from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sartor import Dense
from sartor.cli.inspect import usual_model
from sartor.data import open_data
from sartor.data.texts import ALPHABET, SYMBOLS, characters, text
from sartor.errors import ConfigError, DataError
from sartor.models.build import build_model
from sartor.registry import DATASETS

ROWS = [{"label": ("bad", "good")[n % 2], "text": f"{('Worst', 'Best')[n % 2]} of {n}"} for n in range(20)]


def write_csv(folder: Path, rows: list[dict], separator: str = ",", name: str = "texts.csv") -> Path:
    lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def write_folder(folder: Path, train: str, test: str = "1,a\n2,b\n") -> Path:
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return folder


def test_each_character_has_its_number() -> None:
    assert len(set(ALPHABET)) == 66
    assert SYMBOLS == 69
    assert characters([ALPHABET], 66)[0].tolist() == list(range(3, 69))
    made = characters(["aB 9\n\\é😀", "", "abcdefghij"], 9)
    assert made.dtype == torch.int32
    assert made[0].tolist() == [3, 4, 1, 38, 1, 2, 2, 2, 0]
    assert not made[1].any()
    assert made[2].tolist() == list(range(3, 12))


def test_letters_that_grow_when_made_small_and_halves_of_pairs_are_read_too() -> None:
    assert characters(["İa", "\ud800b"], 4).tolist() == [[11, 2, 3, 0], [2, 4, 0, 0]]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_of_either_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"texts.{kind}"
    if kind == "csv":
        write_csv(tmp_path, ROWS)
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)))
    made = open_data(str(path))
    assert (made.name, len(made.train), len(made.test)) == ("text", 16, 4)
    assert made.train.class_names == ("bad", "good")
    assert made.train.input_shape == (1024,)
    assert torch.equal(made.train.gather(torch.tensor([3])), characters(["best of 3"], 1024))
    assert made.train.targets_of(torch.arange(20)).tolist() == [0, 1] * 10
    assert len(DATASETS.build("text(length=60, test=0.5)", root=path).test) == 10


def test_ids_splits_missing_labels_and_other_names(tmp_path: Path) -> None:
    rows = [
        {
            "ID": f"t{9 - n}",
            "Stars": "" if n == 4 else n % 2 + 1,
            "Review": f"no. {n}",
            "split": ("train", "val")[n > 6],
        }
        for n in range(9)
    ]
    made = text(write_csv(tmp_path, rows, "\t", "a.tsv"), text="review", target="stars", separator="\t", length=8)
    assert made.train.ids == tuple(f"t{n}" for n in range(1, 10))
    assert made.test.ids_of(made.test.rows) == ["t1", "t2"]
    assert made.train.targets_of(torch.arange(9)).tolist() == [0, 1, 0, 1, -1, 1, 0, 1, 0]
    assert torch.equal(made.train.gather(torch.tensor([0])), characters(["no. 8"], 8))


def test_a_folder_of_tables_without_names(tmp_path: Path) -> None:
    write_folder(tmp_path, '"2","Title, one","He said ""no""\\nand left"\n\n"1","Two",""\n', "1,three\n")
    made = open_data(str(tmp_path))
    assert made.name == "text"
    assert made.train.ids == ("test/0000000", "train/0000000", "train/0000001")
    assert made.train.class_names == ("1", "2")
    assert made.train.targets_of(made.train.rows).tolist() == [1, 0]
    lines = ['title, one he said "no"\nand left', "two"]
    assert torch.equal(made.train.gather(made.train.rows), characters(lines, 1024))
    (tmp_path / "classes.txt").write_text("World\nArts\n")
    named = text(tmp_path)
    assert named.train.class_names == ("Arts", "World")
    assert named.train.targets_of(named.train.rows).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("1,a\nx,b\n", r"train.csv has no number of a class and a text in line 2; mend it"),
        ("1,a\n2\n", "no number of a class and a text in line 2"),
        ("1,a\n2, \n", "no number of a class and a text in line 2"),
        ('1,a\n2,"b\n', "is no csv table .*line 2"),
        ("1,a\n3,b\n", r"line 2 has class 3, but classes.txt has 2 lines"),
        ("1,a\n0,b\n", "line 2 has class 0"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, train: str, message: str) -> None:
    write_folder(tmp_path, train)
    (tmp_path / "classes.txt").write_text("World\nArts\n")
    with pytest.raises(DataError, match=message):
        text(tmp_path)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = write_csv(tmp_path, ROWS)
    with pytest.raises(DataError, match=r"has label, text, but no 'body'; say which field is meant with text=NAME"):
        text(path, text="body")
    with pytest.raises(DataError, match="name it with --root FILE"):
        text()
    with pytest.raises(DataError, match="has no 'text' in line 3; fill it in"):
        text(write_csv(tmp_path, [*ROWS[:1], {"label": "bad", "text": ""}, *ROWS[1:]]))
    with pytest.raises(DataError, match=r"has 1 classes \(bad\); at least two are needed"):
        text(write_csv(tmp_path, ROWS[::2]))


def test_options_that_have_no_effect_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "1,a\n2,b\n")
    lines = tmp_path / "texts.jsonl"
    lines.write_text("\n".join(map(json.dumps, ROWS)))
    for root, options, message in (
        (folder, {"text": "title"}, "text is 'title', but the tables in .* name no fields; leave it out"),
        (folder, {"target": "class"}, "target is 'class', but"),
        (folder, {"separator": ";"}, "separator is ';', but .* no table of that kind"),
        (lines, {"separator": ";"}, "separator is ';', but"),
        (lines, {"length": 0}, "length is 0; it must be at least 1 character"),
    ):
        with pytest.raises(ConfigError, match=message):
            text(root, **options)


def test_a_look_at_texts_prices_a_network_that_reads_them(tmp_path: Path) -> None:
    assert usual_model(text(write_csv(tmp_path, ROWS))) == "vdcnn9"


def test_a_network_learns_from_texts(tmp_path: Path) -> None:
    made = text(write_csv(tmp_path, ROWS), length=60)
    model = build_model("vdcnn9(width=4, hidden=8)", classes=2, input_shape=made.train.input_shape, seed=0)
    done = Dense(epochs=8, batch_size=4, lr=0.02).fit(model, made.train, made.test)
    assert done.results["test_accuracy"] == 1
