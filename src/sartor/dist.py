"""Several processes as one: who takes part, which share is whose, and what they tell each other."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sartor.errors import ConfigError, SartorError
from sartor.torchrun import launched

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another one that is still there but says nothing."""
PAUSE = timedelta(seconds=5)
"""How long a process whose companion is gone waits to hear why."""
T = TypeVar("T")
_meetings = itertools.count()


class Lost(SartorError):
    """Another process has ended, or does not answer."""


@dataclass(frozen=True)
class World:
    """The processes that train one network together; `World()` is one process alone, where all of this is free.

    `rank` 0 is the first: it alone writes and prints. All methods that exchange something must be called by every
    process, in the same order; they raise Lost where one of them does not answer. Small things and tables go through
    gloo, gradients on a GPU through nccl.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    gpu_group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def shard(self, n: int, block: int = 1) -> slice:
        """Return which of n things in a row are this process' own, in whole blocks; the first has the most.

        >>> [World(rank, 3).shard(7) for rank in range(3)]
        [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
        >>> [World(rank, 2).shard(20, block=8) for rank in range(2)]
        [slice(0, 16, None), slice(16, 20, None)]
        """
        small, larger = divmod(-(-n // block), self.size)
        start = self.rank * small + min(self.rank, larger)
        stop = start + small + (self.rank < larger)
        return slice(min(start * block, n), min(stop * block, n))

    def own(self, purpose: str) -> str:
        """Name a purpose of randomness apart for each process; the first one draws as a process alone does."""
        return purpose if self.first else f"{purpose}/{self.rank}"

    def place(self, device: str) -> str:
        """Return this process' own device: with several processes, `cuda` is a GPU each.

        Raises: ConfigError: for one GPU by number, another kind of device, or fewer GPUs than processes.
        """
        if self.size == 1:
            return device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device not in ("cpu", "cuda"):
            raise ConfigError(f"device is {device!r}; {self.size} processes need cpu, or cuda (a GPU each).")
        if device == "cpu":
            return device
        here, gpus = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if here >= gpus:
            raise ConfigError(
                f"process {here} of this machine has no GPU, there are {gpus}; start at most {gpus} processes, or give "
                "--device cpu."
            )
        return f"cuda:{here}"

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Add up the gradients of all processes, in place, and return the sum of their losses.

        One exchange: all gradients in a row, which of them there are, and the loss. A gradient that only others have
        is made; where no process has one, there is none.
        """
        if self.size == 1:
            return float(loss.detach())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        there = torch.tensor([float(p.grad is not None) for p in trained], device=loss.device)
        bucket = torch.cat([*(row.detach().reshape(-1) for row in rows), there, loss.detach().view(1)])
        with answered():
            dist.all_reduce(bucket, group=self.gpu_group if bucket.is_cuda else self.group)
        *parts, notes = bucket.split([*(row.numel() for row in rows), len(trained) + 1])
        *found, total = notes.tolist()
        for parameter, row, part, known in zip(trained, rows, parts, found):
            if known:
                parameter.grad = row.copy_(part.view_as(row))
        return total

    def highest(self, number: int) -> int:
        """Return the largest of all processes' numbers."""
        if self.size == 1:
            return number
        value = torch.tensor([number])
        with answered():
            dist.all_reduce(value, dist.ReduceOp.MAX, group=self.group)
        return int(value)

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.highest(0)

    def gather_rows(self, rows: Tensor | None) -> Tensor:
        """Return the rows of all processes, one below the other, on the CPU; None where a process has none."""
        if self.size == 1:
            assert rows is not None
            return rows
        parts = [unpacked(content) for content in self._exchange(packed(None if rows is None else rows.cpu()))]
        return torch.cat([part for part in parts if part is not None])

    def broadcast(self, value: T) -> T:
        """Return the first process' value: tensors and plain values."""
        if self.size == 1:
            return value
        content = packed(value) if self.first else torch.empty(0, dtype=torch.uint8)
        length = self.highest(len(content))
        content = content if self.first else torch.empty(length, dtype=torch.uint8)
        with answered():
            dist.broadcast(content, 0, group=self.group)
        return value if self.first else unpacked(content)

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.size == 1:
            return
        mine = list(tensors)
        for tensor, value in zip(mine, self.broadcast([tensor.detach().cpu() for tensor in mine])):
            tensor.copy_(value)

    def same(self, what: str, digest: Callable[[], str]) -> None:
        """Raise SartorError unless all processes have the same digest; alone, it is not computed."""
        if self.size == 1:
            return
        digests = [bytes(content.tolist()) for content in self._exchange(torch.tensor(list(digest().encode())).byte())]
        others = [str(rank) for rank, found in enumerate(digests) if found != digests[0]]
        if others:
            raise SartorError(
                f"{what} of process {', '.join(others)} differ from those of process 0; all must run the same command "
                "on the same data, with the same versions, on machines of one kind."
            )

    def _exchange(self, content: Tensor) -> list[Tensor]:
        """Return all processes' bytes, by rank."""
        length = self.highest(len(content))
        padded = torch.zeros(length + 8, dtype=torch.uint8)
        padded[:8] = torch.tensor([len(content)]).view(torch.uint8)
        padded[8 : 8 + len(content)] = content
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with answered():
            dist.all_gather(found, padded, group=self.group)
        return [each[8 : 8 + int(each[:8].view(torch.int64))] for each in found]


def packed(value: Any) -> Tensor:
    """Return tensors and plain values as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


def unpacked(content: Tensor) -> Any:
    """Return what `packed` packed."""
    return torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)


@contextmanager
def answered() -> Iterator[None]:
    """Surround an exchange; where it fails, say that another process is lost."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].rpartition("cc:")[2].partition("] ")[2].partition(". ")[0]
        raise Lost(f"another process has ended without a word, or does not answer ({reason}).") from error


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, for as long as the block lasts; without torchrun, `World()`.

    Processes that are joined already, here or by the caller's own torch.distributed, stay so. An error in one process
    ends the block in all of them: the others hear the reason, and all errors but one are marked as told.
    Raises: SartorError: where the processes do not find each other, or one of them fails.
    """
    if dist.is_available() and dist.is_initialized():
        with _grouped() as world:
            yield world
    elif launched() > 1:
        with _met(), _grouped() as world:
            yield world
    else:
        yield World()


@contextmanager
def _grouped() -> Iterator[World]:
    """Make groups of the processes that have met. Leaving with an error closes the one that others may wait in."""
    size = dist.get_world_size()
    if size == 1:
        yield World()
        return
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    gpu_group = dist.new_group(backend="nccl", timeout=PATIENCE) if gpus else None
    world = World(dist.get_rank(), size, group, gpu_group)
    try:
        yield world
        world.wait()
        if gpus:
            dist.destroy_process_group(gpu_group)
    finally:
        dist.destroy_process_group(group)


@contextmanager
def _met() -> Iterator[None]:
    """Meet the processes that torchrun started; tell them the reason of an error, or hear it from them."""
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
        store = dist.PrefixStore(f"sartor/{next(_meetings)}", store)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SartorError(f"the {launched()} processes do not find each other ({reason}); start them again.") from error
    try:
        yield
    except Exception as error:
        heard = _told_once(store, rank, error)
        if heard is error:
            raise
        raise heard from error
    dist.destroy_process_group()


def _told_once(store: dist.Store, rank: int, error: Exception) -> Exception:
    """Tell the others why this process fails, or hear why another one did; only one error is not marked as told."""
    with suppress(RuntimeError):  # the store may have ended with its process
        if isinstance(error, Lost):
            with suppress(RuntimeError):  # nobody said a word
                store.wait(["reason"], PAUSE)
                error = SartorError(store.get("reason").decode())
                error.told = True
                return error
        if store.add("failed", 1) == 1:
            store.set("reason", f"process {rank} failed: {error}")
        elif isinstance(error, SartorError):
            error.told = True
    return error
