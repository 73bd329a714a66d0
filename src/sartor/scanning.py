"""Passes of a model over a pool: what a selector needs is collected, and the model is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sartor.costs import count_flops
from sartor.data.loader import Batch, Loader
from sartor.data.pool import Pool
from sartor.dist import World
from sartor.errors import ConfigError, SelectionError, nearest
from sartor.head import HeadTap
from sartor.history import History
from sartor.memory import fitting
from sartor.per_sample import gradient_norms
from sartor.precision import Precision, arithmetic, gains, has_bf16, pick_precision
from sartor.randomness import derive, reseed
from sartor.seen import SUPPLIERS, Scan, checked_parts, few
from sartor.stochastic import dropout_on
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

FORWARD_PARTS = frozenset({"logits", "features"})
"""Parts that one forward pass over the pool brings."""
COMPUTED_PARTS = FORWARD_PARTS | {"gradient_norms", "members"}
"""Parts that the model has to be run for."""


@dataclass(frozen=True)
class Pass:
    """How a model is run over a pool: where, in what batches, by which arithmetic and which processes."""

    device: torch.device
    batch_size: int
    channels_last: bool
    precision: str
    workers: int
    world: World
    head: str | None = None
    heard: Callable[[int], None] | None = None
    """Is told how many more samples have passed."""

    def tables(
        self, model: nn.Module, pool: Pool, wanted: frozenset[str], *, dropout: int | None = None
    ) -> tuple[dict[str, Tensor], bool | None]:
        """Return tables of logits or features (n, values) in float32, and whether the head has a bias.

        `dropout` seeds the draws of dropout layers, which are at rest without it; the batches decide which sample
        draws what, the number of processes does not.
        """
        tap = HeadTap(model, self.head) if "features" in wanted else None
        try:
            with undisturbed(model), arithmetic(self.resolved(model, pool), self.device):
                rows = pool.rows[self.world.shard(len(pool.rows), block=self.batch_size)]

                def passed(size: int) -> dict[str, Tensor]:
                    stirred = nullcontext() if dropout is None else dropout_on(model)
                    with stirred, closing(self.batches(pool, rows, size)) as batches:
                        return _run(model, batches, tap, len(rows), dropout)

                outputs = fitting(passed, self.batch_size)
        finally:
            if tap is not None:
                tap.remove()
        tables = {name: self.world.gather_rows(outputs.get(name)) for name in sorted(wanted)}
        return tables, True if tap is None else self.world.broadcast(tap.bias)

    def gradient_norms(self, model: nn.Module, pool: Pool) -> Tensor:
        """Return the norm of each sample's gradient in all weights, in float32 arithmetic."""
        rows = pool.rows[self.world.shard(len(pool.rows), block=self.batch_size)]

        def passed(size: int) -> Tensor | None:
            with closing(self.batches(pool, rows, size)) as batches:
                found = [gradient_norms(model, batch.inputs, batch.targets) for batch in batches]
            return torch.cat(found) if found else None

        with undisturbed(model):
            norms = fitting(passed, self.batch_size)
        return self.world.gather_rows(norms)

    def batches(self, pool: Pool, rows: Tensor, size: int) -> Generator[Batch, None, None]:
        """Yield samples in order, so many at a time, and tell of each batch when it has passed."""
        loader = Loader(
            pool,
            batch_size=self.batch_size,
            seed=0,
            device=self.device,
            channels_last=self.channels_last,
            workers=self.workers,
        )
        with closing(loader.sequential(rows, batch_size=size)) as batches:
            for batch in batches:
                yield batch
                if self.heard is not None:
                    self.heard(len(batch))

    def resolved(self, model: nn.Module, pool: Pool) -> Precision:
        """Turn `auto` into the precision that pays for this network; its FLOPs are counted only where they decide."""
        asked = self.precision == "auto" and has_bf16(self.device)
        gaining = asked and gains(model, count_flops(model, pool.gather(pool.rows[:1], self.device)))
        return pick_precision(self.precision, self.device, gaining)


def scan(
    model: nn.Module,
    pool: Pool,
    *,
    needs: Iterable[str],
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    head: str | None = None,
    progress: float | None = None,
    lr: float | None = None,
    validation: Pool | None = None,
    labelled: Pool | None = None,
    history: History | None = None,
    dropout_passes: int = 0,
    committee: Iterable[nn.Module] = (),
    seed: int = 0,
    channels_last: bool = True,
    precision: str = "auto",
    workers: int = 0,
    world: World | None = None,
    heard: Callable[[int], None] | None = None,
) -> Scan:
    """Collect what `needs` names over the pool's rows: eval mode, no gradients, no augmentation.

    The model is left as it was: training flags, random states, buffers, gradients, hooks. Where nothing that is needed
    comes from the model, it is not run at all. Features are the input of the Linear whose output is the logits; where
    the model returns something else, name what takes the features in: head="classifier". Members are the networks of a
    `committee`, or `dropout_passes` of the model with its dropout drawing from `seed`. Inputs go to `device`, by
    default the model's. Large networks run in bfloat16 where the hardware has it (docs/precision.md), unless
    precision="fp32"; what is returned is float32. `batch_size` is 128 on a CPU, 1024 elsewhere, if not given; it is
    halved where memory does not suffice. `workers` processes read a streamed pool ahead. The processes of a `world` run
    whole batches each; all get what one alone would. `heard` is told how many more samples have passed, for a bar.
    Raises: ConfigError: for an unknown need or head. SelectionError: for a need that nothing supplies, samples
        without a label, outputs that are not finite or not (batch, classes), a head that cannot be found.
    """
    given: dict[str, Any] = {
        "progress": progress,
        "lr": lr,
        "validation": validation,
        "labelled": labelled,
        "history": history,
    }
    committee = _checked_committee(committee, dropout_passes)
    given["members"] = committee or dropout_passes or None
    wanted = _checked_needs(needs, given)
    if len(pool.rows) == 0:
        raise SelectionError("the pool has no rows, so there is nothing to scan; give a pool with samples.")
    place = torch.device(device) if device is not None else _device_of(model)
    size = (128 if place.type == "cpu" else 1024) if batch_size is None else batch_size
    run = Pass(place, size, channels_last, precision, workers, world or World(), head, heard)
    parts = {name: given[name] for name in ("progress", "lr", "history") if given[name] is not None}
    head_bias: bool | None = True
    if wanted & FORWARD_PARTS:
        tables, head_bias = run.tables(model, pool, wanted & FORWARD_PARTS)
        parts.update(tables)
    if "targets" in wanted:
        parts["targets"] = _targets_of(pool)
    if "gradient_norms" in wanted:
        _targets_of(pool)
        parts["gradient_norms"] = run.gradient_norms(model, pool)
    if "members" in wanted:
        parts["members"] = _members(run, model, pool, committee, dropout_passes, seed)
    for name, other in (("validation", validation), ("labelled", labelled)):
        if name in wanted and other is not None:
            parts[name] = _beside(run, model, other, wanted & (FORWARD_PARTS | {"targets"}))
    return Scan(pool.rows, checked_parts(parts, pool.rows, pool.ids_of), head_bias)


def samples_passed(
    needs: frozenset[str], n: int, *, held: int = 0, labelled: int = 0, members: int = 0
) -> tuple[int, int]:
    """Return how many samples a scan of n passes through the network forward only, and how many backward too.

    `held` is the size of a pool given as `validation`, `labelled` that of one given so, `members` the number of dropout
    passes or networks.
    """
    beside = held * ("validation" in needs) + labelled * ("labelled" in needs)
    forward = n + beside if needs & FORWARD_PARTS else 0
    return forward + n * members * ("members" in needs), n * ("gradient_norms" in needs)


def forward(model: nn.Module, inputs: Inputs) -> Tensor:
    """Call a module on a tensor, a tuple (positional arguments) or a dict (keyword arguments)."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _members(
    run: Pass, model: nn.Module, pool: Pool, committee: Sequence[nn.Module], passes: int, seed: int
) -> tuple[Scan, ...]:
    """Return scans with logits, by each network of a committee or by one network with its dropout on."""
    only = frozenset({"logits"})
    if committee:
        found = [run.tables(network, pool, only)[0] for network in committee]
    else:
        found = [run.tables(model, pool, only, dropout=derive(seed, "dropout", i))[0] for i in range(passes)]
        if passes > 1 and all(torch.equal(one["logits"], found[0]["logits"]) for one in found):
            warnings.warn(
                f"all passes of {type(model).__name__} are alike: its dropout layers change nothing in its logits.",
                stacklevel=3,
            )
    return tuple(Scan(pool.rows, checked_parts(dict(tables), pool.rows, pool.ids_of)) for tables in found)


def _beside(run: Pass, model: nn.Module, pool: Pool, wanted: frozenset[str]) -> Scan:
    """Return a scan of other samples by the same model, with what the first one has."""
    tables, bias = run.tables(model, pool, wanted & FORWARD_PARTS) if wanted & FORWARD_PARTS else ({}, True)
    if "targets" in wanted:
        tables["targets"] = _targets_of(pool)
    return Scan(pool.rows, checked_parts(dict(tables), pool.rows, pool.ids_of), bias)


def _run(
    model: nn.Module, batches: Iterable[Batch], tap: HeadTap | None, n: int, dropout: int | None
) -> dict[str, Tensor]:
    """Fill float32 tables of logits, and of features where a tap is given."""
    tables: dict[str, Tensor] = {}
    done = 0
    for batch in batches:
        window, done = slice(done, done + len(batch)), done + len(batch)
        if dropout is not None:
            reseed(derive(dropout, "batch", int(batch.rows[0])), batch.targets.device)
        logits = forward(model, batch.inputs)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SelectionError(f"the model returns {shape}; a scan needs a tensor of logits, (batch, classes).")
        found = {"logits": logits} if tap is None else {"logits": logits, "features": tap.take(logits)}
        for name, values in found.items():
            if name not in tables:
                tables[name] = torch.empty(n, values.shape[1])
            tables[name][window] = values.float().cpu()
    return tables


def _checked_committee(committee: Iterable[nn.Module], passes: int) -> list[nn.Module]:
    """Return the networks of a committee. Raises: ConfigError: for fewer than 0 passes, or for passes beside them."""
    networks = list(committee)
    if passes < 0:
        raise ConfigError(f"dropout_passes is {passes}; it must be a number of passes, 0 for none.")
    if passes and networks:
        raise ConfigError("dropout_passes and committee both bring the members; leave one of them out.")
    return networks


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _checked_needs(needs: Iterable[str], given: Mapping[str, Any]) -> frozenset[str]:
    """Return the needs. Raises: as `scan` does, for one that is unknown or that nothing supplies."""
    wanted = frozenset(needs)
    brought: Callable[[str], bool] = (FORWARD_PARTS | {"targets", "gradient_norms"}).__contains__
    for name in sorted(wanted):
        if name not in SUPPLIERS:
            raise ConfigError(f"there is no part {name!r}; known: {', '.join(SUPPLIERS)}.{nearest(name, SUPPLIERS)}")
        if not brought(name) and given.get(name) is None:
            raise SelectionError(f"a scan of the pool does not bring {name}; {SUPPLIERS[name]}.")
    return wanted


def _targets_of(pool: Pool) -> Tensor:
    if pool.targets is None:
        raise SelectionError("the pool has no targets but the selection needs them; choose a selector without labels.")
    targets = pool.targets_of(pool.rows)
    if bool((targets < 0).any()):
        missing = pool.ids_of(pool.rows[targets < 0])
        raise SelectionError(f"{few(missing)} have no label but the selection needs it; scan labelled rows only.")
    return targets
