"""Batches of a pool: shuffled, weighted and augmented for training, or in order for scans and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sartor.data.arrays import map_inputs
from sartor.data.augment import Augment
from sartor.data.pool import Pool
from sartor.errors import ConfigError, DataError
from sartor.randomness import generator
from sartor.types import Inputs, Subset


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, on the loader's device: root rows, their positions in the subset (for stored logits), and the data."""

    rows: Int64[Tensor, "b"]
    positions: Int64[Tensor, "b"]
    inputs: Inputs
    targets: Int64[Tensor, "b"]
    weights: Float[Tensor, "b"]

    def __len__(self) -> int:
        return len(self.rows)


def even_sizes(k: int, batch_size: int) -> list[int]:
    """Split k samples into max(1, floor(k / batch_size + 1/2)) batches whose sizes differ by at most one.

    A tiny last batch would spoil the statistics of batch norm. Sizes lie between 3/4 and 3/2 of `batch_size` (less for
    smaller k). Raises: ConfigError: for a batch size below 1. DataError: for k below 1.

    >>> even_sizes(130, 32)
    [33, 33, 32, 32]
    """
    _check_batch_size(batch_size)
    if k < 1:
        raise DataError(f"there are {k} samples to make batches of; give at least one.")
    batches = max(1, (2 * k + batch_size) // (2 * batch_size))
    small, larger = divmod(k, batches)
    return [small + 1] * larger + [small] * (batches - larger)


class Loader:
    """Makes batches of a pool whose tensors stay on `device`.

    The order of an epoch depends on (seed, epoch), what augmentation draws on (seed, epoch, id).
    Raises: DataError: if `augment` does not fit the pool's inputs. ConfigError: for a batch size below 1.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        _check_batch_size(batch_size)
        self.augment = augment or Augment()
        self.augment.check(pool.inputs)
        self.pool = pool
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.channels_last = channels_last

    def epoch(self, subset: Subset, epoch: int, *, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Yield the batches `start` to `stop` of an epoch over the subset, shuffled and augmented.

        Batches that are left out cost nothing and change nothing in the others.
        Raises: DataError: for rows out of the pool's view or without a label. ConfigError: for batches out of reach.
        """
        sizes = even_sizes(len(subset), self.batch_size)
        stop = len(sizes) if stop is None else stop
        if not 0 <= start <= stop <= len(sizes):
            raise ConfigError(f"batches {start} to {stop} are asked for; the epoch has {len(sizes)} batches.")
        self.pool.check_rows(subset.rows)
        unlabelled = subset.rows[self.pool.targets_of(subset.rows) < 0]
        if len(unlabelled):
            name = self.pool.ids[int(unlabelled[0])]
            raise DataError(
                f"{len(unlabelled)} samples have no label, such as {name!r}; train on labelled_rows() only."
            )
        positions = torch.randperm(len(subset), generator=generator(self.seed, "order", epoch))
        ends = list(accumulate(sizes, initial=0))[start : stop + 1]
        spans = list(pairwise(ends))
        return self._batches(subset.rows[positions], positions, subset.weights[positions], spans, epoch)

    def sequential(self, rows: Int64[Tensor, "n"], *, batch_size: int) -> Iterator[Batch]:
        """Yield the rows in their order, without shuffle or augmentation, weights 1; labels are -1 where missing."""
        _check_batch_size(batch_size)
        ends = [*range(0, len(rows), batch_size), len(rows)]
        return self._batches(rows, torch.arange(len(rows)), torch.ones(len(rows)), list(pairwise(ends)), None)

    def _batches(
        self,
        rows: Int64[Tensor, "n"],
        positions: Int64[Tensor, "n"],
        weights: Float[Tensor, "n"],
        spans: list[tuple[int, int]],
        epoch: int | None,
    ) -> Iterator[Batch]:
        """Cut what belongs to a whole epoch into batches; `epoch` is None where nothing is augmented."""
        keys = None if epoch is None or not self.augment else self.pool.keys_of(rows).to(self.device)
        targets = self.pool.targets_of(rows).to(self.device)
        rows, positions, weights = rows.to(self.device), positions.to(self.device), weights.to(self.device)
        for begin, end in spans:
            inputs = self.pool.gather(rows[begin:end], self.device)
            if keys is not None and epoch is not None and isinstance(inputs, Tensor):
                inputs = self.augment(inputs, keys[begin:end], seed=self.seed, epoch=epoch)
            if self.channels_last:
                inputs = map_inputs(_channels_last, inputs)
            part = slice(begin, end)
            yield Batch(rows[part], positions[part], inputs, targets[part], weights[part])


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be at least 1.")


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
