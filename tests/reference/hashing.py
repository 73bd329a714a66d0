"""The hash of ids, one id at a time, in Python's whole numbers."""

from __future__ import annotations

from sartor.randomness import derive

_ALL = 2**64 - 1


def mix(value: int) -> int:
    value &= _ALL
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _ALL
    return value ^ (value >> 31)


def key(name: str) -> int:
    encoded = name.encode("utf-8", "surrogatepass")
    value = mix(len(encoded) + 1)
    for begin in range(0, len(encoded), 8):
        value = mix(value ^ int.from_bytes(encoded[begin : begin + 8].ljust(8, b"\0"), "little"))
    return value


def draw(name: str, seed: int, purpose: str, epoch: int) -> float:
    return (mix(key(name) ^ derive(seed, purpose, epoch)) >> 40) / 2**24
