"""A power cut: what was not synced is lost, the names of files and their content each on their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from meddling import Change, meddled, nothing


@dataclass
class File:
    """The content of a file: as programs see it, and as it is on the disk."""

    seen: bytes = b""
    synced: bytes = b""


@dataclass
class PowerCut:
    """All changes of a program below a folder, and what each moment would leave.

    The model is the harshest that POSIX allows: a name that was made, changed or deleted is on the disk once its folder
    is synced, content once its file is; before that, any of it may be there or not.
    """

    root: Path
    changes: list[Change] = field(default_factory=list)

    @classmethod
    @contextmanager
    def recording(cls, root: Path) -> Iterator[Self]:
        """Record what happens below a folder that is not there yet."""
        record = cls(root)
        with meddled(root, nothing) as seen:
            yield record
        record.changes = list(seen)

    def __len__(self) -> int:
        return len(self.changes)

    def renamed(self) -> list[tuple[int, str]]:
        """Return the numbers of all renames, and the names that were given."""
        found = [(number, change.target) for number, change in enumerate(self.changes)]
        return [(number, str(target.relative_to(self.root))) for number, target in found if target is not None]

    def after(self, count: int, kept: str) -> dict[str, bytes]:
        """Return the files that are there after so many changes and a power cut.

        Of what was not synced, `kept` is: nothing; names (but no content); some (names and content, drawn by chance);
        or all, as after a kill.
        """
        names: dict[Path, File] = {}
        on_disk: dict[Path, File] = {}
        pending: list[tuple[Path, Path | None, File | None]] = []  # (old name, new name, file), not yet on the disk
        for change in self.changes[:count]:
            if change.kind == "open":
                fresh = change.path not in names
                if fresh or b"w" in change.data:
                    names[change.path] = File() if fresh else names[change.path]
                    names[change.path].seen = b""
                if fresh:
                    pending.append((change.path, change.path, names[change.path]))
            elif change.kind == "write":
                names[change.path].seen += change.data
            elif change.kind == "replace" and change.target is not None:
                names[change.target] = names.pop(change.path)
                pending.append((change.path, change.target, names[change.target]))
            elif change.kind == "unlink":
                pending.append((change.path, None, names.pop(change.path)))
            elif change.kind == "fsync" and change.path in names:
                names[change.path].synced = names[change.path].seen
            elif change.kind == "fsync":  # a folder
                for step in [step for step in pending if change.path in {name.parent for name in step[:2] if name}]:
                    enact(on_disk, *step)
                    pending.remove(step)
        chance = random.Random(count)
        for step in pending:
            if kept in ("names", "all") or (kept == "some" and chance.random() < 0.5):
                enact(on_disk, *step)
        whole = kept == "all"
        return {
            str(path.relative_to(self.root)): file.seen
            if whole or (kept == "some" and chance.random() < 0.5)
            else file.synced
            for path, file in on_disk.items()
        }

    def build(self, folder: Path, count: int, kept: str) -> None:
        """Make the folder that such a power cut leaves."""
        for name, content in self.after(count, kept).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def enact(names: dict[Path, File], old: Path, new: Path | None, file: File | None) -> None:
    """Make, rename or delete a file."""
    if new != old:
        names.pop(old, None)
    if new is not None and file is not None:
        names[new] = file
