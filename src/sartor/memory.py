"""Running out of memory, as an error that says what to lower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sartor.errors import OutOfMemory

_SIGNS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|STATUS_ALLOC_FAILED"
    r"|could not create a memory|unable to allocate",
    re.IGNORECASE,
)
_ASKED = re.compile(r"(?i)tried to allocate ([\d.]+)(?: bytes|( [KMGT]iB))|unable to allocate ([\d.]+ [KMGT]iB)")


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
