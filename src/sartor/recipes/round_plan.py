"""What a recipe that asks for labels does round by round, and what of it costs how much, before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Round:
    """One round: `size` labels are there, `asked` more are chosen after it; what is trained meanwhile."""

    number: int
    size: int
    asked: int
    selects: bool
    synced: bool
    target: bool

    @property
    def key(self) -> str:
        """The name of the round in stages."""
        return f"round-{self.number}"


def synchronised(rounds: Sequence[Round], every: int, phase: int) -> list[Round]:
    """Return the rounds, those synchronised whose number, divided by `every`, leaves `phase`; none where it is 0.

    What is synchronised goes on from the selector of the round before, so that is trained too. A round whose selector
    has no use, and no later one that goes on from it, trains none.
    """
    found = list(rounds)
    for number in reversed(range(1, len(found))):
        if every and number % every == phase and found[number].selects:
            found[number] = replace(found[number], synced=True)
            found[number - 1] = replace(found[number - 1], selects=True)
    return found


@dataclass(frozen=True)
class Prices:
    """FLOPs of a forward pass of one sample: by the target, by what chooses, by networks on the way to that."""

    target: float
    chooser: float
    parts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One training of a round: what it is called, for how many epochs, FLOPs of a forward pass of one sample.

    `taught`: those of its teacher; `asks`: whether it chooses; `looked`: whether statistics are taken anew before it;
    `scored`: samples that its channels were chosen by, passed forward and backward, and the FLOPs of that.
    """

    purpose: str
    epochs: int
    forward: float
    taught: float = 0.0
    asks: bool = False
    looked: bool = False
    scored: tuple[int, float] = (0, 0.0)
