"""Reading ahead: processes read the batches of a pass, which come out in order, a few at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from sartor.data.source import Source, packed, read_checked, unpacked
from sartor.errors import DataError
from sartor.types import Inputs

AHEAD = 2
"""Batches that are read, or wait to be taken, for each worker."""


def read_ahead(source: Source, batches: Sequence[Int64[Tensor, "b"]], workers: int) -> Generator[Inputs, None, None]:
    """Yield the samples of each batch of rows, in order, read by `workers` processes (0: by this one).

    What comes out does not depend on their number. They end with the generator, also when it is closed half way, and
    when this process is killed.
    Raises: DataError: as `read_checked`, or if a process was killed.
    """
    if not workers or not batches:
        for rows in batches:
            yield read_checked(source, rows)
        return
    left = iter(batches)
    pool = ProcessPoolExecutor(
        min(workers, len(batches)), mp_context=_context(), initializer=_begin, initargs=(source,)
    )
    try:
        coming = deque(pool.submit(_read, rows.numpy()) for rows in islice(left, AHEAD * workers))
        while coming:
            tables = coming.popleft().result()
            coming.extend(pool.submit(_read, rows.numpy()) for rows in islice(left, 1))
            yield unpacked(tables, source.inputs)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads samples was killed, for lack of memory perhaps; use fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_source: Source | None = None
"""In a worker process: what it reads."""


def _context() -> multiprocessing.context.BaseContext:
    """Fork where that is safe: the processes start in milliseconds and share the source's memory."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _begin(source: Source) -> None:
    """Prepare a worker process: signals are for the first process, which ends this one when it has saved."""
    global _source  # noqa: PLW0603
    _source = source
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read(rows: Int64[np.ndarray, "b"]) -> list[UInt8[np.ndarray, "b bytes"]]:
    assert _source is not None
    return packed(read_checked(_source, torch.from_numpy(rows)))
