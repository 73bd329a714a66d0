"""Lists of picture files with their labels, in a csv or a jsonl file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sartor.data.formats import Splits
from sartor.data.images import Decoder
from sartor.data.parts import TEST_SHARE
from sartor.data.pictures import Picture, Reading, picture_splits
from sartor.data.records import class_labels, existing_file, read_csv, read_jsonl
from sartor.errors import DataError
from sartor.registry import DATASETS


@DATASETS.register("manifest")
def manifest(
    root: str | Path | None = None,
    size: int | None = None,
    resize: Literal["crop", "squash", "pad"] = "crop",
    channels: int = 3,
    test: float = TEST_SHARE,
    unreadable: Literal["refuse", "skip"] = "refuse",
    streamed: bool | None = None,
) -> Splits:
    """Pictures listed in a csv file (its first line names the columns) or a jsonl file (an object in each line).

    The fields are `path` (absolute, or from the manifest's folder), `label` (a word or a whole number; may be missing),
    and, if wanted, `id` (default: the path) and `split` (train, test; default: a fixed share `test` is held out).
    Pictures are read as those of imagefolder are.
    Raises: DataError: naming the line of what is missing or repeated, and as imagefolder.
    """
    file = existing_file("manifest", root)
    records = read_jsonl(file) if file.suffix.lower() in (".jsonl", ".ndjson") else read_csv(file)
    found = {}
    for field in ("path", "label"):
        name = records.find(field)
        if name is None:
            raise DataError(
                f"{file} has {', '.join(records.names)}, but no {field!r}; a manifest needs path and label."
            )
        found[field] = name
    records, ids = records.ordered(records.find("id") or found["path"])
    labels, names = class_labels(records.column(found["label"]))
    if len(names) < 2:
        raise DataError(f"{file} has {len(names)} classes ({', '.join(names)}); at least two are needed.")
    paths = [str(file.parent / str(path)) for path in records.complete(found["path"])]
    _refuse_backslashes(file, paths)
    pictures = [Picture(*picture) for picture in zip(ids, paths, labels, records.parts(), strict=True)]
    reading = Reading(file, Decoder(size, resize, channels), unreadable, streamed)
    return picture_splits("manifest", pictures, names, reading, test=test)


def _refuse_backslashes(file: Path, paths: Sequence[str]) -> None:
    """Raise DataError where paths are written in the way of another system, and so none of them leads anywhere."""
    written = next((path for path in paths if "\\" in path), None)
    if os.sep == "/" and written is not None and not any(map(os.path.exists, paths)):
        name = written.removeprefix(f"{file.parent}/")
        raise DataError(f'{file} has paths with backslashes, such as {name}, and none is there; write them with "/".')
