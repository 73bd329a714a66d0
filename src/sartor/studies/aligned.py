"""PruneFuse under observation: beside every target a fresh selector, and the terms of the error bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch

from sartor.recipes.fused_target import Proxy
from sartor.recipes.fusing import fused
from sartor.recipes.labels import Labels
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.round_plan import Planned, Prices, Round
from sartor.recipes.staged import Outcome, Stages
from sartor.studies.error_bound import excess, losses, measure

CHOICE, TARGET = "choice", "alignment"
"""Kinds of lines in the metrics."""


@dataclass(frozen=True, kw_only=True)
class Aligned(PruneFuse):
    """PruneFuse whose metrics tell what its selectors and its targets have to do with each other.

    A line `choice` says by how much a selector's loss on what is newly labelled exceeds that on the pool, before any
    network has learnt from it. A line `alignment` holds the accuracies of a target, of its selector and of a fresh one
    on the same labels, and the bound's terms. These measures read the labels of the whole pool; no selector does.
    Every round trains a selector, and each target of a synchronised round a fresh one beside it; both are charged.
    """

    name: ClassVar[str] = "aligned"

    def round_of(self, number: int, size: int, asked: int, *, target: bool) -> Round:
        """Train a selector in every round, also where nothing asks for one."""
        return replace(super().round_of(number, size, asked, target=target), selects=True)

    def train_selector(
        self, stages: Stages, now: Round, labels: Labels, before: Proxy | None, ask: Mapping[str, Any]
    ) -> Proxy:
        """Look at the new labels with the last selector, then train the next one."""
        if before is not None:
            last = before

            def told() -> dict[str, Any]:
                pool, learnt = stages.setting.data.train, last.outcome.stage.data.train.rows
                new = torch.isin(pool.rows, labels.rows) & ~torch.isin(pool.rows, learnt)
                return {"delta": excess(losses(last.model, pool), new)}

            tell(stages, CHOICE, now, told)
        return super().train_selector(stages, now, labels, before, ask)

    def train_target(self, stages: Stages, now: Round, labels: Labels, selector: Proxy | None) -> Outcome:
        """Train the target, and a fresh selector where its own is a synchronised one; then measure."""
        assert selector is not None
        target = super().train_target(stages, now, labels, selector)
        fresh = selector
        if now.synced:
            fresh = super().train_selector(stages, replace(now, synced=False), labels, None, {})

        made, small = selector.made, selector.model
        assert made is not None

        def told() -> dict[str, Any]:
            whole = fused(made, small, complement="zeros", dispersion="none", generator=torch.Generator())
            device = next(target.model.parameters()).device
            bound = measure(target.model, whole.to(device), stages.setting.data.train, labels.rows)
            by = {"target": target, "selector": selector.outcome, "fresh": fresh.outcome}
            accuracies = {name: outcome.accuracy for name, outcome in by.items()}
            return accuracies | asdict(bound) | {"bound": bound.total}

        tell(stages, TARGET, now, told)
        return target

    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """Add the fresh selectors."""
        beside = [Planned("selector", self.length, prices.chooser)] if now.synced and now.target else []
        return beside + super().planned(now, prices)


def tell(stages: Stages, kind: str, now: Round, told: Callable[[], Mapping[str, Any]]) -> None:
    """Measure something of a round and append it to the metrics, unless that was done before the run was stopped."""
    run = stages.setting.run
    run.once(f"{kind} {now.number}", lambda: run.log(kind, labelled=now.size, **told()))
