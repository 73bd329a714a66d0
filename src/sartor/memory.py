"""Running out of memory, as an error that says what to lower."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sartor.errors import OutOfMemory

T = TypeVar("T")
_SIGNS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|STATUS_ALLOC_FAILED"
    r"|could not create a memory|unable to allocate",
    re.IGNORECASE,
)
_ASKED = re.compile(r"(?i)tried to allocate ([\d.]+)(?: bytes|( \w+iB))|unable to allocate ([\d.]+ \w+iB)")


def shortage(error: BaseException) -> str | None:
    """Return what an error says of missing memory, None where it is about something else.

    torch has a class of its own for GPUs, but raises a plain RuntimeError on the CPU.
    """
    text = str(error)
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and _SIGNS.search(text)):
        return None
    asked = _ASKED.search(text)
    if asked is None:
        return "out of memory"
    size = asked[3] or (asked[1] + asked[2] if asked[2] else f"{int(float(asked[1])) / 2**30:.3g} GiB")
    return f"out of memory, {size} at once were asked for"


def fitting(work: Callable[[int], T], size: int) -> T:
    """Do some work in batches of `size`, or, where memory does not suffice, of half as many, and so on.

    For work that does not depend on the size but for rounding. Raises: what the work raises for batches of one.
    """
    while True:
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            found = shortage(error)
            if found is None or size <= 1:
                raise
        size //= 2
        warnings.warn(f"{found}; going on in batches of {size}. The last bits may differ.", stacklevel=2)


@contextmanager
def enough_memory(cure: str) -> Iterator[None]:
    """Surround what may need too much memory; `cure` says what to lower. Raises: OutOfMemory: where it does."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        found = shortage(error)
        if found is None:
            raise
        raise OutOfMemory(f"{found}; {cure}") from error
