"""What each arm of a comparison is, in words, and the colour and marker that it has everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

SWAST, SYSTEMS = "swast", ("prunefuse", "drophot")
"""Arms whose names begin with the first, or that have the others' names, choose samples and prune together."""


@dataclass(frozen=True)
class ArmStyle:
    """The look of an arm: colour and marker say which, a hollow marker and dashes say `with an addition`."""

    colour: str
    marker: str
    text: str
    hollow: bool = False


# Okabe and Ito's colours, with grey, brown, a lighter blue and a stronger purple: all are legible on white and on
# near-black, and no two look alike to colour-blind eyes.
_JOINT = {
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
_ASKING = {
    "active": ArmStyle("#858b96", "o", "the dense network chooses the labels, and is the target"),
    "random": ArmStyle("#b5449b", "v", "labels drawn at random; the target from scratch"),
    "svp": ArmStyle("#a0764c", "s", "another network chooses and is thrown away; the target from scratch"),
    "prunefuse": ArmStyle("#d55e00", "X", "a pruned network chooses, is fused into the target, and teaches it"),
    "prunefuse-random": ArmStyle("#e69f00", "P", "labels drawn at random; a pruned network is fused, and teaches"),
    "scratch": ArmStyle("#009e73", "h", "a pruned network chooses; the target from scratch, without a teacher"),
    "kd": ArmStyle("#3779d6", "D", "a pruned network chooses and teaches the target, which is from scratch"),
    "fusion": ArmStyle("#56b4e9", "^", "a pruned network chooses and is fused into the target, without a teacher"),
}
_PRUNING = {
    "unpruned": ArmStyle("#858b96", "o", "all samples, nothing is pruned"),
    "baseline": ArmStyle("#3779d6", "D", "all samples before the pruning"),
    "baseline-matched": ArmStyle(
        "#a0764c", "s", "all samples before the pruning, for as many steps as the scored coreset costs in all"
    ),
    "random": ArmStyle("#b5449b", "v", "a random coreset before the pruning"),
    "random-matched": ArmStyle(
        "#56b4e9", "^", "a random coreset before the pruning, for as many steps as the scored one costs in all"
    ),
    "drophot": ArmStyle("#d55e00", "X", "a coreset by forgetting before the pruning"),
}
_KNOWN = {"joint": _JOINT, "asking": _ASKING, "pruning": _PRUNING}
"""Arms that have a colour of their own, by kind of comparison."""
_WORDS = {
    "bald": "the dense network chooses by the disagreement of its dropout passes, and is the target",
    "alse": "the dense network chooses by snapshots of its training, and is the target",
    "infobatch": "all weights, and all samples but a random share of the easy ones in each epoch (InfoBatch)",
    "sieve": "a coreset of which what is learnt best makes room for unused samples, all weights",
}
"""Arms that have no colour of their own."""
_FURTHER = ("#9b6bd3", "#7a9a01", "#00a5b5", "#c2506e", "#6c7fb0", "#b58b00")
_ADDITIONS = {"preserve": "with state preservation"}


def is_joint(arm: str) -> bool:
    """Tell whether this arm chooses samples and prunes, all that its comparison is about."""
    return arm.startswith(SWAST) or parts_of(arm)[0] in SYSTEMS


def parts_of(arm: str) -> tuple[str, str, str]:
    """Split an arm into its base, its addition and its options.

    >>> parts_of("coreset-only+preserve(preserve_weight=1.0)")
    ('coreset-only', 'preserve', 'preserve_weight=1.0')
    """
    name, _, options = arm.partition("(")
    base, _, addition = name.partition("+")
    return base, addition, options.removesuffix(")")


def arm_order(arms: Iterable[str], given: Iterable[str] = (), kind: str = "joint") -> list[str]:
    """Return the distinct arms: first in the given order, then in ours, variants after their base, others by name."""
    given, known = list(given), list(_KNOWN[kind])

    def rank(arm: str) -> tuple[int, int, str]:
        base = parts_of(arm)[0]
        return (
            given.index(arm) if arm in given else len(given),
            known.index(base) if base in known else len(known),
            arm,
        )

    return sorted(set(arms), key=rank)


def arm_styles(arms: Iterable[str], kind: str = "joint") -> dict[str, ArmStyle]:
    """Give every arm its style; unknown arms, and known ones with options, take further colours in order of name."""
    arms, known = list(arms), _KNOWN[kind]
    strangers = sorted({(base, options) for base, _, options in map(parts_of, arms) if base not in known or options})
    further = {stranger: _FURTHER[i % len(_FURTHER)] for i, stranger in enumerate(strangers)}
    styles = {}
    for arm in arms:
        base, addition, options = parts_of(arm)
        style = known.get(base, ArmStyle("", "o", _WORDS.get(base, base)))
        if addition:
            text = _ADDITIONS.get(addition, f"with {addition}")
            style = replace(style, text=f"{style.text}, {text}", hollow=True)
        if options:
            style = replace(style, text=f"{style.text}, with {options}")
        styles[arm] = replace(style, colour=further.get((base, options), style.colour))
    return styles
