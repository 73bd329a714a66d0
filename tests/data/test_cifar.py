from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sartor.data import Augment, Splits
from sartor.data.cifar import cifar10
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS


def images_of(part: int, n: int) -> np.ndarray:
    """Made-up pixels, (n, 3072): red lines of the image, then green, then blue."""
    return np.random.default_rng(part).integers(0, 256, (n, 3072), dtype=np.uint8)


def python_2_string(content: bytes) -> bytes:
    """A `str` of Python 2, which is bytes, in protocol 2."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def python_2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle wrote for a dict of strings, numbers, lists and arrays of bytes, opcode by opcode."""
    if isinstance(value, dict):
        items = b"".join(python_2_pickle(key) + python_2_pickle(member) for key, member in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python_2_pickle, value)) + b"e"
    if isinstance(value, str):
        return python_2_string(value.encode("latin1"))
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    rebuilt = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(python_2_pickle, map(int, value.shape))) + b"t"
    return rebuilt + b"(K\x01" + shape + kind + b"\x89" + python_2_string(value.tobytes()) + b"tb"


def batch(value: Any, python: int = 2) -> bytes:
    """A file of one pickled value."""
    return b"\x80\x02" + python_2_pickle(value) + b"." if python == 2 else pickle.dumps(value)


def write_python_10(folder: Path, python: int = 2, n: int = 4) -> Path:
    """Write the six files of CIFAR-10; image i of a batch has label i + batch number modulo 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        content = {
            "batch_label": f"training batch {number} of 5 \xe9",
            "labels": [(i + number) % 10 for i in range(n)],
            "data": images_of(number, n),
            "filenames": [f"{i}.png" for i in range(n)],
        }
        (folder / name).write_bytes(batch(content, python))
    return folder


def write_python_100(folder: Path, n: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("train", "test")):
        labels = [(7 * i + number) % 100 for i in range(n)]
        content = {"data": images_of(number, n), "fine_labels": labels, "coarse_labels": [i // 5 for i in labels]}
        (folder / name).write_bytes(batch(content))
    names = {
        "fine_label_names": [f"fine {i:02d}" for i in range(100)],
        "coarse_label_names": [f"coarse {i}" for i in range(20)],
    }
    (folder / "meta").write_bytes(batch(names))
    return folder


def check_10(made: Splits) -> None:
    assert (len(made.train), len(made.test)) == (20, 4)
    assert made.train.input_shape == (3, 32, 32)
    assert made.train.ids[:2] == ("train/00000", "train/00001")
    assert made.test.ids[3] == "test/00003"
    expected = np.concatenate([images_of(number, 4) for number in range(5)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(made.train.inputs, expected)  # type: ignore[arg-type]
    assert np.array_equal(made.test.inputs, images_of(5, 4).reshape(-1, 3, 32, 32))  # type: ignore[arg-type]
    assert made.train.targets_of(torch.arange(8)).tolist() == [0, 1, 2, 3, 1, 2, 3, 4]
    assert made.train.class_names is not None
    assert made.train.class_names[:3] == ("airplane", "automobile", "bird")
    assert made.augment == Augment(crop=4, flip=True)


class TestOriginalLayouts:
    @pytest.mark.parametrize("python", [2, 3])
    @pytest.mark.parametrize("below", [".", "cifar-10-batches-py"])
    def test_python_batches(self, tmp_path: Path, below: str, python: int) -> None:
        write_python_10(tmp_path / below, python)
        check_10(DATASETS.build("cifar10", root=tmp_path))

    @pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
    def test_binary_batches(self, tmp_path: Path, below: str) -> None:
        (tmp_path / below).mkdir(exist_ok=True)
        for number, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
            labels = (np.arange(4) + number) % 10
            records = np.concatenate([labels[:, None].astype(np.uint8), images_of(number, 4)], axis=1)
            (tmp_path / below / name).write_bytes(records.tobytes())
        check_10(DATASETS.build("cifar10", root=tmp_path))

    @pytest.mark.parametrize("kind", ["fine", "coarse"])
    def test_a_hundred_classes_or_twenty(self, tmp_path: Path, kind: str) -> None:
        write_python_100(tmp_path / "cifar-100-python")
        made = DATASETS.build(f"cifar100(labels={kind})", root=tmp_path)
        fine = [(7 * i) % 100 for i in range(30)]
        assert made.train.targets_of(made.train.rows).tolist() == (fine if kind == "fine" else [i // 5 for i in fine])
        assert made.train.class_names[7] == ("fine 07" if kind == "fine" else "coarse 7")
        assert made.train.classes == made.test.classes == (100 if kind == "fine" else 20)

    @pytest.mark.parametrize("kind", ["fine", "coarse"])
    def test_binary_records_begin_with_the_coarse_label(self, tmp_path: Path, kind: str) -> None:
        for part in ("train", "test"):
            head = np.array([[3, 17], [19, 99]], dtype=np.uint8)
            (tmp_path / f"{part}.bin").write_bytes(np.concatenate([head, images_of(0, 2)], axis=1).tobytes())
        made = DATASETS.build(f"cifar100(labels={kind})", root=tmp_path)
        assert made.train.targets_of(made.train.rows).tolist() == ([17, 99] if kind == "fine" else [3, 19])
        assert np.array_equal(made.train.inputs, images_of(0, 2).reshape(-1, 3, 32, 32))
        assert made.train.class_names[11] == "11"

    def test_what_is_missing_says_where_it_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cifar10: there is none of .*/data_batch_1, .*\.bin; .*--root"):
            DATASETS.build("cifar10", root=tmp_path)
        (write_python_10(tmp_path) / "data_batch_4").unlink()
        with pytest.raises(DataError, match=r"none of .*data_batch_4"):
            DATASETS.build("cifar10", root=tmp_path)
        with pytest.raises(ConfigError, match="labels is 'superfine'"):
            DATASETS.build("cifar100(labels=superfine)", root=tmp_path)


class Hostile:
    """Unpickled by an ordinary unpickler, it runs a shell command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Call:
    """Pickled, it is the call of a function, and then perhaps of its value's __setstate__."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


_RECONSTRUCT = np._core.multiarray._reconstruct
_OWN_FLAGS = (3, "|", None, None, None, -1, -1, 0)


def held(kind: Any, content: Any, shape: Any) -> Call:
    """An array as numpy pickles it, of a kind, content and shape that a hostile file may choose."""
    return Call(_RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, kind, False, content))


class TestHostileAndDamaged:
    def refused(self, root: Path, content: bytes, message: str, name: str = "data_batch_3") -> None:
        write_python_10(root)
        (root / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}.*{message}"):
            cifar10(root)

    def test_a_pickle_that_runs_commands_is_refused_unrun(self, tmp_path: Path) -> None:
        mark = tmp_path / "was-here"
        content = pickle.dumps({"labels": [0], "data": Hostile(mark)}, protocol=2)
        self.refused(tmp_path / "data", content, r"wants to load posix\.system, which no such file needs")
        assert not mark.exists()
        pickle.loads(content)
        assert mark.exists(), "the pickle is harmless, so the test shows nothing"

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            (b"cbuiltins\neval\n", "builtins.eval"),
            (b"c__builtin__\nexec\n", "__builtin__.exec"),
            (b"cnumpy\nload\n", "numpy.load"),
            (b"cnumpy.f2py\ncompile\n", "numpy.f2py.compile"),
            (b"csubprocess\nPopen\n", "subprocess.Popen"),
            (b"cnumpy.core.multiarray\nndarray.__class__\n", "numpy.core.multiarray.ndarray.__class__"),
        ],
    )
    def test_nothing_but_arrays_is_loaded(self, tmp_path: Path, line: bytes, name: str) -> None:
        self.refused(tmp_path, b"\x80\x02" + line + b".", f"wants to load {name}")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (Call(np.ndarray, Call(np.ndarray, (1,), "O", b"A" * 8)), "makes an array in another way"),
            (Call(np.ndarray, (1,), "O", b"A" * 8), "makes an array in another way"),
            (held(Call(np.dtype, "O", False, True, state=_OWN_FLAGS), b"A" * 8, (1,)), "something else than bytes"),
            (held(np.dtype("i8"), b"A" * 8, (1,)), "something else than bytes"),
            (held(np.dtype("u1"), [b"A" * 8], (8,)), "something else than bytes"),
            (held(np.dtype("u1"), b"A" * 8, (2, 3072)), r"8 bytes for an array of shape \(2, 3072\)"),
            (held(np.dtype("u1"), b"A" * 8, (-1, 8)), "an array of no shape"),
            (held(np.dtype("u1"), b"A" * 8, (2**40, 2**40)), "8 bytes for an array of shape"),
        ],
    )
    def test_a_pickle_cannot_make_arrays_of_pointers(self, tmp_path: Path, data: Call, message: str) -> None:
        """numpy's own classes take memory as the file gives it: an array of objects is one of addresses."""
        self.refused(tmp_path, pickle.dumps({"data": data, "labels": [0]}, protocol=2), message)

    def test_what_stands_for_numpy_cannot_be_changed_by_a_file(self, tmp_path: Path) -> None:
        for name in (b"numpy\nndarray", b"numpy\ndtype", b"numpy.core.multiarray\n_reconstruct", b"_codecs\nencode"):
            self.refused(tmp_path, b"\x80\x02c" + name + b"\n}U\x01aK\x01sb.", "cannot be read")
        write_python_10(tmp_path)
        assert len(cifar10(tmp_path).train) == 20

    @pytest.mark.parametrize("protocol", [2, 3, 4])
    def test_arrays_of_any_layout_and_protocol_are_read(self, tmp_path: Path, protocol: int) -> None:
        content = {"data": np.asfortranarray(images_of(2, 4)), "labels": [2, 3, 4, 5]}
        (write_python_10(tmp_path) / "data_batch_3").write_bytes(pickle.dumps(content, protocol=protocol))
        check_10(cifar10(tmp_path))

    @pytest.mark.parametrize("keep", [0, 1, 30, 5000, -1])
    def test_files_that_are_cut_short(self, tmp_path: Path, keep: int) -> None:
        whole = (write_python_10(tmp_path) / "data_batch_3").read_bytes()
        self.refused(tmp_path, whole[:keep], "cannot be read")

    def test_a_file_that_goes_on(self, tmp_path: Path) -> None:
        whole = (write_python_10(tmp_path) / "data_batch_3").read_bytes()
        self.refused(tmp_path, whole + b"\0", "goes on after its data")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([1, 2], "holds a list, not the dict of a batch"),
            ({"data": images_of(0, 2)}, "holds data, not data and labels"),
            ({}, "holds nothing, not data and labels"),
            ({"data": images_of(0, 2)[:, :-1].copy(), "labels": [0, 1]}, r"no bytes of shape \(n, 3072\)"),
            ({"data": images_of(0, 2).reshape(2, 3, 32, 32), "labels": [0, 1]}, r"no bytes of shape"),
            ({"data": [1, 2], "labels": [0, 1]}, "no bytes of shape"),
            ({"data": images_of(0, 2), "labels": [0]}, "1 labels for 2 images"),
            ({"data": images_of(0, 2), "labels": [0, 10]}, r"label 10 at place 1; labels of cifar10 are 0\.\.9"),
            ({"data": images_of(0, 2), "labels": [-1, 0]}, "label -1 at place 0"),
            ({"data": images_of(0, 2), "labels": ["a", "b"]}, "2 labels for 2 images"),
        ],
    )
    def test_batches_that_cannot_be(self, tmp_path: Path, content: Any, message: str) -> None:
        self.refused(tmp_path, batch(content), message)

    @pytest.mark.parametrize("change", [-1, 1])
    def test_binary_files_of_a_wrong_length(self, tmp_path: Path, change: int) -> None:
        for part in ("train", "test"):
            (tmp_path / f"{part}.bin").write_bytes(bytes(2 * 3074 + (change if part == "test" else 0)))
        with pytest.raises(DataError, match=rf"test\.bin holds {2 * 3074 + change} bytes, no whole number of records"):
            DATASETS.build("cifar100", root=tmp_path)

    def test_class_names_that_cannot_be(self, tmp_path: Path) -> None:
        root = write_python_100(tmp_path)
        (root / "meta").write_bytes(batch({"fine_label_names": ["one"], "coarse_label_names": [1] * 20}))
        for kind, count in (("fine", 100), ("coarse", 20)):
            with pytest.raises(DataError, match=f"meta has no {count} {kind}_label_names"):
                DATASETS.build(f"cifar100(labels={kind})", root=root)


@pytest.mark.data
def test_the_real_files(real_data: Path) -> None:
    if not (real_data / "cifar-10-batches-py").is_dir():
        pytest.skip(f"{real_data} has no cifar-10-batches-py")
    made = DATASETS.build("cifar10", root=real_data)
    assert (len(made.train), len(made.test), made.train.input_shape) == (50_000, 10_000, (3, 32, 32))
    assert made.train.class_counts().tolist() == [5000] * 10
    assert made.test.class_counts().tolist() == [1000] * 10
    assert made.train.preprocess.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert made.train.preprocess.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)
    assert made.train.targets_of(torch.arange(10)).tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
