"""Data sets of picture files in class folders: anybody's, Tiny ImageNet and ImageNet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from sartor.data.augment import Augment
from sartor.data.formats import Splits
from sartor.data.images import SUFFIXES, Decoder
from sartor.data.parts import TEST_NAMES, TEST_SHARE, test_name, train_name
from sartor.data.pictures import Picture, Reading, picture_splits
from sartor.errors import DataError
from sartor.registry import DATASETS

_SHARE_OF_SIDE = 8  # random crops move pictures by an eighth of their side, as 4 pixels of 32 are usual for CIFAR


@DATASETS.register("imagefolder")
def imagefolder(
    root: str | Path | None = None,
    size: int | None = None,
    resize: Literal["crop", "squash", "pad"] = "crop",
    channels: int = 3,
    test: float = TEST_SHARE,
    unreadable: Literal["refuse", "skip"] = "refuse",
    streamed: bool | None = None,
) -> Splits:
    """Pictures in a folder for each class: ROOT/train/CLASS/... and ROOT/test/CLASS/... (or val), or ROOT/CLASS/...

    Capital letters in train and test have no effect. Without a test folder a fixed share `test` of each class is held
    out. Ids are paths below root, classes are sorted. Hidden files and other suffixes than those of pictures are passed
    over. Not augmented unless the recipe asks for it.
    Raises: DataError: for folders without pictures, unreadable pictures, or sizes that differ where no `size` is given.
    """
    base = existing_folder("imagefolder", root)
    reading = Reading(base, Decoder(size, resize, channels), unreadable, streamed)
    pictures, classes = list_pictures(base)
    return picture_splits("imagefolder", pictures, classes, reading, test=test)


@DATASETS.register("tinyimagenet")
def tinyimagenet(
    root: str | Path | None = None,
    unreadable: Literal["refuse", "skip"] = "refuse",
    streamed: bool | None = None,
) -> Splits:
    """Tiny ImageNet: 100,000 and 10,000 colour pictures of 64 x 64 in 200 classes (Stanford CS231n).

    The original files lie in `root` (default: data) or in tiny-imagenet-200 below it; its val part is the test set.
    Classes are in the order of their WordNet ids, named by the first word of words.txt.
    Raises: DataError: naming what is missing or damaged.
    """
    base = first_folder("tinyimagenet", root, "wnids.txt", ("", "tiny-imagenet-200"))
    wnids = sorted(read_lines(base / "wnids.txt"))
    pictures = [
        Picture(file.relative_to(base).as_posix(), str(file), label, "train")
        for label, wnid in enumerate(wnids)
        for file in pictures_in(base / "train" / wnid)
    ]
    places = {wnid: label for label, wnid in enumerate(wnids)}
    annotations = base / "val" / "val_annotations.txt"
    for number, line in enumerate(read_lines(annotations), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0]
        if wnid not in places:
            raise DataError(f"{annotations} names the class {wnid!r} in line {number}, which wnids.txt does not know.")
        pictures.append(Picture(f"val/images/{name}", str(base / "val" / "images" / name), places[wnid], "test"))
    reading = Reading(base, Decoder(), unreadable, streamed, resizes=False)
    names = class_words(wnids, base / "words.txt")
    return picture_splits("tinyimagenet", pictures, names, reading, test=TEST_SHARE, augment=usual_augment(64))


@DATASETS.register("imagenet")
def imagenet(
    root: str | Path | None = None,
    size: int = 224,
    resize: Literal["crop", "squash", "pad"] = "crop",
    unreadable: Literal["refuse", "skip"] = "refuse",
    streamed: bool | None = None,
) -> Splits:
    """ImageNet (ILSVRC 2012): 1.28 million and 50,000 colour pictures in 1,000 classes, streamed.

    train/WNID/* and val/WNID/* lie in `root` (default: data) or in ILSVRC/Data/CLS-LOC below it; val is the test set.
    Classes are named by LOC_synset_mapping.txt in `root`, if it is there. The first time, every picture is looked at.
    Raises: DataError: naming what is missing or damaged.
    """
    base = first_folder("imagenet", root, "train", ("", "ILSVRC/Data/CLS-LOC"))
    if not folders_in(base / "val"):
        raise DataError(f"{base / 'val'} has no class folders; sort its pictures into val/WNID/ as train is.")
    pictures, wnids = list_pictures(base)
    names = class_words(wnids, Path("data" if root is None else root) / "LOC_synset_mapping.txt")
    reading = Reading(base, Decoder(size, resize), unreadable, streamed)
    return picture_splits("imagenet", pictures, names, reading, test=TEST_SHARE, augment=usual_augment(size))


def usual_augment(size: int) -> Augment:
    """Return the augmentation of photographs: shifts by up to an eighth of the side, and mirroring."""
    return Augment(crop=size // _SHARE_OF_SIDE, flip=True)


def existing_folder(name: str, root: str | Path | None) -> Path:
    """Return the folder to read. Raises: DataError: if none is given, or there is no such folder."""
    if root is None:
        raise DataError(f"{name} needs to know where the pictures are; name the folder with --root DIR.")
    if not Path(root).is_dir():
        raise DataError(f"{root} is no folder; name the one above the class folders with --root DIR.")
    return Path(root)


def first_folder(name: str, root: str | Path | None, holds: str, places: Sequence[str]) -> Path:
    """Return the first of the places below root that holds a certain file or folder."""
    base = Path("data" if root is None else root)
    for place in places:
        if (base / place / holds).exists():
            return base / place
    looked = ", ".join(str(base / place) for place in places)
    raise DataError(f"{name}: there is no {holds} in {looked}; put the files into one, or name another with --root.")


def folders_in(folder: Path) -> list[str]:
    """List the folders in a folder that are not hidden, sorted."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def list_pictures(base: Path) -> tuple[list[Picture], list[str]]:
    """List all pictures in class folders, with the sorted names of the classes.

    Raises: DataError: for fewer than two classes, for a class without a picture, or one that is only tested, and
        where folders look like parts of the data whose names are not known.
    """
    filled = [name for name in folders_in(base) if folders_in(base / name)]
    trained = train_name(filled, base) or ""
    held = test_name(filled) if trained else None
    classes = folders_in(base / trained)
    if len(classes) < 2:
        raise DataError(
            f"{base / trained} has {len(classes)} class folders and needs 2 or more; pictures are expected in "
            "CLASS/..., or in train/CLASS/... and test/CLASS/..."
        )
    _refuse_hidden_parts(base, trained, classes, filled)
    labels = {name: label for label, name in enumerate(classes)}
    pictures = []
    for part, place in (("train", trained), ("test", held)) if held else (("", trained),):
        for name in folders_in(base / str(place)):
            where = base / str(place) / name
            if name not in labels:
                raise DataError(f"{where} is a class that {base / trained} does not have; every class needs both.")
            pictures += [
                Picture(file.relative_to(base).as_posix(), str(file), labels[name], part) for file in pictures_in(where)
            ]
    return pictures, classes


def training_folder(base: Path) -> Path:
    """Return the folder above the class folders: the training part, or the base. Raises: DataError: for several."""
    return base / (train_name([name for name in folders_in(base) if folders_in(base / name)], base) or "")


def _refuse_hidden_parts(base: Path, trained: str, classes: list[str], filled: Sequence[str]) -> None:
    """Raise DataError where a folder beside the training part has its classes, or all classes have the same folders."""
    names = f"train and {', '.join(TEST_NAMES)}"
    for name in filled if trained else ():
        if name != trained and name.casefold() not in TEST_NAMES and folders_in(base / name) == classes:
            raise DataError(
                f"{base / name} has the classes of {trained}, but its name tells no part; known are {names}: "
                "rename it, or move it elsewhere."
            )
    inner = folders_in(base / trained / classes[0])
    if len(inner) < 2 or any(folders_in(base / trained / name) != inner for name in classes):
        return
    if not any(is_picture(file) for name in classes for file in os.listdir(base / trained / name)):
        shown = ", ".join(inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise DataError(
            f"each of {', '.join(classes[:3])} in {base / trained} holds the same folders ({shown}): if these are the "
            f"classes, call the ones above by their parts, {names}; if not, put the pictures right below the classes."
        )


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures in a folder and below it, hidden ones left out. Raises: DataError: if there is none."""
    found = list(walk(folder))
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"{folder} holds no picture ({kinds}); put some there, or take the folder away.")
    return found


def any_picture(folder: Path) -> bool:
    """Tell whether there is a picture in a folder or below it."""
    return next(walk(folder), None) is not None


def walk(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and below it, in no order; each folder once, though links may lead back up."""
    seen = set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real not in seen:
            yield from (Path(place, name) for name in files if is_picture(name))
        seen.add(real)


def is_picture(name: str) -> bool:
    """Tell by its name whether a file counts as a picture."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def class_words(wnids: Sequence[str], file: Path) -> list[str]:
    """Name classes by a file of lines "WNID words, more words"; those that it does not name keep their WordNet id.

    Two classes of the same name get their ids behind it (there are two kinds of crane).
    """
    words = {}
    for line in read_lines(file) if file.is_file() else ():
        wnid, *rest = line.split(maxsplit=1)
        words[wnid] = rest[0].split(",")[0].strip() if rest else wnid
    names = [words.get(wnid, wnid) for wnid in wnids]
    return [f"{name} ({wnid})" if names.count(name) > 1 else name for name, wnid in zip(names, wnids, strict=True)]


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file that are not empty. Raises: DataError: if it cannot be read."""
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); fetch it again.") from error
