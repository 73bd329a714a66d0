"""Random numbers that belong to a sample: a hash of (seed, purpose, epoch, id), whatever the company it comes in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from sartor.randomness import derive

_FIRST = 0xBF58476D1CE4E5B9 - 2**64  # the two multipliers, as signed 64-bit numbers
_SECOND = 0x94D049BB133111EB - 2**64


def id_keys(ids: Sequence[str]) -> Int64[Tensor, "n"]:
    """Turn ids into 64-bit keys: each depends on its own id alone.

    Eight bytes of all ids at a time; an id that has ended keeps its key, so the longest one does not matter.
    """
    encoded = [name.encode("utf-8", "surrogatepass") for name in ids]
    lengths = torch.tensor([len(name) for name in encoded], dtype=torch.int64)
    if not encoded:
        return lengths
    words = max(1, -(-int(lengths.max()) // 8))
    table = torch.from_numpy(np.array(encoded, dtype=f"S{8 * words}").view("<i8").reshape(len(encoded), words))
    keys = _mix(lengths + 1)
    for word in range(words):
        keys = torch.where(lengths > 8 * word, _mix(keys ^ table[:, word]), keys)
    return keys


def hashes(keys: Int64[Tensor, "*n"], seed: int, purpose: str, epoch: int = 0) -> Int64[Tensor, "*n"]:
    """Return 64 random bits per key, independent between seeds, purposes and epochs."""
    return _mix(keys ^ derive(seed, purpose, epoch))


def uniform(keys: Int64[Tensor, "*n"], seed: int, purpose: str, epoch: int = 0) -> Float32[Tensor, "*n"]:
    """Return one number in [0, 1) per key, a multiple of 2^-24."""
    return _shifted(hashes(keys, seed, purpose, epoch), 40).to(torch.float32) * 2.0**-24


def _mix(value: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """The finaliser of SplitMix64, a bijection of 64 bits (Steele, Lea and Flood 2014, variant 13 of Stafford)."""
    value = (value ^ _shifted(value, 30)) * _FIRST
    value = (value ^ _shifted(value, 27)) * _SECOND
    return value ^ _shifted(value, 31)


def _shifted(value: Int64[Tensor, "*n"], bits: int) -> Int64[Tensor, "*n"]:
    """Shift right and fill with zeros (torch's own shift copies the sign)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
