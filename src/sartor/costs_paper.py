"""What PruneFuse calls the cost of a selector: a convention that counts parameters times input scalars, not FLOPs.

Recovered from the numbers of its Tables 2 and 3. A real ledger stands beside it in every run (docs/costs.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from sartor.data.arrays import named_tensors
from sartor.types import Inputs


def scalars_in(inputs: Inputs) -> int:
    """Return how many scalars a sample of these inputs has, d."""
    return sum(math.prod(tensor.shape[1:]) for _, tensor in named_tensors(inputs))


def training_cost(parameters: float, inputs: int, samples: int, epochs: int) -> float:
    """Return 6 P d n T: P parameters, d scalars of one input (3,072 for CIFAR), n samples, T epochs."""
    return 6.0 * parameters * inputs * samples * epochs


def scoring_cost(parameters: float, inputs: int, samples: int) -> float:
    """Return 2 P d n: n samples looked at once."""
    return 2.0 * parameters * inputs * samples


def selector_cost(
    parameters: float,
    inputs: int,
    n: int,
    sizes: Sequence[int],
    epochs: int,
    *,
    passes: int = 1,
    trained: Collection[int] | None = None,
    dense: float = 0.0,
    synced: Collection[int] = (),
    sync_epochs: int = 0,
) -> list[float]:
    """Return what the selector has cost when each of `sizes` labels are there; 0 for the first.

    Up to a size count all trainings on the smaller ones and the looks at what had no label then, `passes` each. Rounds
    (0 is the first size) that are not `trained` cost nothing; if not given, all are. In `synced` rounds a selector is
    not trained afresh: the `dense` network's parameters and its own train for `sync_epochs` each. The training on the
    last size, and that of the target, are not in it.
    """
    total, found = 0.0, [0.0]
    for number, size in enumerate(sizes[:-1]):
        if trained is None or number in trained:
            sync = number in synced
            total += training_cost(parameters + dense * sync, inputs, size, sync_epochs if sync else epochs)
            total += passes * scoring_cost(parameters, inputs, n - size)
        found.append(total)
    return found
