"""Data sets by name: scikit-learn's digits, MNIST and Fashion-MNIST, each with its own test set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sartor.data.augment import Augment
from sartor.data.idx import read_idx
from sartor.data.pool import Pool
from sartor.data.preprocess import Preprocess
from sartor.data.split import hold_out
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS

_DIGIT_NAMES = tuple("0123456789")
_FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_DIGITS_TEST = 500


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set: its training and test pools, normalised alike, and the augmentation that suits it.

    `skipped` lists the ids of samples that were left out because they cannot be read, each with the reason.
    """

    name: str
    train: Pool
    test: Pool
    augment: Augment = field(default_factory=Augment)
    skipped: tuple[tuple[str, str], ...] = ()


@DATASETS.register("digits")
def digits(root: str | Path | None = None) -> Splits:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey: 1,297 to train, 500 to test, in a fixed stratified split.

    Values 0..16 become bytes 0..255. Ids hold the row in scikit-learn's table.
    Raises: DataError: if scikit-learn is missing. ConfigError: if a root is given, for there is nothing to read there.
    """
    if root is not None:
        raise ConfigError(f"root is {str(root)!r}; digits comes with scikit-learn and reads no files, so leave it out.")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError('digits needs scikit-learn; install it with: pip install "sartor[digits]"') from error
    table = load_digits()
    images = np.floor(table.images * (255 / 16) + 0.5).astype(np.uint8)[:, None]
    train, test = hold_out(Pool.from_arrays(images, table.target), _DIGITS_TEST / len(images), seed=0)
    assert test is not None
    parts = [(images[view.rows.numpy()], table.target[view.rows.numpy()], view.rows.tolist()) for view in (train, test)]
    return make_splits("digits", parts[0], parts[1], _DIGIT_NAMES)


@DATASETS.register("mnist")
def mnist(root: str | Path | None = None) -> Splits:
    """MNIST: 60,000 and 10,000 handwritten digits, 28 x 28 grey, from idx files (LeCun et al. 1998).

    The four files, plain or gzipped, lie in `root` (default: data), or below it in raw or MNIST/raw.
    Raises: DataError: naming the file that is missing or damaged.
    """
    return _idx_splits("mnist", "MNIST", root, _DIGIT_NAMES)


@DATASETS.register("fashion-mnist")
def fashion_mnist(root: str | Path | None = None) -> Splits:
    """Fashion-MNIST: 60,000 and 10,000 pieces of clothing, 28 x 28 grey, from idx files (Xiao et al. 2017).

    The four files, plain or gzipped, lie in `root` (default: data), or below it in raw or FashionMNIST/raw. All shoes
    point the same way, so the default is not to flip.
    Raises: DataError: naming the file that is missing or damaged.
    """
    return _idx_splits("fashion-mnist", "FashionMNIST", root, _FASHION_NAMES)


_Part = tuple[np.ndarray, np.ndarray, list[int]]  # images (n, 1, height, width), labels (n,), numbers for the ids


def make_splits(
    name: str, train: _Part, test: _Part, class_names: tuple[str, ...], augment: Augment | None = None
) -> Splits:
    """Make the pools; what normalises both is measured on the training images."""
    preprocess = Preprocess.measure(torch.from_numpy(train[0]))
    pools = [
        Pool.from_arrays(
            images,
            labels,
            ids=[f"{part}/{number:05d}" for number in numbers],
            class_names=class_names,
            preprocess=preprocess,
        )
        for part, (images, labels, numbers) in (("train", train), ("test", test))
    ]
    return Splits(name, pools[0], pools[1], augment or Augment())


def _idx_splits(name: str, folder: str, root: str | Path | None, class_names: tuple[str, ...]) -> Splits:
    base = Path("data" if root is None else root)
    places = [base, base / "raw", base / folder / "raw", base / name / folder / "raw"]
    train, test = (_read_part(name, prefix, places, len(class_names)) for prefix in ("train", "t10k"))
    if train[0].shape[1:] != test[0].shape[1:]:
        found = f"{train[0].shape[2:]} to train and {test[0].shape[2:]} to test"
        raise DataError(f"the images of {name} below {base} are {found}; put files of one data set there.")
    return make_splits(name, train, test, class_names)


def _read_part(name: str, prefix: str, places: list[Path], classes: int) -> _Part:
    """Read images and labels of one part. Raises: DataError: if a file is missing, or the two do not fit."""
    image_file = _find(name, f"{prefix}-images-idx3-ubyte", places)
    label_file = _find(name, f"{prefix}-labels-idx1-ubyte", places)
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) == 0 or len(images) != len(labels):
        raise DataError(f"{label_file} has {len(labels)} labels for the {len(images)} images of {image_file.name}.")
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        found = f"label {labels[wrong[0]]} at place {wrong[0]}"
        raise DataError(f"{label_file} has {found}; labels of {name} are 0..{classes - 1}; fetch the file again.")
    return images[:, None].copy(), labels, list(range(len(images)))


def _find(name: str, file: str, places: list[Path]) -> Path:
    for place in places:
        for path in (place / file, place / f"{file}.gz"):
            if path.is_file():
                return path
    looked = ", ".join(map(str, places))
    raise DataError(
        f"{name}: there is no {file} or {file}.gz in {looked}; put it into one, or name another with --root."
    )
