"""Samplers in a training: what they are given, what they remember, what their looks at the network cost."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.network_view import NetworkView
from sartor.recipes.timetable import Looks
from sartor.registry import SAMPLERS, SELECTORS, parse
from sartor.train import Trainer
from sartor.types import EpochSampler, Subset

OFFERED = frozenset({"history", "subset", "epoch", "epochs", "network", "memory"})
"""What a sampler may need."""


class Memory(Protocol):
    """What a sampler remembers; `told` is what the metrics tell of its last draw."""

    told: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take back what `state_dict` returned."""
        ...


def needs_of(sampler: EpochSampler | None) -> frozenset[str]:
    """Return which parts of OFFERED a sampler asks for."""
    return frozenset(getattr(sampler, "needs", ()))


def is_free(sampler: EpochSampler | None) -> bool:
    """Tell whether a sampler settles itself how many samples it takes."""
    return bool(getattr(sampler, "free", False))


def is_bounded(sampler: EpochSampler | None) -> bool:
    """Tell whether only the most that a sampler can cost is known before a training."""
    return is_free(sampler) or "network" in needs_of(sampler)


def names_sampler(spec: str) -> bool:
    """Tell whether `spec` names a sampler and no selector."""
    name = parse(spec)[0]
    return name in SAMPLERS and name not in SELECTORS


def check_needs(sampler: EpochSampler | None, name: str | None) -> None:
    """Raise ConfigError for a sampler that asks for what there is not."""
    unknown = needs_of(sampler) - OFFERED
    if unknown:
        known = ", ".join(sorted(OFFERED))
        raise ConfigError(f"{name} needs {', '.join(sorted(unknown))}; samplers are given {known}.")


def check_network(sampler: EpochSampler | None, model: nn.Module, pool: Pool) -> None:
    """Look at one sample as the sampler will, where it does, so that what it would refuse is refused at once."""
    if "network" in needs_of(sampler):
        first = pool.rows[:1]
        view = NetworkView.of(model, pool, head=getattr(sampler, "head", None))
        _ = view.scan(first, sampler.scans).head_bias  # type: ignore[union-attr]
        view.slope_and_curvature(first, torch.ones(1), generator=torch.Generator())


def looks_of_sampler(sampler: EpochSampler | None, n: int, k: int, *, first: bool) -> Looks:
    """Count the samples that a draw of k out of n passes through the network at most."""
    if "network" not in needs_of(sampler):
        return Looks()
    forward, curved = sampler.most_looks(n, k, first=first)  # type: ignore[union-attr]
    return Looks(forward, curved=curved)


def begin_memory(sampler: EpochSampler | None, pool: Pool) -> Memory | None:
    """Return the memory of a training that has not begun; None for a sampler without."""
    return sampler.begin(pool.rows) if "memory" in needs_of(sampler) else None  # type: ignore[union-attr]


def draw(
    sampler: EpochSampler,
    memory: Memory | None,
    trainer: Trainer,
    *,
    k: int,
    subset: Subset | None,
    epoch: int,
    epochs: int,
) -> Subset:
    """Let a sampler choose what the coming epochs train on; `subset` is what it gave last. Its looks are charged."""
    pool, needs = trainer.loader.pool, needs_of(sampler)
    offered = {
        "history": None if trainer.recorder is None else trainer.recorder.history,
        "subset": subset,
        "epoch": epoch,
        "epochs": epochs,
        "network": trainer.view(pool, head=getattr(sampler, "head", None)),
        "memory": memory,
    }
    given: dict[str, Any] = {"generator": trainer.run.generator("sample", epoch), "targets": pool.targets_of(pool.rows)}
    given |= {name: offered[name] for name in needs}
    if "network" not in needs:
        return sampler.sample(pool.rows, k, **given)
    with trainer.ledger.timed("select"), trainer.own_randomness("sample"):
        drawn = sampler.sample(pool.rows, k, **given)
    if drawn is not subset:
        trainer.ledger.charge("select", flops=drawn.flops)
    return drawn


def told_by(memory: Memory | None) -> dict[str, Any]:
    """Return what the metrics tell of a draw beside its subset."""
    return {} if memory is None else {"told": memory.told}
