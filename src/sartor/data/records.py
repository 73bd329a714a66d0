"""Records of text files: the lines of a csv table or of a jsonl file, each with the number of its line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sartor.data.arrays import check_ids
from sartor.data.parts import parts_of
from sartor.errors import ConfigError, DataError


class Record(NamedTuple):
    """One record: the number of its line, from 1, and its fields; None for one that is empty."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Records:
    """All records of a file, with the names of the fields in their order."""

    path: Path
    names: tuple[str, ...]
    rows: Sequence[Record]

    def column(self, name: str) -> list[Any]:
        """Return one field of all records; None where it is missing."""
        return [row.fields.get(name) for row in self.rows]

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
        if "split" not in self.names:
            return [""] * len(self.rows)
        return parts_of([str(value) for value in self.complete("split")], self.path)


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
                names = _checked_names(path, cells, separator)
                continue
            if len(cells) != len(names):
                found = f"{len(cells)} cells in line {reader.line_num}, but names for {len(names)}"
                raise DataError(f"{path} has {found}; mend that line.")
            rows.append(Record(reader.line_num, {name: cell or None for name, cell in zip(names, cells, strict=True)}))
    except csv.Error as error:
        raise DataError(f"{path} is no csv table ({error}, line {reader.line_num}); mend that line.") from error
    if not rows:
        raise DataError(f"{path} has no line below its names; it must have one for each sample.")
    return Records(path, names, rows)


def read_jsonl(path: Path) -> Records:
    """Read a file with a JSON object in each line. Raises: DataError: naming the line that holds none."""
    rows = []
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
        rows.append(Record(number, {name: None if value == "" else value for name, value in fields.items()}))
        names |= dict.fromkeys(fields)
    return Records(path, tuple(names), rows)


def as_number(value: Any) -> float | None:
    """Return a cell as a number; None if it is something else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def class_labels(values: Sequence[Any]) -> tuple[list[int], list[str]]:
    """Turn names of classes into labels, -1 for None, with the sorted names; whole numbers are sorted as numbers."""
    found = {str(value) for value in values if value is not None}
    whole = all(name.removeprefix("-").isdecimal() for name in found)
    names = sorted(found, key=lambda name: (int(name), name)) if whole else sorted(found)
    labels = {name: label for label, name in enumerate(names)}
    return [-1 if value is None else labels[str(value)] for value in values], names


def _checked_names(path: Path, cells: list[str], separator: str) -> tuple[str, ...]:
    """Check the first line. Raises: DataError: for names that are empty, repeated, or numbers."""
    repeated = {name for name in cells if cells.count(name) > 1}
    if "" in cells or repeated:
        found = f"the column {sorted(repeated)[0]!r} twice" if repeated - {""} else "a column without a name"
        raise DataError(f"{path} has {found} in its first line; give each column a name of its own.")
    if all(as_number(name) is not None for name in cells):
        raise DataError(f"{path} begins with numbers; its first line must name the columns.")
    other = next((mark for mark in ";\t," if mark != separator and mark in cells[0]), None) if len(cells) == 1 else None
    if other is not None:
        raise DataError(f"{path} has one column, {cells[0]!r}; if {other!r} separates cells, say separator={other!r}.")
    return tuple(cells)
