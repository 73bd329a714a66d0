"""Texts with their labels, as numbers of characters."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from sartor.data.formats import Splits
from sartor.data.parts import TEST_SHARE, cut_test
from sartor.data.pool import Pool
from sartor.data.records import Record, Records, class_labels, existing_file, read_csv, read_jsonl, read_text
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/|_#$%^&*~`+=<>()[]{}"
"""The characters with numbers of their own, from 3 on (Conneau et al. 2017, section 4.1)."""
END, SPACE, UNKNOWN = range(3)
"""Numbers of what is behind the end of a text, of blanks and line ends, and of all other characters."""
SYMBOLS = len(ALPHABET) + 3
_FIELDS = {"text": "text", "target": "label"}


@DATASETS.register("text")
def text(
    root: str | Path | None = None,
    text: str = "text",
    target: str = "label",
    separator: str = ",",
    length: int = 1024,
    test: float = TEST_SHARE,
) -> Splits:
    """Texts for networks that read characters: of a csv or jsonl file, or of a folder with train.csv and test.csv.

    The fields of a file are `text` and `label` (a word or a whole number; may be missing), or as the options `text` and
    `target` name them, and, if wanted, `id` (default: lines are numbered) and `split` (train, test; default: a fixed
    share `test` is held out). The tables of a folder name no fields: a class from 1, then texts, which are joined by a
    blank; classes.txt may name the classes (Zhang et al. 2015). All texts are cut or filled up to `length` characters.
    Raises: DataError: naming the line of what is missing, or no such table. ConfigError: for a length below 1.
    """
    if length < 1:
        raise ConfigError(f"length is {length}; it must be at least 1 character.")
    fields = {"text": text, "target": target}
    records = _read(root, separator, fields)
    for role, name in fields.items():
        found = records.find(name.casefold())
        if found is None:
            known = ", ".join(records.names)
            raise DataError(f"{records.path} has {known}, but no {name!r}; say which field is meant with {role}=NAME.")
        fields[role] = found
    records, ids = records.ordered(records.find("id"))
    labels, names = class_labels(records.column(fields["target"]))
    if len(names) < 2:
        raise DataError(f"{records.path} has {len(names)} classes ({', '.join(names)}); at least two are needed.")
    inputs = characters([str(value) for value in records.complete(fields["text"])], length)
    targets = torch.tensor(labels)
    train, held = cut_test(ids, targets, records.parts(), test)
    pool = Pool.from_arrays(inputs, targets, ids=ids, class_names=names)
    return Splits("text", pool.only(train), pool.only(held))


def characters(texts: Sequence[str], length: int) -> Int32[Tensor, "n {length}"]:
    """Return the numbers of the characters of texts, in small letters, cut or filled up (END) at the end to `length`.

    Source: Conneau et al. 2017, section 4.1, with their 69 symbols.
    """
    numbers = np.full(129, UNKNOWN, np.int32)  # by code point, all above ASCII as one
    numbers[[ord(mark) for mark in ALPHABET]] = np.arange(3, SYMBOLS)
    numbers[[ord(mark) for mark in " \t\n\r\v\f"]] = SPACE
    table = np.full((len(texts), length), END, np.int32)  # of 32 bits, since narrower ones are taken for measurements
    for row, line in zip(table, texts, strict=True):
        codes = np.frombuffer(line.lower()[:length].encode("utf-32-le", "surrogatepass"), np.uint32)
        row[: len(codes)] = numbers[np.minimum(codes, 128)]
    return torch.from_numpy(table)


def _read(root: str | Path | None, separator: str, fields: Mapping[str, str]) -> Records:
    """Read what lies at `root`. Raises: ConfigError: for an option that has no effect there."""
    folder = root is not None and Path(root).is_dir()
    path = Path(str(root)) if folder else existing_file("text", root)
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    if (folder or lines) and separator != ",":
        raise ConfigError(f"separator is {separator!r}, but {path} is no table of that kind; leave it out.")
    if not folder:
        return read_jsonl(path) if lines else read_csv(path, separator)
    for role, name in fields.items():
        if name != _FIELDS[role]:
            raise ConfigError(f"{role} is {name!r}, but the tables in {path} name no fields; leave it out.")
    return _read_folder(path)


def _read_folder(folder: Path) -> Records:
    """Read train.csv and test.csv as one table with names. Raises: DataError: naming the line that does not fit."""
    listed = folder / "classes.txt"
    classes = [name.strip() for name in read_text(listed).splitlines() if name.strip()] if listed.is_file() else None
    rows: list[Record] = []
    for part in ("train", "test"):
        path = folder / f"{part}.csv"
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        try:
            for number, cells in enumerate(filter(None, reader)):
                words = " ".join(cells[1:]).replace("\\n", "\n").strip()
                if not (words and cells[0].isdecimal()):
                    raise DataError(f"{path} has no number of a class and a text in line {reader.line_num}; mend it.")
                kind = _class_name(cells[0], classes, f"{path}, line {reader.line_num}")
                rows.append(Record(reader.line_num, (f"{part}/{number:07d}", kind, words, part)))
        except csv.Error as error:
            raise DataError(f"{path} is no csv table ({error}, line {reader.line_num}); mend that line.") from error
    return Records(folder, ("id", "label", "text", "split"), rows)


def _class_name(number: str, classes: Sequence[str] | None, place: str) -> str:
    """Return the name that classes.txt has for a class from 1, or its number where there is no such list."""
    if classes is None:
        return number
    if not 1 <= int(number) <= len(classes):
        raise DataError(f"{place} has class {number}, but classes.txt has {len(classes)} lines; mend one of them.")
    return classes[int(number) - 1]
