"""The same work in several processes that find each other as torchrun's do."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch.distributed as dist

PATIENCE = 60.0
"""Seconds after which processes count as hanging."""


@dataclass(frozen=True)
class Ended:
    """What a process came to: a value, or an error and how it ended."""

    value: Any = None
    error: str | None = None
    kind: str | None = None
    told: bool = False


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process, which keeps the store itself."""
    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    known |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
    return {name: str(value) for name, value in known.items()}


def side_by_side(work: Callable[[int], Any], size: int = 2) -> list[Ended]:
    """Do `work(rank)` in forked processes; return what each came to. The test fails if they hang.

    They wait until all are there: a fork while the store's thread is at work may inherit a lock that nobody opens.
    """
    store, started = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False), []
    gate, opener = os.pipe()
    for rank in range(size):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)
            os.environ.update(environment(rank, size, store.port))
            with open(writer, "wb") as file:
                pickle.dump(attempt(work, rank), file)
            os._exit(0)
        os.close(writer)
        started.append((child, reader))
    os.close(gate)
    os.close(opener)
    return [collected(child, reader) for child, reader in started]


def attempt(work: Callable[[int], Any], rank: int) -> Ended:
    """Do the work; an error is a result too."""
    try:
        return Ended(work(rank))
    except BaseException as error:
        traceback.print_exc()
        return Ended(error=str(error), kind=type(error).__name__, told=getattr(error, "told", False))


def collected(child: int, reader: int) -> Ended:
    """Wait for a process and return what it wrote."""
    os.set_blocking(reader, False)
    end, content = time.monotonic() + PATIENCE, b""
    with open(reader, "rb", buffering=0) as file:
        while (part := file.read()) != b"":
            content += part or b""
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                pytest.fail("a process hangs")
            if part is None:
                time.sleep(0.005)
    os.waitpid(child, 0)
    return pickle.loads(content) if content else Ended(error="killed", kind="killed")


def values(ended: list[Ended]) -> list[Any]:
    """What processes returned that all have to succeed."""
    assert [each.error for each in ended] == [None] * len(ended)
    return [each.value for each in ended]
