from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sartor.data.formats import Splits, digits
from sartor.data.idx import read_idx
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, *, packed: bool, n: int = 12) -> Path:
    """Write the four files with made-up images: image i is filled with 10 i, its label is i modulo 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", n), ("t10k", 5)):
        values = (10 * np.arange(count)).astype(np.uint8)
        images = np.broadcast_to(values[:, None, None], (count, 6, 7))
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            content = idx_bytes(np.ascontiguousarray(array))
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


class TestDigits:
    def test_the_split_is_fixed_and_stratified(self) -> None:
        made = digits()
        assert (len(made.train), len(made.test)) == (1297, 500)
        assert made.test.class_counts().tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
        assert not {name.removeprefix("train/") for name in made.train.ids} & {
            n.removeprefix("test/") for n in made.test.ids
        }
        assert made.test.ids[:4] == ("test/00000", "test/00008", "test/00010", "test/00015")
        assert made.train.class_names == tuple("0123456789")
        assert made.train.input_shape == (1, 8, 8)
        assert not made.augment

    def test_images_are_scikit_learns(self) -> None:
        from sklearn.datasets import load_digits

        table, made = load_digits(), digits()
        assert isinstance(made.test.inputs, torch.Tensor)
        for row in (0, 250, 499):
            source = int(made.test.ids[row].removeprefix("test/"))
            assert np.array_equal(np.rint(made.test.inputs[row, 0].numpy() / 255 * 16), table.images[source])
            assert made.test.targets_of(torch.tensor([row])).item() == table.target[source]
        assert int(made.train.inputs.max()) == 255  # type: ignore[union-attr]

    def test_training_images_come_out_standardised(self) -> None:
        made = digits()
        assert made.train.preprocess == made.test.preprocess
        batch = made.train.gather(made.train.rows)
        assert isinstance(batch, torch.Tensor)
        torch.testing.assert_close(batch.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(batch.std(), torch.tensor(1.0), atol=1e-3, rtol=0)

    def test_a_missing_scikit_learn_names_the_cure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(DataError, match=r'pip install "sartor\[digits\]"'):
            digits()

    def test_a_root_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="reads no files"):
            digits(root="somewhere")


class TestIdxSets:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize(
        ("name", "below"),
        [
            ("mnist", "."),
            ("mnist", "raw"),
            ("mnist", "MNIST/raw"),
            ("mnist", "mnist/MNIST/raw"),
            ("fashion-mnist", "FashionMNIST/raw"),
            ("fashion-mnist", "fashion-mnist/FashionMNIST/raw"),
        ],
    )
    def test_files_are_found(self, tmp_path: Path, name: str, below: str, packed: bool) -> None:
        write(tmp_path / below, packed=packed)
        made: Splits = DATASETS.build(name, root=tmp_path)
        assert (len(made.train), len(made.test), made.train.classes) == (12, 5, 10)
        assert made.train.ids[10:] == ("train/00010", "train/00011")
        assert made.test.ids[0] == "test/00000"
        assert made.train.targets_of(made.train.rows).tolist() == [*range(10), 0, 1]
        assert isinstance(made.train.inputs, torch.Tensor)
        assert made.train.inputs.shape == (12, 1, 6, 7)
        assert made.train.inputs[:, 0, 5, 6].tolist() == [10 * i for i in range(12)]
        assert made.train.preprocess == made.test.preprocess

    def test_names_of_the_clothes(self, tmp_path: Path) -> None:
        made = DATASETS.build("fashion-mnist", root=write(tmp_path, packed=True))
        assert made.train.class_names is not None
        assert made.train.class_names[9] == "Ankle boot"

    def test_the_other_data_sets_folder_is_not_taken(self, tmp_path: Path) -> None:
        write(tmp_path / "MNIST" / "raw", packed=False)
        with pytest.raises(
            DataError, match=r"there is no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz .*--root"
        ):
            DATASETS.build("fashion-mnist", root=tmp_path)

    def test_without_a_root_the_folder_data_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match="--root"):
            DATASETS.build("mnist")
        write(tmp_path / "data" / "raw", packed=True)
        assert len(DATASETS.build("mnist").train) == 12

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda content: b"\x1f\x8b" + content[2:], "begins with 1f 8b 08 03, not 00 00 08 03"),
            (lambda content: content[:2] + b"\x0d" + content[3:], "begins with 00 00 0d 03"),
            (lambda content: b"", "begins with nothing"),
            (lambda content: content[:9], "ends within its first 16 bytes"),
            (lambda content: content[:-1], r"holds 519 bytes but announces 520 \(shape \(12, 6, 7\)\)"),
            (lambda content: content + b"\0", "holds 521 bytes but announces 520"),
            (lambda content: content[:4] + struct.pack(">I", 11) + content[8:], "holds 520 bytes but announces 478"),
        ],
    )
    def test_damaged_images_name_the_file(self, tmp_path: Path, damage: object, message: str) -> None:
        path = write(tmp_path, packed=False) / "train-images-idx3-ubyte"
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        with pytest.raises(DataError, match=f"train-images-idx3-ubyte {message}"):
            DATASETS.build("mnist", root=tmp_path)

    @pytest.mark.parametrize("keep", [0, 5, 40, -4])
    def test_damaged_archives_name_the_file(self, tmp_path: Path, keep: int) -> None:
        path = write(tmp_path, packed=True) / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz"):
            DATASETS.build("mnist", root=tmp_path)

    def test_changed_archives_name_the_file(self, tmp_path: Path) -> None:
        path = write(tmp_path, packed=True) / "train-labels-idx1-ubyte.gz"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
        with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz"):
            DATASETS.build("mnist", root=tmp_path)

    def test_labels_must_fit_the_images(self, tmp_path: Path) -> None:
        path = write(tmp_path, packed=False) / "train-labels-idx1-ubyte"
        path.write_bytes(idx_bytes(np.zeros(11, dtype=np.uint8)))
        with pytest.raises(DataError, match=r"train-labels-idx1-ubyte has 11 labels for the 12 images"):
            DATASETS.build("mnist", root=tmp_path)

    def test_labels_above_9_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, packed=False) / "t10k-labels-idx1-ubyte"
        path.write_bytes(idx_bytes(np.array([0, 1, 10, 3, 4], dtype=np.uint8)))
        with pytest.raises(
            DataError, match=r"t10k-labels-idx1-ubyte has label 10 at place 2; labels of mnist are 0\.\.9"
        ):
            DATASETS.build("mnist", root=tmp_path)

    def test_images_of_two_sizes_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, packed=False) / "t10k-images-idx3-ubyte"
        path.write_bytes(idx_bytes(np.zeros((5, 3, 3), dtype=np.uint8)))
        with pytest.raises(DataError, match=r"\(6, 7\) to train and \(3, 3\) to test"):
            DATASETS.build("mnist", root=tmp_path)

    def test_labels_are_no_images(self, tmp_path: Path) -> None:
        path = tmp_path / "labels"
        path.write_bytes(idx_bytes(np.zeros(3, dtype=np.uint8)))
        assert read_idx(path, 1).tolist() == [0, 0, 0]
        with pytest.raises(DataError, match="not 00 00 08 03"):
            read_idx(path, 3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "below", "counts", "mean", "std"),
    [
        ("mnist", "mnist/MNIST/raw", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], 0.1307, 0.3081),
        ("fashion-mnist", "fashion-mnist/FashionMNIST/raw", [1000] * 10, 0.2860, 0.3530),
    ],
)
def test_the_real_files(real_data: Path, name: str, below: str, counts: list[int], mean: float, std: float) -> None:
    if not (real_data / below).is_dir():
        pytest.skip(f"{real_data} has no {below}")
    made = DATASETS.build(name, root=real_data)
    assert (len(made.train), len(made.test), made.train.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert made.test.class_counts().tolist() == counts
    assert made.train.preprocess.mean == pytest.approx((mean,), abs=1e-4)
    assert made.train.preprocess.std == pytest.approx((std,), abs=1e-4)
