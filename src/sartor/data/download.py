"""Fetching a data set: files that are resumed where they broke off, checked, and only then given their names."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from sartor.data.originals import NOT_OFFERED, OFFERS, Offer, Original
from sartor.data.unpacking import unpack
from sartor.errors import ConfigError, DataError, nearest
from sartor.files import sync_names
from sartor.version import __version__

Listener = Callable[[str, int, int], None]
"""Told the name of a file, the bytes that are there, and those of the whole."""
_CHUNK = 1 << 16
_LONGEST_PAUSE = 30.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be another one in a while."""


class Unreachable(DataError):
    """A file that its address does not give; it may be fetched in another way."""


class _Broken(Exception):
    """One attempt that failed; another one may go on from where it ended."""

    def __init__(self, reason: object) -> None:
        super().__init__(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)


class _Silent(_Broken):
    """Nobody answered; another attempt is worth it only where somebody did before."""


class _Refused(_Broken):
    """The server answered that it will not give the file."""


@dataclass(frozen=True)
class Patience:
    """How often a file is tried, after how many seconds again (doubled each time), and how long silence may last."""

    tries: int = 8
    pause: float = 1.0
    timeout: float = 30.0


PATIENCE = Patience()


def unheard(name: str, have: int, size: int) -> None:
    """Tell nobody."""


def get(
    name: str,
    root: Path,
    *,
    offers: Mapping[str, Offer] = OFFERS,
    heard: Listener = unheard,
    patience: Patience = PATIENCE,
) -> bool:
    """Fetch a data set to where `--data NAME --root ROOT` finds it; False if it was there already.

    An archive is unpacked and kept. Raises: ConfigError: for a name that cannot be fetched, saying how it is had.
    DataError: where the network, the disk or a checksum fails, saying what to fetch by hand and where to put it.
    """
    offer = offer_of(name, root, offers)
    if not offer.missing(root):
        _check_found(offer, root)
        return False
    target = root / offer.folder / (offer.unpacked or "")
    if offer.unpacked and target.exists():
        lost = ", ".join(offer.missing(root))
        raise DataError(f"{target} is there, but without {lost}; move it away and give the same command again.")
    _make_folder(root / offer.folder)
    try:
        with _alone(name, root):
            for file, place in offer.wanted(root):
                fetch(file, place, heard=heard, patience=patience)
            if offer.unpacked:
                unpack(root / offer.folder / offer.files[0].name, target)
    except Unreachable as error:
        raise Unreachable(f"{error} {by_hand(name, root, offer)}") from error
    if absent := offer.missing(root):
        raise DataError(f"{name} was fetched, but {', '.join(absent)} is not in it; look into {target}.")
    return True


def offer_of(name: str, root: Path, offers: Mapping[str, Offer] = OFFERS) -> Offer:
    """Return what is offered by a name. Raises: ConfigError: if nothing is, saying how it is had otherwise."""
    if name in offers:
        return offers[name]
    if name in NOT_OFFERED:
        raise ConfigError(f"{NOT_OFFERED[name].format(root=root)}.")
    known = ", ".join(offers)
    raise ConfigError(f"{name!r} is no data set that can be fetched; known: {known}.{nearest(name, offers)}")


def by_hand(name: str, root: Path, offer: Offer) -> str:
    """Say which files to fetch in another way, and where to put them."""
    wanted = offer.wanted(root)
    addresses = ", ".join(file.address for file, place in wanted if not place.exists())
    then = "the same command checks and unpacks it" if offer.unpacked else "the same command checks them"
    return f"By hand: fetch {addresses} into {root / offer.folder}; {then}, for --data {name} --root {root}."


def fetch(
    file: Original,
    target: Path,
    *,
    heard: Listener = unheard,
    patience: Patience = PATIENCE,
) -> None:
    """Fetch one file, going on with TARGET.part where an earlier attempt left one; a file that is there is checked.

    Nothing is trusted until the checksum fits; then the part is renamed. A part that turns out wrong is thrown away,
    and fetched once more from its beginning if it was begun earlier.
    Raises: Unreachable: if the address does not give it. DataError: for a wrong checksum, or a part that cannot be
    written; the part is kept in the latter case, and whenever the program is interrupted.
    """
    if target.exists():
        check(file, target)
        return
    part = target.with_name(f"{target.name}.part")
    begun = _size(part) > 0
    _receive_all(file, part, heard, patience)
    found = _sum(part)
    if found != file.sha256 and begun:
        part.unlink()
        _receive_all(file, part, heard, patience)
        found = _sum(part)
    if found != file.sha256:
        part.unlink()
        raise Unreachable(
            f"what {file.address} gives has the SHA-256 {found}, not {file.sha256}; it was thrown away. "
            "The file has changed, or something on the way changes it."
        )
    try:
        os.replace(part, target)
        sync_names(target.parent)
    except OSError as error:
        raise DataError(f"{part} cannot be renamed ({error.strerror}); mend that first.") from error


def check(file: Original, path: Path) -> None:
    """Raise DataError unless a file is the original."""
    if (found := _sum(path)) != file.sha256:
        wanted = f"not {file.sha256} as {file.address}"
        raise DataError(f"{path} has the SHA-256 {found}, {wanted}; move it away and give the same command again.")


@contextmanager
def _alone(name: str, root: Path) -> Iterator[None]:
    """Keep other processes from fetching the same. Raises: DataError: if one does, or root cannot be written.

    The file of the lock stays: were it taken away, one process could hold the old file and another a new one.
    """
    lock = FileLock(root / f".{name}.fetching")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{name} is being fetched to {root} by another process; wait for it.") from error
    except OSError as error:
        raise DataError(f"{root} cannot be written ({error.strerror}); choose another --root.") from error
    try:
        yield
    finally:
        lock.release()


def _check_found(offer: Offer, root: Path) -> None:
    """Check the files of an offer that are there as they were offered; unpacked ones are left to their reader."""
    for file in offer.files if offer.unpacked is None else ():
        path = offer.find(root, file.name.removesuffix(".gz"))
        if path is not None and path.name == file.name:
            check(file, path)


def _receive_all(file: Original, part: Path, heard: Listener, patience: Patience) -> None:
    """Bring the part to its full size, in as many tries as the patience allows."""
    if _size(part) > file.size:
        part.unlink()
    first, trouble = _size(part), _Broken("")
    if (free := shutil.disk_usage(part.parent).free) < file.size - first:
        raise DataError(f"{file.name} needs {file.size - first:,} bytes, {free:,} are free below {part.parent}.")
    for attempt in range(patience.tries):
        if _size(part) == file.size:
            return
        if attempt:
            time.sleep(min(_LONGEST_PAUSE, patience.pause * 2 ** (attempt - 1)))
        try:
            _receive(file, part, heard, patience.timeout)
        except _Broken as error:
            trouble = error
            if isinstance(error, _Refused) or (isinstance(error, _Silent) and _size(part) == first):
                raise Unreachable(f"{file.address} cannot be had ({error}).") from error
    if (have := _size(part)) < file.size:
        kept = f"{have:,} of {file.size:,} bytes are kept in {part}, from where the same command goes on"
        raise Unreachable(f"{file.address} broke off {patience.tries} times ({trouble}); {kept}.") from trouble


def _receive(file: Original, part: Path, heard: Listener, timeout: float) -> None:
    """Make one request, for what the part lacks, and write what comes. Raises: _Broken: if that is not all."""
    have = _size(part)
    headers = {"User-Agent": f"sartor/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        opener = urllib.request.build_opener()  # with the proxies of the environment as it is now
        answer = opener.open(urllib.request.Request(file.address, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code in _PASSING
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            part.unlink()
            passing = True
        raise (_Broken if passing else _Refused)(f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Silent(getattr(error, "reason", error)) from error
    with answer, _opened(part, append=_start(file, answer, have) > 0) as out:
        have = out.tell()
        heard(file.name, have, file.size)
        while have < file.size:
            try:
                chunk = answer.read1(min(_CHUNK, file.size - have))
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(error) from error
            if not chunk:
                raise _Broken("the connection ended early")
            have += _write(out, part, chunk)
            heard(file.name, have, file.size)


def _start(file: Original, answer: http.client.HTTPResponse, have: int) -> int:
    """Return at which byte an answer begins: where it was asked to, or at 0 if the server knows no ranges.

    Raises: Unreachable: if it is part of another file, as its size tells. _Broken: if it is some other part.
    """
    length, start = answer.headers.get("Content-Length", ""), 0
    total = int(length) if length.isdecimal() else None
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != have:
            raise _Broken("it gives another part than it was asked for")
        start, total = have, None if place[2] == "*" else int(place[2])
    if total not in (None, file.size):
        kind = answer.headers.get_content_type()
        raise Unreachable(f"{file.address} gives {total:,} bytes of {kind}, not the {file.size:,} of the original.")
    return start


def _opened(part: Path, *, append: bool) -> BinaryIO:
    """Open a part, unbuffered: what is written is there, whatever happens next."""
    try:
        return open(part, "ab" if append else "wb", buffering=0)
    except OSError as error:
        raise DataError(f"{part} cannot be written ({error.strerror}); choose another --root.") from error


def _write(out: BinaryIO, part: Path, chunk: bytes) -> int:
    """Write a chunk and return its length. Raises: DataError: if it cannot be; what is in the part stays."""
    left = memoryview(chunk)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as error:
        kept = f"its {_size(part):,} bytes are kept. Free some space and give the same command again"
        raise DataError(f"{part} cannot be written ({error.strerror}); {kept}.") from error
    return len(chunk)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sum(path: Path) -> str:
    """Return the SHA-256 of a file. Raises: DataError: if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend that first.") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}); choose another --root.") from error
