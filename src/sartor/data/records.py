"""Records of text files: the lines of a csv table or of a jsonl file, each with the number of its line."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from sartor.data.arrays import check_ids
from sartor.data.parts import parts_of
from sartor.errors import ConfigError, DataError


class Record(NamedTuple):
    """One record: the number of its line, from 1, and its cells in the order of the names; None for an empty one."""

    line: int
    cells: tuple[Any, ...]


@dataclass(frozen=True)
class Records:
    """All records of a file, with the names of the fields in their order."""

    path: Path
    names: tuple[str, ...]
    rows: Sequence[Record]

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The place of each name."""
        return {name: place for place, name in enumerate(self.names)}

    def find(self, *usual: str) -> str | None:
        """Return the one field that is called so, in capital or small letters. Raises: DataError: if several are."""
        found = [name for name in self.names if name.casefold() in usual]
        if len(found) > 1:
            raise DataError(f"{self.path} has columns {' and '.join(found)}; say which one is meant, or rename one.")
        return found[0] if found else None

    def column(self, name: str) -> list[Any]:
        """Return one field of all records; None where it is missing."""
        place = self.places[name]
        return [row.cells[place] for row in self.rows]

    def complete(self, name: str) -> list[Any]:
        """Return one field of all records. Raises: DataError: naming the line where it is missing."""
        values = self.column(name)
        for row, value in zip(self.rows, values, strict=True):
            if value is None:
                raise DataError(f"{self.path} has no {name!r} in line {row.line}; fill it in, or take the line out.")
        return values

    def ordered(self, name: str | None) -> tuple[Records, list[str]]:
        """Return the records sorted by id, without those whose split is not used, and the ids.

        Ids are the field `name`, or the numbers of the records. Raises: DataError: for an id that is given twice.
        """
        ids = check_ids(None, len(self.rows)) if name is None else [str(value) for value in self.complete(name)]
        first: dict[str, int] = {}
        for row, value in zip(self.rows, ids, strict=True):
            if value in first:
                lines = f"lines {first[value]} and {row.line}"
                raise DataError(f"{self.path} has the {name} {value!r} in {lines}; each sample needs its own.")
            first[value] = row.line
        parts = self.parts()
        order = sorted((place for place, part in enumerate(parts) if part != "unused"), key=ids.__getitem__)
        return dataclasses.replace(self, rows=[self.rows[place] for place in order]), [ids[place] for place in order]

    def parts(self) -> list[str]:
        """Return the part of each record, train, test or unused, told by the field split; "" where there is none."""
        name = self.find("split")
        if name is None:
            return [""] * len(self.rows)
        return parts_of([str(value) for value in self.complete(name)], self.path)


def existing_file(name: str, root: str | Path | None) -> Path:
    """Return the file to read. Raises: DataError: if none is given, or there is no such file."""
    if root is None:
        raise DataError(f"{name} needs to know which file to read; name it with --root FILE.")
    if not Path(root).is_file():
        raise DataError(f"{root} is no file; name an existing one with --root FILE.")
    return Path(root)


def read_text(path: Path) -> str:
    """Read a text file. Raises: DataError: if it is not there, empty, or not in UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name an existing file.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not in UTF-8 (line {line}); save it in that encoding.") from error
    if not text.strip():
        raise DataError(f"{path} is empty; it must have a line for each sample.")
    return text


def read_csv(path: Path, separator: str = ",") -> Records:
    """Read a table with a line of names at its head. Empty lines are passed over, empty cells are None.

    Raises: DataError: naming the line, if it is no such table.
    """
    if len(separator) != 1:
        raise ConfigError(f"separator is {separator!r}; it must be one character.")
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=separator, strict=True)
    rows: list[Record] = []
    names: tuple[str, ...] = ()
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) and len(cells) < 2:
                continue
            if not names:
                names = _told_apart(path, cells, separator)
                continue
            if len(cells) != len(names):
                found = f"{len(cells)} cells in line {reader.line_num}, but names for {len(names)}"
                raise DataError(f"{path} has {found}; mend that line.")
            rows.append(Record(reader.line_num, tuple(cell or None for cell in cells)))
    except csv.Error as error:
        raise DataError(f"{path} is no csv table ({error}, line {reader.line_num}); mend that line.") from error
    _check_names(path, names, rows)
    if not rows:
        raise DataError(f"{path} has no line below its names; it must have one for each sample.")
    return Records(path, names, rows)


def read_jsonl(path: Path) -> Records:
    """Read a file with a JSON object in each line. Raises: DataError: naming the line that holds none."""
    found = []
    names: dict[str, None] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} holds no JSON in line {number} ({error}); mend that line.") from error
        if not isinstance(fields, dict):
            raise DataError(f"{path} holds {type(fields).__name__} in line {number}; each line is an object {{...}}.")
        found.append((number, {name: None if value == "" else value for name, value in fields.items()}))
        names |= dict.fromkeys(fields)
    return Records(path, tuple(names), [Record(number, tuple(map(fields.get, names))) for number, fields in found])


def as_number(value: Any) -> float | None:
    """Return a cell as a number; None if it is something else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def class_labels(values: Sequence[Any]) -> tuple[list[int], list[str]]:
    """Turn names of classes into labels, -1 for None, with the sorted names; numbers are sorted as numbers.

    Spellings of one number (1, 1.0, 01) are one class, which then has its shortest spelling.
    """
    spellings: dict[str | int | float, set[str]] = {}
    for value in set(map(str, (value for value in values if value is not None))):
        spellings.setdefault(_meaning(value), set()).add(value)
    names = {key: min(found, key=lambda name: (len(name), name)) for key, found in spellings.items()}
    numeric = not any(isinstance(key, str) for key in names)
    order = sorted(names) if numeric else sorted(names, key=names.__getitem__)
    labels = {spelling: label for label, key in enumerate(order) for spelling in spellings[key]}
    return [-1 if value is None else labels[str(value)] for value in values], [names[key] for key in order]


def _meaning(name: str) -> str | int | float:
    """Return the number that a name of a class spells, whole ones exactly; itself where it is a word."""
    for kind in (int, float):
        try:
            number = kind(name)
        except ValueError:
            continue
        return number if math.isfinite(number) and "_" not in name else name
    return name


def _told_apart(path: Path, cells: list[str], separator: str) -> tuple[str, ...]:
    """Return the cells of the first line. Raises: DataError: if another mark seems to separate them."""
    only = cells[0] if len(cells) == 1 else ""
    other = next((mark for mark in ";\t," if mark != separator and mark in only), None)
    if other is not None:
        raise DataError(f"{path} has one column, {only!r}; if {other!r} separates cells, say separator={other!r}.")
    return tuple(cells)


def _check_names(path: Path, names: tuple[str, ...], rows: Sequence[Record]) -> None:
    """Check the first line. Raises: DataError: for names that are empty, repeated, or a sample's numbers."""
    if _is_sample(names, rows):
        raise DataError(
            f"{path} begins with numbers; its first line must name the columns: add a line of column names above it."
        )
    counts = Counter(names)
    repeated = sorted(name for name in counts if counts[name] > 1)
    if "" in counts or repeated:
        found = f"the column {repeated[0]!r} twice" if "" not in counts else "a column without a name"
        raise DataError(f"{path} has {found} in its first line; give each column a name of its own.")


def _is_sample(names: tuple[str, ...], rows: Sequence[Record]) -> bool:
    """Tell whether the first line is a sample: all numbers, or numbers above numbers.

    Columns that are counted (0, 1, 2, ..., label) have names, unless the words beside them stand in their columns too.
    """
    values = enumerate(map(as_number, names))
    numbers = {place: value for place, value in values if value is not None and math.isfinite(value)}
    if names and len(numbers) == len(names):
        return True
    steps = {after - before for before, after in pairwise(numbers.values())}
    words = [place for place in range(len(names)) if place not in numbers]
    if steps == {1.0} and not any(row.cells[place] == names[place] for row in rows for place in words):
        return False
    return any(_holds_numbers(place, rows) for place in numbers)


def _holds_numbers(place: int, rows: Sequence[Record]) -> bool:
    """Tell whether a column has a value, and all that it has are numbers."""
    values = [row.cells[place] for row in rows if row.cells[place] is not None]
    return bool(values) and all(as_number(value) is not None for value in values)
