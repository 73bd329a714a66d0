from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_pictures import write_folder

from sartor.data.opening import open_data, recognise
from sartor.errors import ConfigError, DataError


def touch(root: Path, name: str) -> Path:
    """Make an empty file, and the folders above it; return the root."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("cat/1.jpg", "dog/2.png"), "imagefolder"),
        (("train/cat/1.jpg", "train/dog/2.png", "val/cat/3.jpg"), "imagefolder"),
        (("wnids.txt", "train/n01/images/1.JPEG", "train/n02/images/1.JPEG"), "tinyimagenet"),
        (("tiny-imagenet-200/wnids.txt",), "tinyimagenet"),
        (("data_batch_1",), "cifar10"),
        (("cifar-10-batches-py/data_batch_1",), "cifar10"),
        (("cifar-10-batches-bin/data_batch_1.bin",), "cifar10"),
        (("train", "test", "meta"), "cifar100"),
        (("cifar-100-python/train",), "cifar100"),
        (("cifar-100-binary/train.bin",), "cifar100"),
        (("MNIST/raw/train-images-idx3-ubyte.gz",), "mnist"),
        (("FashionMNIST/raw/train-images-idx3-ubyte",), "fashion-mnist"),
        (("train.csv", "test.csv", "classes.txt"), "text"),
    ],
)
def test_a_folder_is_told_by_its_files(tmp_path: Path, files: tuple[str, ...], name: str) -> None:
    for file in files:
        touch(tmp_path, file)
    assert recognise(tmp_path) == name


def test_files_are_told_by_their_names_and_columns(tmp_path: Path) -> None:
    files = {
        "a.csv": ("x,label\n1,2\n", "csv"),
        "b.csv": ("path,label\n1,2\n", "manifest"),
        "c.csv": ("ID,Text,label\n1,a b,2\n", "text"),
        "d.csv": ("text,age,label\na,1,2\n", "csv"),
        "e.csv": ("text,path,label\na,1,2\n", "manifest"),
        "f.jsonl": ('{"path": "1", "text": "a", "label": 2}', "manifest"),
        "g.jsonl": ('{"text": "1", "stars": 3, "label": 2}', "text"),
        "h.NPZ": ("", "npz"),
    }
    for name, (text, kind) in files.items():
        (tmp_path / name).write_text(text)
        assert recognise(tmp_path / name) == kind, name


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("notes.txt",), r"no data set that is known; looked for class folders .*wnids\.txt .*data_batch_1"),
        (("a/notes.txt", "b/more.txt"), "no data set that is known"),
        (("train-images-idx3-ubyte",), "of MNIST or of Fashion-MNIST; say which: --data mnist --root"),
        (("raw/train-images-idx3-ubyte.gz",), "say which"),
    ],
)
def test_what_cannot_be_told_says_what_was_looked_for(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for file in files:
        touch(tmp_path, file)
    with pytest.raises(DataError, match=message):
        recognise(tmp_path)


class TestOpenData:
    def test_paths_and_names_with_options(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = write_folder(tmp_path / "pets")
        np.savez(tmp_path / "arrays.npz", inputs=np.zeros((10, 3)), targets=np.arange(10) % 2)
        monkeypatch.chdir(tmp_path)
        by_name = open_data("imagefolder(size=6)", str(root))
        assert by_name.train.input_shape == (3, 6, 6)
        for spec in (str(root), "pets", "./pets", "pets/"):
            assert open_data(spec).train.input_shape == (3, 12, 12)
        assert open_data("arrays.npz").train.input_shape == (3,)
        assert open_data("digits").name == "digits"

    def test_a_name_comes_before_a_folder_of_that_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_folder(tmp_path / "digits")
        monkeypatch.chdir(tmp_path)
        assert open_data("digits").name == "digits"
        assert open_data("./digits").name == "imagefolder"

    def test_own_data_by_module_or_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_own_data.py").write_text(
            "import torch\nfrom sartor.data import Pool, Splits\n"
            "def data(root=None):\n"
            "    pool = Pool.from_arrays(torch.zeros(4, 2), [0, 1, 0, 1])\n"
            "    return Splits(f'mine {root}', pool, pool)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        assert open_data("my_own_data:data", "here").name == "mine here"

    @pytest.mark.parametrize("spec", ["./nowhere", "some/where", "table.csv", "~/no such folder", "list.jsonl"])
    def test_a_path_that_is_not_there(self, tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=r"is not there; --data takes a folder, a file \(\.npz \.csv"):
            open_data(spec)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ConfigError, match=r"no dataset called 'digitz'; known: .* Did you mean 'digits'"):
            open_data("digitz")
        with pytest.raises(ConfigError, match="no option 'sise'"):
            open_data("imagefolder(sise=4)")

    def test_a_root_beside_a_path_and_files_of_other_kinds(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="leave --root out"):
            open_data(str(write_folder(tmp_path / "pets")), "elsewhere")
        with pytest.raises(DataError, match=r"notes\.txt is none of \.npz"):
            open_data(str(touch(tmp_path, "notes.txt") / "notes.txt"))
