"""Unpacking archives: nothing comes to lie outside of one folder, and that folder is there whole or not at all."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path, PureWindowsPath
from typing import IO

from sartor.errors import DataError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


def unpack(archive: Path, target: Path) -> None:
    """Unpack the folder of an archive that is called as `target` is; other things at the archive's top are left out.

    Files are written into a hidden folder beside the target, which is renamed when all are there; what an interrupted
    attempt left in it is taken away first. Owners, rights and times are those of new files.
    Raises: DataError: for a damaged archive, one that reaches out of its folder or holds links or devices, a folder
    that is there already, or a disk that is full; the archive stays.
    """
    beside = target.with_name(f".{target.name}.unpacking")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        with closing(contents(archive)) as found:
            for name, content in found:
                _write(beside, target.name, name, content)
        if not any(beside.iterdir()):
            raise DataError(f"{archive} holds no folder {target.name}; delete it and fetch it again.")
        beside.rename(target)
    except _DAMAGED as error:
        raise DataError(f"{archive} is damaged ({error}); delete it and fetch it again.") from error
    except OSError as error:
        cure = "the archive is kept; mend that, or free some space, and give the same command again"
        raise DataError(f"{archive} cannot be unpacked into {target} ({error.strerror or error}); {cure}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def contents(archive: Path) -> Generator[tuple[str, IO[bytes] | None], None, None]:
    """Yield names and open files of a tar or zip archive, None for a folder.

    Raises: DataError: for a link, a device, or anything else that is neither.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where it was not made on Unix
                _refuse_unless(kind in (0, stat.S_IFREG, stat.S_IFDIR), archive, entry.filename)
                yield entry.filename, None if entry.is_dir() else file.open(entry)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            _refuse_unless(member.isreg() or member.isdir(), archive, member.name)
            yield member.name, None if member.isdir() else tar.extractfile(member)


def _refuse_unless(plain: bool, archive: Path, name: str) -> None:
    if not plain:
        raise DataError(f"{archive} holds {name!r}, a link or a device; such an archive is not unpacked.")


def _write(folder: Path, top: str, name: str, content: IO[bytes] | None) -> None:
    """Write one file, or make one folder, below `folder`, if it belongs to `top`."""
    path = PureWindowsPath(name)  # which knows both separators, and drives
    if path.anchor or ".." in path.parts or "\\" in name:
        raise DataError(f"the archive holds {name!r}, which leads out of its folder; such an archive is not unpacked.")
    if path.parts[:1] != (top,):
        return
    place = folder.joinpath(*path.parts[1:])
    if content is None:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with content, open(place, "xb") as file:
        shutil.copyfileobj(content, file)
