"""Batches of a pool: shuffled, weighted and augmented for training, or in order for scans and evaluation."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sartor.data.arrays import map_inputs
from sartor.data.augment import Augment
from sartor.data.pool import Pool
from sartor.dist import World
from sartor.errors import ConfigError, DataError
from sartor.randomness import generator
from sartor.types import Inputs, Subset


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, on the loader's device: root rows, their positions in the subset (for stored logits), and the data.

    `whole` are the weights of the whole mini-batch, of which several processes have a part each.
    """

    rows: Int64[Tensor, "b"]
    positions: Int64[Tensor, "b"]
    inputs: Inputs
    targets: Int64[Tensor, "b"]
    weights: Float[Tensor, "b"]
    whole: Float[Tensor, "m"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """Samples in the whole mini-batch."""
        return len(self.whole)


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
    """Makes batches on `device`: of tensors that stay there, or of a streamed pool, read ahead by `workers` processes.

    The order of an epoch depends on (seed, epoch), what augmentation draws on (seed, epoch, id): how samples are stored
    and how many processes read them changes nothing. Close an iterator that is left half way, to end its processes.
    In a `world` of several processes each makes its own part of every mini-batch of an epoch.
    Raises: DataError: if `augment` does not fit the pool's inputs. ConfigError: for a batch size below 1, or fewer
        than 0 workers.
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
        workers: int = 0,
        world: World | None = None,
    ) -> None:
        _check_batch_size(batch_size)
        check_workers(workers)
        self.augment = augment or Augment()
        self.augment.check(pool.inputs)
        self.pool = pool
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.channels_last = channels_last
        self.workers = workers
        self.world = world or World()

    def epoch(
        self,
        subset: Subset,
        epoch: int,
        *,
        start: int = 0,
        stop: int | None = None,
        kept: Bool[Tensor, "k"] | None = None,
    ) -> Generator[Batch, None, None]:
        """Yield the batches `start` to `stop` of an epoch over the subset, shuffled and augmented.

        Of each batch there are those samples alone whose positions in the subset are `kept`, all if it is not given.
        What is left out costs nothing and changes nothing in the rest; each batch must keep a sample.
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
        order = torch.randperm(len(subset), generator=generator(self.seed, "order", epoch))
        batches = order.split(sizes)[start:stop]
        if kept is not None:
            batches = tuple(batch[kept[batch]] for batch in batches)
        lengths = [len(batch) for batch in batches]
        wholes = subset.weights[torch.cat([*batches, order[:0]])].to(self.device).split(lengths)
        parts = [self.world.shard(length) for length in lengths]
        mine = [batch[part] for batch, part in zip(batches, parts)]
        positions = torch.cat([*mine, order[:0]])
        return self._batches(subset.rows[positions], positions, wholes, parts, epoch)

    def sequential(self, rows: Int64[Tensor, "n"], *, batch_size: int) -> Generator[Batch, None, None]:
        """Yield the rows in their order, without shuffle or augmentation, weights 1; labels are -1 where missing."""
        _check_batch_size(batch_size)
        wholes = torch.ones(len(rows), device=self.device).split(batch_size) if len(rows) else ()
        return self._batches(rows, torch.arange(len(rows)), wholes, [slice(0, len(whole)) for whole in wholes], None)

    def _batches(
        self,
        rows: Int64[Tensor, "n"],
        positions: Int64[Tensor, "n"],
        wholes: Sequence[Float[Tensor, "m"]],
        parts: list[slice],
        epoch: int | None,
    ) -> Generator[Batch, None, None]:
        """Cut what belongs to a whole epoch into its parts of mini-batches; `epoch` is None where nothing is augmented.

        `wholes` are the weights of whole mini-batches; of each, `parts` says what is among `rows`.
        """
        keys = None if epoch is None or not self.augment else self.pool.keys_of(rows).to(self.device)
        targets, stored = self.pool.targets_of(rows).to(self.device), rows
        rows, positions = rows.to(self.device), positions.to(self.device)
        ends = list(accumulate((part.stop - part.start for part in parts), initial=0))
        with closing(self.pool.gather_each(stored, ends, self.device, self.workers)) as read:
            for (begin, end), inputs, whole, part in zip(pairwise(ends), read, wholes, parts, strict=True):
                if keys is not None and epoch is not None and isinstance(inputs, Tensor):
                    inputs = self.augment(inputs, keys[begin:end], seed=self.seed, epoch=epoch)
                if self.channels_last:
                    inputs = map_inputs(_channels_last, inputs)
                span = slice(begin, end)
                yield Batch(rows[span], positions[span], inputs, targets[span], whole[part], whole)


def check_workers(workers: int) -> None:
    """Raise ConfigError for fewer than 0 processes."""
    if workers < 0:
        raise ConfigError(f"workers is {workers}; it must be 0 (read in this process) or a number of processes.")


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be at least 1.")


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
