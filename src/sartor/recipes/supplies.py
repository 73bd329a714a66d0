"""What a training supplies to a selector beside one look at the network: members, held-out samples, records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.head import needs_linear_head, no_linear_head
from sartor.history import History
from sartor.randomness import derive
from sartor.recipes.setup import Data
from sartor.recipes.timetable import Looks, Slot
from sartor.scanning import samples_passed, scan
from sartor.seen import Scan
from sartor.train import Trainer
from sartor.types import Selector

LACKING = {
    "labelled": "a scan of the samples that have labels, beside others that have none: active learning supplies it, "
    "in a training all samples have labels",
    "gradients": "which no training keeps; it works with Scan.from_arrays(gradients=...) only",
}
"""Parts that a training cannot supply, and why."""
SOURCES = ("dropout", "snapshots")


def members_of(selector: Selector) -> tuple[str | None, int]:
    """Return where a selector's members come from, and how many it asks for; (None, 0) where it needs none."""
    if "members" not in selector.needs:
        return None, 0
    return getattr(selector, "members_from", None), getattr(selector, "members_count", 0)


def parts_scanned(selector: Selector) -> frozenset[str]:
    """Return what the network as it is has to be scanned for: of snapshots it is the last itself, by its logits.

    A sampler's `needs` are others than parts of a scan; it names these as `scans`.
    """
    if hasattr(selector, "scans"):
        return selector.scans
    if members_of(selector)[0] == "snapshots":
        return selector.needs - {"members"} | {"logits"}
    return selector.needs


def looks_of(selector: Selector, n: int, *, held: int, done: int, labelled: int = 0) -> Looks:
    """Count the samples that a selection passes through the network, `done` epochs having trained before it.

    `labelled` are samples that have labels beside the n that have none.
    """
    source, count = members_of(selector)
    passes = count if source == "dropout" else 0
    forward, backward = samples_passed(parts_scanned(selector), n, held=held, labelled=labelled, members=passes)
    earlier = max(0, min(count, done) - 1) if source == "snapshots" else 0
    return Looks(forward, backward, earlier=earlier)


def ends_read(slots: Sequence[Slot], count: int) -> dict[int, list[int]]:
    """Return for each selection the epochs whose ends are members: the last `count` that trained, but for the last one.

    The end of that one is the network as it is. Before anything has trained, that is the only member.
    """
    trained = [epoch for epoch, slot in enumerate(slots) if slot.size]
    drawn = [epoch for epoch, slot in enumerate(slots) if slot.draws]
    return {draw: [epoch for epoch in trained if epoch < draw][-count:][:-1] for draw in drawn}


class Snapshots:
    """The network at the ends of those epochs that a coming selection reads, and no others; on the CPU."""

    def __init__(self, slots: Sequence[Slot], count: int) -> None:
        self.read = ends_read(slots, count)
        self.states: dict[int, dict[str, Any]] = {}

    def end(self, epoch: int, trainer: Trainer) -> None:
        """Keep the network at the end of an epoch, if a coming selection reads it; forget what none reads any more."""
        wanted = {end for draw, ends in self.read.items() if draw > epoch for end in ends}
        self.states = {end: state for end, state in self.states.items() if end in wanted}
        if epoch in wanted:
            with trainer.looking():
                state = {name: value.detach().cpu().clone() for name, value in trainer.model.state_dict().items()}
            self.states[epoch] = {"network": state, "flops": trainer.flops.masked(trainer.densities)}

    def before(self, draw: int) -> list[dict[str, Any]]:
        """Return the states that the selection before an epoch reads, the oldest first."""
        return [self.states[end] for end in self.read[draw]]

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {"states": self.states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.states = state["states"]


def follow_snapshots(trainer: Trainer, selector: Selector | None, slots: Sequence[Slot]) -> Snapshots | None:
    """Track snapshots in the run, where a selector reads them."""
    source, count = (None, 0) if selector is None else members_of(selector)
    return trainer.run.track("snapshots", Snapshots(slots, count)) if source == "snapshots" else None


def look(
    trainer: Trainer,
    selector: Selector,
    data: Data,
    snapshots: Snapshots | None,
    *,
    also: frozenset[str],
    epoch: int,
    progress: float,
    head: str | None,
    labelled: Pool | None = None,
) -> Scan:
    """Scan the training pool for all that a selector needs, and for what is needed `also`; charged as `select`.

    `labelled` are samples that have labels, where those of the pool have none yet.

    Members are passes with dropout on, which draw by seed and epoch, or snapshots, one in the network at a time.
    """
    source, count = members_of(selector)
    seen = trainer.scan(
        data.train,
        parts_scanned(selector) | also,
        purpose="select",
        progress=progress,
        head=head,
        validation=data.validation,
        labelled=labelled,
        dropout_passes=count if source == "dropout" else 0,
        seed=derive(trainer.run.seed, "members", epoch),
    )
    if snapshots is None:
        return seen
    members = []
    for state in snapshots.before(epoch):
        with trainer.looking(), as_it_was(trainer.model, state["network"]):
            only = frozenset({"logits"})
            members.append(trainer.scan(data.train, only, purpose="select", each=state["flops"]))
    members.append(Scan(seen.rows, {"logits": seen.logits}))
    return dataclasses.replace(seen, parts={**seen.parts, "members": tuple(members)})


@contextmanager
def as_it_was(model: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Put an earlier state into a model for as long as the block lasts."""
    now = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    try:
        yield
    finally:
        model.load_state_dict(now)


def check_supplies(
    selector: Selector,
    name: str,
    model: nn.Module,
    data: Data,
    slots: Sequence[Slot],
    *,
    head: str | None,
    scoring: str,
) -> None:
    """Refuse, before the training, what a selector would miss at its first selection; one sample is passed through.

    Raises: SelectionError, ConfigError: for what cannot be supplied, a network without dropout, a head that is not
        found, a network whose samples have no gradients of their own.
    """
    for part in sorted(LACKING.keys() & selector.needs):
        raise SelectionError(f"{name} needs {part}, {LACKING[part]}; choose another selector.")
    if "validation" in selector.needs and data.validation is None:
        raise ConfigError(f"{name} needs held-out samples, but holdout is 0; give --holdout 0.1, say.")
    source, count = members_of(selector)
    if "members" in selector.needs and (source not in SOURCES or count < 1):
        raise SelectionError(
            f"{name} needs members but does not say which; give it members_from, {' or '.join(SOURCES)}, and "
            "members_count, a number from 1."
        )
    if "history" in selector.needs:
        check_visits(selector, name, slots)
    seen = glance(selector, model, data, head=head, scoring=scoring)
    if seen.bias is None and needs_linear_head(selector):
        raise no_linear_head()


def glance(selector: Selector, model: nn.Module, data: Data, *, head: str | None, scoring: str) -> Scan:
    """Scan one sample, and one that is held out, for all that a selector needs but earlier snapshots."""
    first = data.train.only(data.train.rows[:1])
    return scan(
        model,
        first,
        needs=parts_scanned(selector),
        head=head,
        precision=scoring,
        progress=0.0,
        lr=0.0,
        validation=None if data.validation is None else data.validation.only(data.validation.rows[:1]),
        labelled=first,
        history=History(first.rows),
        dropout_passes=1 if members_of(selector)[0] == "dropout" else 0,
    )


def check_visits(selector: Selector, name: str, slots: Sequence[Slot]) -> None:
    """Raise SelectionError where samples are not looked at often enough before the first selection."""
    before = slots[: next(epoch for epoch, slot in enumerate(slots) if slot.draws)]
    visits, least = sum(slot.size > 0 for slot in before), getattr(selector, "least_visits", 1)
    if visits < least:
        raise SelectionError(
            f"{name} reads the history: each sample has to be looked at {least} times before the first selection, not "
            f"{visits}; give --warmup {least}, or more."
        )
