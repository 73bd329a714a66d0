"""What each arm of a comparison is, in words, and the colour and marker that it has everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

JOINT = "swast"
"""Arms whose names begin so select samples and prune weights together."""


@dataclass(frozen=True)
class ArmStyle:
    """The look of an arm: colour and marker say which, a hollow marker and dashes say `with an addition`."""

    colour: str
    marker: str
    text: str
    hollow: bool = False


# Okabe and Ito's colours, with grey, brown, a lighter blue and a stronger purple: all are legible on white and on
# near-black, and no two look alike to colour-blind eyes.
_KNOWN = {
    "dense": ArmStyle("#858b96", "o", "all samples, all weights"),
    "dense-steps": ArmStyle("#a0764c", "s", "all samples, all weights, only as many steps as the coreset arms"),
    "random": ArmStyle("#b5449b", "v", "a random coreset, drawn once"),
    "redrawn": ArmStyle("#56b4e9", "^", "a random coreset, drawn anew at every selection"),
    "coreset-only": ArmStyle("#3779d6", "D", "a chosen coreset, all weights"),
    "prune-only": ArmStyle("#e69f00", "P", "all samples, pruned weights"),
    "swast-trim": ArmStyle("#009e73", "h", "joint: a chosen coreset, pruned classifier"),
    "swast-cut": ArmStyle(
        "#d55e00", "X", "joint: a chosen coreset, pruned backbone and classifier, state preservation"
    ),
}
_WORDS = {
    "infobatch": "all weights, and all samples but a random share of the easy ones in each epoch (InfoBatch)",
    "sieve": "a coreset of which what is learnt best makes room for unused samples, all weights",
}
"""Arms that have no colour of their own."""
_FURTHER = ("#9b6bd3", "#7a9a01", "#00a5b5", "#c2506e", "#6c7fb0", "#b58b00")
_ADDITIONS = {"preserve": "with state preservation"}


def is_joint(arm: str) -> bool:
    """Tell whether this arm selects and prunes together."""
    return arm.startswith(JOINT)


def parts_of(arm: str) -> tuple[str, str, str]:
    """Split an arm into its base, its addition and its options.

    >>> parts_of("coreset-only+preserve(preserve_weight=1.0)")
    ('coreset-only', 'preserve', 'preserve_weight=1.0')
    """
    name, _, options = arm.partition("(")
    base, _, addition = name.partition("+")
    return base, addition, options.removesuffix(")")


def arm_order(arms: Iterable[str], given: Iterable[str] = ()) -> list[str]:
    """Return the distinct arms: first in the given order, then in ours, variants after their base, others by name."""
    given, known = list(given), list(_KNOWN)

    def rank(arm: str) -> tuple[int, int, str]:
        base = parts_of(arm)[0]
        return (
            given.index(arm) if arm in given else len(given),
            known.index(base) if base in known else len(known),
            arm,
        )

    return sorted(set(arms), key=rank)


def arm_styles(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """Give every arm its style; unknown arms, and known ones with options, take further colours in order of name."""
    arms = list(arms)
    strangers = sorted({(base, options) for base, _, options in map(parts_of, arms) if base not in _KNOWN or options})
    further = {stranger: _FURTHER[i % len(_FURTHER)] for i, stranger in enumerate(strangers)}
    styles = {}
    for arm in arms:
        base, addition, options = parts_of(arm)
        style = _KNOWN.get(base, ArmStyle("", "o", _WORDS.get(base, base)))
        if addition:
            text = _ADDITIONS.get(addition, f"with {addition}")
            style = replace(style, text=f"{style.text}, {text}", hollow=True)
        if options:
            style = replace(style, text=f"{style.text}, with {options}")
        styles[arm] = replace(style, colour=further.get((base, options), style.colour))
    return styles
