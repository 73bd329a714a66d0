"""From what people name, a data set or a place, to the data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sartor.data.folders import any_picture, folders_in, training_folder
from sartor.data.formats import Splits
from sartor.data.records import read_csv, read_jsonl
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS, parse

_FILES = (".npz", ".csv", ".jsonl", ".ndjson")


def open_data(spec: str, root: str | None = None, *, unreadable: str | None = None) -> Splits:
    """Open a data set by its name, with options in brackets, or by the path of a folder or file that holds one.

    A name comes first; write ./mnist for a folder called mnist. What lies at a path is told by its files.
    `unreadable` is the option of that name, for data sets that have one, unless the brackets say otherwise.
    Raises: ConfigError: for an unknown name or option. DataError: for a place that is not there or not understood.
    """
    path = Path(os.path.expanduser(spec))
    if _is_name(spec) or not (path.exists() or _looks_like_a_path(spec)):
        return _build(spec, root, unreadable)
    if not path.exists():
        raise DataError(f"{spec} is not there; --data takes a folder, a file ({' '.join(_FILES)}), or a name.")
    if root is not None:
        raise ConfigError(f"root is {root}, but data is the path {spec} already; leave --root out.")
    return _build(recognise(path), path, unreadable)


def recognise(path: Path) -> str:
    """Return the name of the data set whose files lie at a path. Raises: DataError: listing what was looked for."""
    if path.is_file():
        if path.suffix.lower() not in _FILES:
            raise DataError(f"{path} is none of {' '.join(_FILES)}; name a folder, or one of these.")
        return "npz" if path.suffix.lower() == ".npz" else _kind_of_records(path)
    for name, looks in _KINDS.items():
        if looks(path):
            return name
    if _holds(path, "", "raw", stem="train-images-idx3-ubyte"):
        raise DataError(
            f"{path} holds idx files, of MNIST or of Fashion-MNIST; say which: --data mnist --root {path}, or "
            f"--data fashion-mnist --root {path}."
        )
    raise DataError(
        f"{path} is no data set that is known; looked for class folders (CLASS/picture.jpg, or train/CLASS/...), "
        "wnids.txt (Tiny ImageNet), data_batch_1 (CIFAR-10), train (CIFAR-100), train-images-idx3-ubyte, train.csv and "
        "test.csv (texts)."
    )


def _kind_of_records(path: Path) -> str:
    """Tell pictures, which have a path, texts, which have a text (and in a csv nothing else to learn), and tables."""
    table = path.suffix.lower() == ".csv"
    records = read_csv(path) if table else read_jsonl(path)
    names = {name.casefold() for name in records.names}
    if "text" in names and "path" not in names and (not table or names <= {"text", "label", "id", "split"}):
        return "text"
    return "csv" if table and "path" not in names else "manifest"


def _build(spec: str, root: str | Path | None, unreadable: str | None) -> Splits:
    given: dict[str, object] = {"root": root}
    if unreadable is not None and "unreadable" in DATASETS.options(parse(spec)[0]):
        given["unreadable"] = unreadable
    return DATASETS.build(spec, **given)


def _is_name(spec: str) -> bool:
    try:
        return parse(spec)[0] in DATASETS
    except ConfigError:
        return False


def _looks_like_a_path(spec: str) -> bool:
    ends = spec.lower().endswith(_FILES)
    return ":" not in spec and "(" not in spec and (os.sep in spec or spec.startswith((".", "~")) or ends)


def _holds(path: Path, *places: str, stem: str) -> bool:
    return any((path / place / f"{stem}{end}").is_file() for place in places for end in ("", ".gz", ".bin"))


def _is_image_folder(path: Path) -> bool:
    base = training_folder(path)
    classes = folders_in(base)
    return len(classes) >= 2 and any(any_picture(base / name) for name in classes)


_KINDS: dict[str, Callable[[Path], bool]] = {
    "tinyimagenet": lambda path: _holds(path, "", "tiny-imagenet-200", stem="wnids.txt"),
    "cifar10": lambda path: _holds(path, "", "cifar-10-batches-py", "cifar-10-batches-bin", stem="data_batch_1"),
    "cifar100": lambda path: _holds(path, "", "cifar-100-python", "cifar-100-binary", stem="train"),
    "fashion-mnist": lambda path: _holds(path, "FashionMNIST/raw", stem="train-images-idx3-ubyte"),
    "mnist": lambda path: _holds(path, "MNIST/raw", stem="train-images-idx3-ubyte"),
    "text": lambda path: (path / "train.csv").is_file() and (path / "test.csv").is_file(),
    "imagefolder": _is_image_folder,
}
"""How each data set is recognised; the first that fits is taken."""
