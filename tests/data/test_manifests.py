from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_pictures import KINDS, write_folder

from sartor.data.folders import imagefolder
from sartor.data.manifests import manifest
from sartor.data.opening import open_data
from sartor.errors import DataError
from sartor.registry import DATASETS

Rows = list[dict[str, Any]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """The pictures of a folder as records; the manifest lies beside it."""
    write_folder(tmp_path / "pets")
    return [{"path": f"pets/{kind}/{number:03d}.png", "label": kind} for kind in KINDS for number in range(10)]


def write(folder: Path, rows: Rows, kind: str) -> Path:
    path = folder / f"list.{kind}"
    if kind == "csv":
        names = list(rows[0])
        lines = [",".join(names), *(",".join(str(row[name] or "") for name in names) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
class TestBothKinds:
    def test_pictures_are_those_of_the_folder(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        made = manifest(write(tmp_path, rows[::-1], kind))
        folder = imagefolder(tmp_path / "pets")
        assert made.train.ids == tuple(f"pets/{name}" for name in folder.train.ids)
        assert made.train.class_names == KINDS
        assert torch.equal(made.train.inputs, folder.train.inputs)  # type: ignore[arg-type]
        assert torch.equal(made.train.targets, folder.train.targets)  # type: ignore[arg-type]
        assert (len(made.train), len(made.test)) == (24, 6)
        streamed = DATASETS.build("manifest(streamed=true)", root=tmp_path / f"list.{kind}")
        assert streamed.train.fingerprint() == made.train.fingerprint()

    def test_ids_splits_and_absolute_paths(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        for number, row in enumerate(rows):
            row |= {"id": f"n{number}", "split": "val" if number % 5 == 0 else "train"}
            row["path"] = str(tmp_path / row["path"])
        made = manifest(write(tmp_path, rows, kind))
        assert sorted(made.test.ids_of(made.test.rows)) == sorted(f"n{number}" for number in range(0, 30, 5))
        assert len(made.train) == 24

    def test_capital_letters_in_names_have_no_effect(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        plain = manifest(write(tmp_path, rows, kind))
        for number, row in enumerate(rows):
            row["ID"], row["Split"] = row["path"], "Test" if number % 5 == 0 else "Train"
        capital = [{name.capitalize(): value for name, value in row.items()} for row in rows]
        made = manifest(write(tmp_path, capital, kind))
        assert made.train.ids == plain.train.ids
        assert made.test.rows.tolist() == list(range(0, 30, 5))
        assert open_data(str(tmp_path / f"list.{kind}")).name == "manifest"

    @pytest.mark.skipif(os.sep != "/", reason="backslashes separate folders here")
    def test_paths_of_another_system_are_explained(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        for row in rows:
            row["path"] = row["path"].replace("/", "\\")
        with pytest.raises(DataError, match=r'such as pets\\cat\\00\d\.png, and none is there; write them with "/"'):
            manifest(write(tmp_path, rows, kind))

    def test_whole_numbers_and_missing_labels(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        for number, row in enumerate(rows):
            row["label"] = None if number == 3 else 9 + number % 2
        made = manifest(write(tmp_path, rows, kind))
        assert made.train.class_names == ("9", "10")
        assert made.train.targets_of(torch.tensor([2, 3, 4])).tolist() == [0, -1, 0]
        assert 3 in made.train.rows.tolist()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"path": "pets/cat/000.png"}, "the path 'pets/cat/000.png' in lines .*; each sample needs its own"),
            ({"path": None}, "has no 'path' in line"),
            ({"path": "pets/gone.png"}, r"1 of 30 pictures cannot be read: pets/gone\.png \(there is no such file\)"),
            ({"path": "pets"}, "cannot be read"),
        ],
    )
    def test_rows_that_cannot_be_are_named(
        self, tmp_path: Path, rows: Rows, kind: str, change: dict[str, Any], message: str
    ) -> None:
        rows[7] |= change
        with pytest.raises(DataError, match=message):
            manifest(write(tmp_path, rows, kind))

    def test_missing_fields_and_a_single_class(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        with pytest.raises(DataError, match=r"has 1 classes \(cat\); at least two"):
            manifest(write(tmp_path, rows[:9], kind))
        with pytest.raises(DataError, match="has path, but no 'label'; a manifest needs path and label"):
            manifest(write(tmp_path, [{"path": row["path"]} for row in rows], kind))

    def test_missing_files_can_be_left_out(self, tmp_path: Path, rows: Rows, kind: str) -> None:
        rows[7]["path"] = "pets/gone.png"
        with pytest.warns(UserWarning, match="1 of 30 pictures cannot be read"):
            made = manifest(write(tmp_path, rows, kind), unreadable="skip")
        assert made.skipped == (("pets/gone.png", "there is no such file"),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'path': 1}", "holds no JSON in line 3"),
        ("[1, 2]", "holds list in line 3; each line is an object"),
        ('{"path": "a"', "holds no JSON in line 3"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, rows: Rows, line: str, message: str) -> None:
    path = write(tmp_path, rows[:2], "jsonl")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        manifest(path)


def test_it_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="manifest needs to know which file"):
        manifest()
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl is empty"):
        manifest(tmp_path / "empty.jsonl")
