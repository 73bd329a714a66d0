"""Random numbers derived from (seed, purpose, epoch): nothing reads or moves the global state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit number that depends on all three arguments and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(number: int, device: torch.device) -> None:
    """Seed what a network itself may draw from; torch.manual_seed seeds all devices, 70 times slower."""
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


@contextmanager
def forked(*devices: torch.device) -> Iterator[None]:
    """Give a block random states of its own; the global ones of Python, numpy, torch and these devices come back."""
    kept, kept_by_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
            yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_by_numpy)


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a fresh CPU generator for one purpose at one epoch."""
    return torch.Generator().manual_seed(derive(seed, purpose, epoch))
