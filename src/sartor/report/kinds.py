"""Kinds of comparisons: what each is about, in words, and the arms that others are held against."""

from __future__ import annotations

from dataclasses import dataclass

_ACCURACY = (
    "In the tables, accuracies are means over seeds ± half of their 95 % t-interval, at the last epoch; the best epoch "
    "was picked on the test set, so it flatters every arm. Differences are paired by seed, with their 95 % interval: "
    "▲ better, ▼ worse, no mark: no difference could be shown. "
)
_COSTS = (
    "Data epochs are samples trained on, over the size of the training set. FLOPs and time include selection and leave "
    "monitoring out; the percentage beside FLOPs is of {dense}."
)


@dataclass(frozen=True)
class Kind:
    """What a comparison is about: `subject` in sentences, `who` as a topic, `counted` what its claims are made in.

    `baseline` and `random` are its controls, where no compare.json names them; `dense` is the arm of which costs are
    shares; `reading` says how to read the tables.
    """

    subject: str
    who: str
    counted: str
    baseline: str
    random: str
    dense: str
    reading: str

    @property
    def arm(self) -> str:
        """What an arm is called that the comparison is about."""
        return "joint arm" if self.who == "Joint" else f"{self.who} arm"


KINDS = {
    "joint": Kind(
        "joint training",
        "Joint",
        "comparison",
        "coreset-only",
        "redrawn",
        "dense",
        _ACCURACY + _COSTS.format(dense="dense") + " Selection's share is of the FLOPs.",
    ),
    "asking": Kind(
        "PruneFuse",
        "PruneFuse",
        "budget",
        "active",
        "random",
        "active",
        _ACCURACY + "FLOPs are those of all selectors, choices and targets from the first round to the end of that "
        "target, counted; where a selector is trained for the target, its look for the next budget is among them. The "
        "paper's convention counts 6 P d for each sample and epoch of a selector of P parameters on inputs of d "
        "numbers, and 2 P d for each sample that it scores: it is no count of operations and leaves targets out. "
        "Seconds are those of one round; where the network that chooses is the target as well, they stand once.",
    ),
    "pruning": Kind(
        "DropHot",
        "DropHot",
        "comparison",
        "baseline",
        "random",
        "unpruned",
        _ACCURACY + "The accuracy is that after the tuning; beside it those of the same runs before the pruning and "
        "right after it. " + _COSTS.format(dense="unpruned"),
    ),
}
"""By name: SWaST's, those that ask for labels, DropHot's."""
