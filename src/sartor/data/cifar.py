"""CIFAR-10 and CIFAR-100 as their author distributes them: python batches (pickles) or binary records."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from sartor.data.augment import Augment
from sartor.data.formats import Splits, make_splits
from sartor.errors import DataError, check_choice
from sartor.registry import DATASETS

_AUGMENT = Augment(crop=4, flip=True)
_PIXELS = 3 * 32 * 32
_CURE = "fetch the file again"
_CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@DATASETS.register("cifar10")
def cifar10(root: str | Path | None = None) -> Splits:
    """CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 in 10 classes (Krizhevsky 2009).

    The python batches (data_batch_1 .. 5, test_batch) lie in `root` (default: data) or in cifar-10-batches-py below it,
    the binary ones (*.bin) in `root` or in cifar-10-batches-bin. Ids hold the place in the author's order.
    Raises: DataError: naming the file that is missing or damaged.
    """
    names = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    files = _Files("cifar10", root, "cifar-10-batches-py", "cifar-10-batches-bin")
    parts = [files.read(names[part], "labels", before=0, classes=10) for part in ("train", "test")]
    return make_splits("cifar10", parts[0], parts[1], _CIFAR10_NAMES, _AUGMENT)


@DATASETS.register("cifar100")
def cifar100(root: str | Path | None = None, labels: Literal["fine", "coarse"] = "fine") -> Splits:
    """CIFAR-100: 50,000 and 10,000 colour images of 32 x 32 in 100 classes, or in their 20 superclasses.

    The files `train`, `test` (and `meta`, for the class names) lie in `root` (default: data) or in cifar-100-python
    below it; train.bin and test.bin in `root` or in cifar-100-binary.
    Raises: DataError: naming the file that is missing or damaged.
    """
    check_choice("labels", labels, ("fine", "coarse"))
    classes = 100 if labels == "fine" else 20
    files = _Files("cifar100", root, "cifar-100-python", "cifar-100-binary")
    before = 1 if labels == "fine" else 0  # a binary record begins with the coarse label, then the fine one
    train, test = (
        files.read([part], f"{labels}_labels", before=before, classes=classes, labels_a_record=2)
        for part in ("train", "test")
    )
    return make_splits("cifar100", train, test, files.class_names(labels, classes), _AUGMENT)


@dataclass(frozen=True)
class _Files:
    """Where the files of one set may lie."""

    name: str
    root: str | Path | None
    python: str
    binary: str

    def read(
        self, names: Sequence[str], key: str, *, before: int, classes: int, labels_a_record: int = 1
    ) -> tuple[UInt8[np.ndarray, "n 3 32 32"], Int64[np.ndarray, "n"], list[int]]:
        """Read one part, from the python batches where they are, else from the binary ones."""
        images, labels = [], []
        for name in names:
            path = self._find(name)
            if path.suffix == ".bin":
                pixels, given = _read_binary(path, labels_a_record, before)
            else:
                pixels, given = _read_python(path, key)
            wrong = np.flatnonzero((given < 0) | (given >= classes))
            if len(wrong):
                found = f"label {given[wrong[0]]} at place {wrong[0]}"
                raise DataError(f"{path} has {found}; labels of {self.name} are 0..{classes - 1}; {_CURE}.")
            images.append(pixels.reshape(-1, 3, 32, 32))
            labels.append(given)
        count = sum(map(len, labels))
        return np.concatenate(images), np.concatenate(labels), list(range(count))

    def class_names(self, kind: str, classes: int) -> tuple[str, ...]:
        """Return CIFAR-100's class names from its meta file; numbers where there is none."""
        for place in (self._base, self._base / self.python):
            if (place / "meta").is_file():
                given = _unpickle(place / "meta").get(f"{kind}_label_names")
                if isinstance(given, list) and len(given) == classes and all(isinstance(name, str) for name in given):
                    return tuple(given)
                raise DataError(f"{place / 'meta'} has no {classes} {kind}_label_names; {_CURE}.")
        for place in (self._base, self._base / self.binary):
            text = place / f"{kind}_label_names.txt"
            if text.is_file() and len(names := text.read_text(encoding="ascii").split()) == classes:
                return tuple(names)
        return tuple(map(str, range(classes)))

    @property
    def _base(self) -> Path:
        return Path("data" if self.root is None else self.root)

    def _find(self, name: str) -> Path:
        base = self._base
        places = [base / name, base / self.python / name, base / f"{name}.bin", base / self.binary / f"{name}.bin"]
        for path in places:
            if path.is_file():
                return path
        looked = ", ".join(map(str, places))
        raise DataError(f"{self.name}: there is none of {looked}; put one there, or name another place with --root.")


class _StandIn:
    """Stands for a name that a file of arrays mentions, so that nothing of numpy's is called with what the file says.

    It is never itself a part of what is read, and a file cannot give it a state.
    """

    def __new__(cls, *_: Any) -> Any:
        raise pickle.UnpicklingError("it makes an array in another way than such files do")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it gives a state to what has none")


class _Encoded(_StandIn):
    """Stands for _codecs.encode, by which Python 3 wrote bytes in protocol 2."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
        return text.encode("latin1")


class _Kind(_StandIn):
    """Stands for numpy.dtype: remembers the name; byte order and the like say nothing about bytes."""

    def __new__(cls, name: Any, *_: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class _Held(_StandIn):
    """Stands for an array: its state must be whole, of bytes, and of a shape that fits."""

    content: UInt8[np.ndarray, "..."] | None = None

    def __new__(cls, *_: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_column, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(kind, _Kind) or kind.name not in ("u1", "|u1", "uint8") or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("it holds an array of something else than bytes")
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise pickle.UnpicklingError("it holds an array of no shape")
        if math.prod(shape) != len(raw):
            raise pickle.UnpicklingError(f"it holds {len(raw)} bytes for an array of shape {shape}")
        self.content = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if by_column else "C")


_ADMITTED: dict[tuple[str, str], type[_StandIn]] = {
    ("numpy", "ndarray"): _StandIn,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Encoded,
    ("numpy.core.multiarray", "_reconstruct"): _Held,
    ("numpy._core.multiarray", "_reconstruct"): _Held,
}


class _Unpickler(pickle.Unpickler):
    """Admits arrays of bytes and plain types, nothing that could run code or point into memory."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, which no such file needs")


def _unpickle(path: Path) -> dict[str, Any]:
    """Read a pickle of plain types and arrays of bytes. Raises: DataError: naming a file that is damaged or more."""
    try:
        with path.open("rb") as file:
            content = _load(file)
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path} cannot be read ({error or type(error).__name__}); {_CURE}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not the dict of a batch; {_CURE}.")
    return {key: value.content if isinstance(value, _Held) else value for key, value in content.items()}


def _load(file: BinaryIO) -> Any:
    content = _Unpickler(file, encoding="latin1").load()
    if file.read(1):
        raise pickle.UnpicklingError("it goes on after its data")
    return content


def _read_python(path: Path, key: str) -> tuple[UInt8[np.ndarray, "n p"], Int64[np.ndarray, "n"]]:
    content = _unpickle(path)
    if "data" not in content or key not in content:
        raise DataError(f"{path} holds {', '.join(map(str, content)) or 'nothing'}, not data and {key}; {_CURE}.")
    pixels, labels = content["data"], np.asarray(content[key])
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
        raise DataError(f"{path} has data that are no bytes of shape (n, {_PIXELS}); {_CURE}.")
    if len(labels) == 0 or labels.shape != (len(pixels),) or labels.dtype.kind != "i":
        raise DataError(f"{path} has {labels.size} labels for {len(pixels)} images; {_CURE}.")
    return pixels, labels.astype(np.int64)


def _read_binary(path: Path, labels: int, place: int) -> tuple[UInt8[np.ndarray, "n p"], Int64[np.ndarray, "n"]]:
    content = np.fromfile(path, np.uint8)
    record = labels + _PIXELS
    if len(content) == 0 or len(content) % record:
        raise DataError(f"{path} holds {len(content)} bytes, no whole number of records of {record}; {_CURE}.")
    records = content.reshape(-1, record)
    return records[:, labels:], records[:, place].astype(np.int64)
