"""The few types that everything else speaks, and the legend of dimensions.

Dimensions in shapes: n pool, k kept, b batch, c classes, d features, o/i channels out/in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

if TYPE_CHECKING:
    from sartor.prune.masks import Masks
    from sartor.seen import Scan

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""What a module takes: a tensor, a tuple (passed as positional arguments) or a dict (as keyword arguments)."""


@dataclass(frozen=True, eq=False)
class Subset:
    """A weighted choice of pool rows: rows ascending and distinct, weights positive with mean 1.

    The solver's own weights are `weights * scale`; a selector without weights has ones and scale 1. `flops` is what the
    selector's own arithmetic took, 2 per multiply-add.
    """

    rows: Int64[Tensor, "k"]
    weights: Float[Tensor, "k"]
    scale: float = 1.0
    flops: float = 0.0

    @classmethod
    def of(cls, rows: Int64[Tensor, "k"], weights: Float[Tensor, "k"] | None = None, *, flops: float = 0.0) -> Subset:
        """Make a Subset of rows in any order and the solver's raw weights (ones if not given)."""
        rows, order = rows.detach().cpu().to(torch.int64).sort()
        if weights is None:
            return cls(rows, torch.ones(len(rows)), 1.0, flops)
        raw = weights.detach().cpu().double()[order]
        scale = float(raw.mean())
        return cls(rows, (raw / scale).float(), scale, flops)

    def raw(self) -> Subset:
        """Return the same rows with the solver's own weights, whatever their mean."""
        return Subset(self.rows, (self.weights.double() * self.scale).float(), 1.0, self.flops)

    def __len__(self) -> int:
        return len(self.rows)


@runtime_checkable
class Selector(Protocol):
    """Chooses k rows of a scan. `needs` names the parts of the scan that it reads.

    It may also have `least_per_class`, the number of samples that it needs of each class, `needs_linear_head`, true
    where it works with the gradient of the Linear that makes the logits, `arithmetic(n, k, *, classes, features)`, the
    FLOPs that its subsets of k out of n will tell (0, if it has not), `scores(scan)`, one number for each sample by
    which it ranks them, where it needs members, `members_from`, "dropout" or "snapshots", and `members_count`, and,
    where it needs the history, `least_visits`, how often each sample must have been looked at (once, if it has not).
    """

    @property
    def needs(self) -> frozenset[str]:
        """Parts out of {logits, features, targets, members, validation, labelled, history, gradients,
        gradient_norms, progress, lr}."""
        ...

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return exactly k distinct rows out of `scan.rows`."""
        ...


@runtime_checkable
class EpochSampler(Protocol):
    """Chooses what the next epoch trains on.

    It may also have `needs`, which of {history, subset, epoch, epochs} `sample` is given besides, under these names:
    the History of the mini-batches so far, the Subset that it gave last (None before the first), the number of the
    coming epoch in the training (from 0), and how many the training has. And `free`, true where it settles itself how
    many samples it takes: then `k` is the number of all rows, and its weights count as they are, weights * scale.
    One that looks at the network needs `network`, a NetworkView, by which every look is charged, and has
    `most_looks(n, k, first=)`, how many samples a draw scans at most, and of how many it takes the curvature, `scans`,
    the parts that it scans, and, as selectors do, `arithmetic`; it may name the classifier, `head`. One that remembers
    needs `memory`: what its `begin(rows)` has made before the training, saved with it (`state_dict`,
    `load_state_dict`); `memory.told` is what the metrics tell of a draw.
    """

    def due(self, epoch: int) -> bool:
        """Tell whether a new subset is drawn before this epoch (0 = the first epoch that the sampler governs)."""
        ...

    def sample(
        self,
        rows: Int64[Tensor, "n"],
        k: int,
        *,
        generator: torch.Generator,
        targets: Int64[Tensor, "n"] | None = None,
    ) -> Subset:
        """Return the rows for the coming epochs; `targets` are the labels of `rows`."""
        ...


@runtime_checkable
class Pruner(Protocol):
    """Decides which weights live, before and while the network trains.

    It may also have `needs_gradient`, false where its moves do without the gradients of dead weights (true, if it has
    not); `reached(step, total_steps)`, where the number of living weights changes: how far the masks have come after
    the update at that step, from dense, 0, to `masks.goal`, 1, and at step -1, before the first; `init_samples`, where
    `init` reads samples: how many, with `init_passes`, the forward-backward passes that it takes over each (1), and
    `check(model)`, which refuses what `init` would refuse, without them; `trials`, how often `finish` measures the
    training loss (it is then given `measure`, a function that does), and `finetune`, for how many epochs the network
    trains on under the settled masks, at the constant learning rate `finetune_lr`. Forecasts ask all of these.
    And `look(model, masks)`, which surrounds a look at the network (a scan, an evaluation) as `forward` does a pass.
    """

    @property
    def passes(self) -> int:
        """Forward-backward passes per optimiser step; each loss is divided by it."""
        ...

    def init(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        batches: Iterable[Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
    ) -> Masks:
        """Make the first masks and enforce them on `model`'s own parameters.

        `batches` are pairs (inputs, targets) on the model's device, `loss(logits, targets)` a mean over samples.
        """
        ...

    def forward(self, model: nn.Module, masks: Masks) -> AbstractContextManager[None]:
        """Surround a forward and backward pass; does nothing for most pruners."""
        ...

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Move the masks if it is time, between backward and the optimiser's step; False asks to skip that step."""
        ...

    def moves(self, step: int, total_steps: int) -> bool:
        """Tell whether the update at this step moves the masks; it needs the dense gradient then, or not at all."""
        ...

    def finish(self, model: nn.Module, masks: Masks) -> None:
        """Settle the masks after the last step; does nothing for most pruners, or when they are settled already."""
        ...
