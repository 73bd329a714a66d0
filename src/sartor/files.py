"""Files that are whole or absent: written beside, synced, renamed into place. Sums tell whether they changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sartor.errors import SartorError

SUMS = "SHA256SUMS"
"""The file of a folder that holds the sums of the others, as `sha256sum -c` reads them."""
_MAKE_WRITABLE = "Make it writable, or choose another --out"
_CURES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some of your quota",
    errno.EIO: "Look at the disk, or copy the folder to another one and give that as --out",
    errno.EROFS: _MAKE_WRITABLE,
    errno.EACCES: _MAKE_WRITABLE,
    errno.EPERM: _MAKE_WRITABLE,
}


@contextmanager
def writing(path: Path, done: str = "written") -> Iterator[None]:
    """Surround what changes a file; where it fails, raise SartorError: which file, the reason, what to do."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "Mend that or choose another --out")
        raise SartorError(
            f"{path} cannot be {done} ({error.strerror or error}); what was saved before is untouched. "
            f"{cure}, then give the same command again."
        ) from error


def write_atomic(path: Path, content: bytes | str, *, keep: Path | None = None) -> None:
    """Write a file so that a crash or a power cut at any moment leaves the old file or the new one, never a part.

    The old file is kept as `keep`, if that is given. Raises: SartorError: when the disk is full or the folder cannot be
    written; the old file is still there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            with open(beside, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(beside, path)
            sync_names(path.parent)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def sync_names(folder: Path) -> None:
    """Bring to the disk which files a folder holds; where the system cannot, it has to be trusted."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, to stay. Raises: SartorError: where that cannot be done."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with writing(path, "made"):
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_names(folder.parent)


def set_aside(path: Path) -> None:
    """Give a damaged file a name that nothing reads, NAME.damaged."""
    with writing(path):
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def to_json(value: Any) -> str:
    """Return `value` as indented JSON; NaN and infinity are refused, for they are no JSON."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, to_json(value))


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises: SartorError: when it is no JSON, naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SartorError(f"{path} cannot be read ({error}); delete it or restore it from a copy.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that has to hold an object. Raises: SartorError: when it does not, naming the file."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise SartorError(f"{path} holds no JSON object; delete it or restore it from a copy.")
    return found


def sha256(content: bytes | str) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write the sums of a folder's files, by name."""
    write_atomic(folder / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sums of a folder's files; empty where there are none, or none that can be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        return {name: total for total, name in (line.split("  ", 1) for line in lines)}
    except (ValueError, OSError):
        return {}


def changed(folder: Path, sums: Mapping[str, str], names: Iterable[str] | None = None) -> list[str]:
    """Return which files of a folder (all that have a sum, if not given) are gone, or not what their sum says."""

    def found(name: str) -> str | None:
        try:
            with open(folder / name, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None

    return [name for name in sorted(sums) if (names is None or name in names) and found(name) != sums[name]]
