"""What a coreset can be chosen from: a pool with a network that is trained already, or arrays that people bring."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from sartor.costs import Flops, Ledger, count_flops, training_flops
from sartor.data.embeddings import Embeddings
from sartor.data.pool import Pool
from sartor.history import History
from sartor.scanning import COMPUTED_PARTS, samples_passed, scan
from sartor.seen import Scan
from sartor.types import Selector

Heard = Callable[[int], None]
"""Is told how many samples have gone through the network."""


class Source(Protocol):
    """What a coreset can be chosen from."""

    @property
    def described(self) -> Mapping[str, Any]:
        """What it is, as plain values."""
        ...

    @property
    def pool(self) -> Pool | None:
        """The samples themselves; None where only arrays are known."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if they have such."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the samples, in the order of their rows."""
        ...

    def lacks(self, part: str, selector: Selector) -> str | None:
        """Say why a part of a scan cannot be had and what to do; None where it can."""
        ...

    def scan(self, selector: Selector, ledger: Ledger, seed: int, heard: Heard) -> Scan:
        """Collect what the selector needs, and the labels where there are such."""
        ...


@dataclass(frozen=True, eq=False)
class Brought:
    """Arrays that people bring."""

    arrays: Embeddings
    described: Mapping[str, Any]
    pool: None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the arrays tell them."""
        return self.arrays.class_names

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the samples."""
        return self.arrays.ids

    def lacks(self, part: str, selector: Selector) -> str | None:
        """Say that an array is missing."""
        examples = {
            "validation": "validation.logits, validation.features and validation.targets",
            "history": "history.*",
        }
        return None if self.arrays.has(part) else f"{self.arrays.path} does not hold; add {examples.get(part, part)}"

    def scan(self, selector: Selector, ledger: Ledger, seed: int, heard: Heard) -> Scan:
        """Read the arrays that the selector needs, the labels, and the logits, by which the page tells losses."""
        with ledger.timed("scan"):
            return self.arrays.scan(selector.needs | {"targets", "logits"})


@dataclass(frozen=True, eq=False)
class Trained:
    """A pool and, where a selector looks at it, a trained network; further parts of a scan as far as they are known.

    `densities`: share of the weights that live, for the FLOPs.
    """

    pool: Pool
    described: Mapping[str, Any]
    model: nn.Module | None = None
    validation: Pool | None = None
    history: History | None = None
    lr: float | None = None
    progress: float | None = None
    head: str | None = None
    densities: Mapping[str, float] = field(default_factory=dict)
    device: torch.device | None = None
    batch_size: int | None = None
    workers: int = 0
    precision: str = "auto"
    channels_last: bool = True
    committee: tuple[nn.Module, ...] = ()
    """Further networks, for selectors that ask several."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the pool has them."""
        return self.pool.class_names

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the samples."""
        return tuple(self.pool.ids_of(self.pool.rows))

    def lacks(self, part: str, selector: Selector) -> str | None:
        """Say what is missing: of a run, or of a network that was named without one."""
        of_run = "run" in self.described
        if part in COMPUTED_PARTS and self.model is None:
            return "nothing brings without a network; give --run, or --model and --weights"
        if part == "members":
            if self.committee:
                return None
            drawn = getattr(selector, "members_from", "dropout") == "dropout"
            return None if drawn else "are snapshots of a training and unknown here; give --embeddings with members"
        reasons = {
            "validation": "the run has not, for its holdout is 0; choose from a run that holds samples out"
            if of_run
            else "only a run has; give --run",
            "history": "the run did not keep; train again with --record batch"
            if of_run
            else "only a run has; give --run",
            "lr": "only a run has; give --lr",
            "progress": "only a run has; give --run",
            "labelled": "is not known here; give --embeddings with labelled.logits and labelled.features",
            "gradients": "is not known here; give --embeddings with gradients",
        }
        known = {name: getattr(self, name, None) is not None for name in reasons}
        return None if part not in reasons or known[part] else reasons[part]

    def scan(self, selector: Selector, ledger: Ledger, seed: int, heard: Heard) -> Scan:
        """Run the network over the pool, and charge it; its FLOPs are counted first, which takes its time alone."""
        needs = selector.needs | ({"targets"} if len(self.pool.labelled_rows()) == len(self.pool) else frozenset())
        network = self.model if self.model is not None and needs & COMPUTED_PARTS else nn.Identity()
        passes = getattr(selector, "members_count", 0) if "members" in needs and not self.committee else 0
        runs = bool(needs & COMPUTED_PARTS)
        example = self.pool.gather(self.pool.rows[:1], self.device)
        counted = count_flops(network, example) if runs else Flops(0, {})
        with ledger.timed("scan"):
            seen = scan(
                network,
                self.pool,
                needs=needs,
                batch_size=self.batch_size,
                device=self.device,
                head=self.head,
                progress=self.progress,
                lr=self.lr,
                validation=self.validation,
                history=self.history,
                dropout_passes=passes,
                committee=self.committee if "members" in needs else (),
                seed=seed,
                channels_last=self.channels_last,
                precision=self.precision,
                workers=self.workers,
                heard=heard,
            )
        if runs:
            members = passes or (len(self.committee) if "members" in needs else 0)
            held = 0 if self.validation is None else len(self.validation)
            forward, trained = samples_passed(needs, len(self.pool), held=held, members=members)
            flops = forward * counted.masked(self.densities)
            flops += trained * training_flops(counted, self.densities, dense_gradient=True)
            ledger.charge("scan", forward=forward, trained=trained, flops=flops)
        return seen
