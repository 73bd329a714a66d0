"""Where data sets are to be had: the files that their authors offer, what identifies them, where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Original:
    """One file as it is offered: its address, its size in bytes, its SHA-256."""

    address: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file, the end of its address."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Offer:
    """A data set that can be fetched, and how its reader finds it below a root.

    `folder` is where the files go; an archive is unpacked there, into the folder `unpacked`. The reader looks for each
    name of `holds` (a folder if it ends with /), as it is or with one of `ends` behind it, in each of `places`.
    """

    files: tuple[Original, ...]
    folder: str
    holds: tuple[str, ...]
    places: tuple[str, ...]
    ends: tuple[str, ...] = ("",)
    unpacked: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def find(self, root: Path, name: str) -> Path | None:
        """Return the file or folder that the reader would take for a name; None where there is none."""
        return next(filter(None, (self._at(root / place, name) for place in self.places)), None)

    def missing(self, root: Path) -> list[str]:
        """Return the names that the reader would not find; what an archive holds has to be in one place."""
        if self.unpacked is None:
            return [name for name in self.holds if self.find(root, name) is None]
        lacking = ([name for name in self.holds if self._at(root / place, name) is None] for place in self.places)
        return min(lacking, key=len)

    def wanted(self, root: Path) -> list[tuple[Original, Path]]:
        """Return the files that are needed for what is missing, and where each of them goes."""
        missing = self.missing(root)
        return [
            (file, root / self.folder / file.name)
            for file in self.files
            if (missing if self.unpacked else file.name.removesuffix(".gz") in missing)
        ]

    def _at(self, place: Path, name: str) -> Path | None:
        paths = (place / f"{name}{end}" for end in self.ends)
        return next((path for path in paths if (path.is_dir() if name.endswith("/") else path.is_file())), None)


def _idx(address: str, name: str, folder: str, sums: Mapping[str, tuple[int, str]]) -> Offer:
    files = tuple(Original(f"{address}/{stem}.gz", size, sha256) for stem, (size, sha256) in sums.items())
    places = ("", "raw", f"{folder}/raw", f"{name}/{folder}/raw")
    return Offer(files, f"{folder}/raw", tuple(sums), places, ("", ".gz"))


OFFERS: Mapping[str, Offer] = {
    "cifar10": Offer(
        (
            Original(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ),
        ),
        folder="",
        holds=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
        places=("", "cifar-10-batches-py", "cifar-10-batches-bin"),
        ends=("", ".bin"),
        unpacked="cifar-10-batches-py",
    ),
    "cifar100": Offer(
        (
            Original(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                169_001_437,
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            ),
        ),
        folder="",
        holds=("train", "test"),
        places=("", "cifar-100-python", "cifar-100-binary"),
        ends=("", ".bin"),
        unpacked="cifar-100-python",
    ),
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "mnist",
        "MNIST",
        {
            "train-images-idx3-ubyte": (
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train-labels-idx1-ubyte": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3-ubyte": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1-ubyte": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
    ),
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "fashion-mnist",
        "FashionMNIST",
        {
            "train-images-idx3-ubyte": (
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3-ubyte": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1-ubyte": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
    ),
    "tinyimagenet": Offer(
        (
            Original(
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                248_100_043,
                "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            ),
        ),
        folder="",
        holds=("wnids.txt", "train/", "val/val_annotations.txt"),
        places=("", "tiny-imagenet-200"),
        unpacked="tiny-imagenet-200",
    ),
}
"""The data sets that can be fetched by name."""

NOT_OFFERED: Mapping[str, str] = {
    "imagenet": (
        "imagenet may only be fetched by people who accept its terms: ILSVRC2012_img_train.tar and "
        "ILSVRC2012_img_val.tar from https://image-net.org/download-images, or "
        "https://www.kaggle.com/c/imagenet-object-localization-challenge; put the pictures into {root}/train/WNID/ and "
        "{root}/val/WNID/ (Kaggle's {root}/ILSVRC/Data/CLS-LOC is found too, once val is sorted like that)"
    ),
    "digits": 'digits comes with scikit-learn (pip install "sartor[digits]"); there is nothing to fetch',
}
"""Data sets with a name that are had in another way, and how."""
