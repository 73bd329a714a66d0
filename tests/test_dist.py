"""Several processes as one: shares, sums and gathers are those of one process, and nobody waits for the dead."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sartor.dist
from sartor.dist import World, joined
from sartor.errors import ConfigError, SartorError
from sartor.torchrun import launched, refuse_company
from side_by_side import side_by_side, values


@given(n=st.integers(0, 40), size=st.integers(1, 7))
def test_shares_are_even_and_make_up_the_whole(n: int, size: int) -> None:
    shares = [list(range(n))[World(rank, size).shard(n)] for rank in range(size)]
    assert [thing for share in shares for thing in share] == list(range(n))
    lengths = [len(share) for share in shares]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


def test_one_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", None)
    with joined() as world:
        assert world == World() == World(0, 1)
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([3.0, torch.nan])
    before, rows, value = weight.grad.clone(), torch.ones(3), {"a": 1}
    assert world.sum_gradients([weight], torch.tensor(2.5, requires_grad=True)) == 2.5
    assert torch.equal(weight.grad, before) or weight.grad.isnan().equal(before.isnan())
    assert world.gather_rows(rows) is rows
    assert world.broadcast(value) is value
    assert world.highest(-3) == -3
    assert world.own("forward") == "forward"
    assert world.place("cuda:7") == "cuda:7"
    world.share([rows])
    world.same("nothing", lambda: pytest.fail("the digest of one process alone is not needed"))


def exchanges(rank: int) -> dict:
    """All that processes tell each other, once."""
    with joined() as world:
        assert (world.rank, world.size) == (rank, 3)
        table = torch.full((2 - rank, 2), float(rank)) if rank < 2 else None  # two rows, one row, none
        shared = [torch.full((2, 2), rank), torch.tensor(rank == 1), torch.empty(0)]
        world.share(shared)
        world.same("the answer", lambda: "42")
        gathered = [world.gather_rows(table), world.gather_rows(torch.tensor([rank == 1]))]
        value = {"rank": rank, "weights": torch.tensor([rank / 3, -0.0]), "names": ["a", None]}
        return {
            "table": gathered[0],
            "flags": gathered[1].tolist(),
            "highest": world.highest(-rank) * 10 + world.highest(rank),
            "broadcast": world.broadcast(value),
            "shared": [tensor.tolist() for tensor in shared],
            "own": world.own("forward"),
        }


def test_what_processes_tell_each_other() -> None:
    found = values(side_by_side(exchanges, 3))
    for each in found:
        assert torch.equal(each["table"], torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
        assert each["flags"] == [False, True, False]
        assert each["highest"] == 2
        assert each["broadcast"]["rank"] == 0
        assert each["broadcast"]["names"] == ["a", None]
        assert torch.equal(each["broadcast"]["weights"].signbit(), torch.tensor([False, True]))
        assert each["shared"] == [[[0, 0], [0, 0]], False, []]
    assert len({each["own"] for each in found}) == 3


def summed(rank: int) -> list:
    """Gradients in two memory layouts, one that only one process has, one that nobody has, one that is not wanted."""
    with joined() as world:
        image = nn.Parameter(torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last))
        lonely, unused, frozen = (
            nn.Parameter(torch.zeros(2)),
            nn.Parameter(torch.zeros(4)),
            nn.Parameter(torch.zeros(1)),
        )
        frozen.requires_grad_(False)
        image.grad = (torch.arange(24.0).view(2, 3, 2, 2) * (1 + rank)).contiguous(memory_format=torch.channels_last)
        if rank == 1:
            lonely.grad = torch.tensor([1.0, torch.inf])
        total = world.sum_gradients([image, frozen, lonely, unused], torch.tensor(0.5 + rank))
        kept = image.grad.is_contiguous(memory_format=torch.channels_last)
        return [total, image.grad, lonely.grad, unused.grad, frozen.grad, kept]


def test_gradients_and_losses_are_summed_in_place_whatever_their_layout() -> None:
    for total, image, lonely, unused, frozen, kept in values(side_by_side(summed)):
        assert total == 2.0
        assert torch.equal(image, torch.arange(24.0).view(2, 3, 2, 2) * 3)
        assert kept
        assert torch.equal(lonely, torch.tensor([1.0, torch.inf]))
        assert unused is None
        assert frozen is None


def different(rank: int) -> None:
    with joined() as world:
        world.same("the subsets", lambda: "a" if rank != 1 else "b")


def test_a_process_that_differs_is_named_once() -> None:
    ended = side_by_side(different, 3)
    assert {each.error for each in ended} == {ended[0].error}
    assert ended[0].error.startswith("the subsets of process 1 differ from those of process 0; ")
    assert sorted(each.told for each in ended) == [False, True, True]


def failing(rank: int) -> None:
    with joined() as world:
        world.highest(rank)
        if rank == 1:
            raise ConfigError("the data are not on this machine.")
        world.highest(rank)


def breaking(rank: int) -> None:
    with joined(), joined() as world:  # as the command line and fit do
        if rank == 0:
            raise ZeroDivisionError("by zero")
        world.gather_rows(torch.ones(1))


def dying(rank: int) -> None:
    with joined() as world:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        world.broadcast("hello")


def test_an_error_in_one_process_ends_the_others_with_its_reason() -> None:
    start = time.monotonic()
    first, second = side_by_side(failing)
    assert (second.kind, second.error, second.told) == ("ConfigError", "the data are not on this machine.", False)
    assert (first.kind, first.error) == ("SartorError", "process 1 failed: the data are not on this machine.")
    assert first.told
    first, second = side_by_side(breaking)
    assert (first.kind, second.kind) == ("ZeroDivisionError", "SartorError")
    assert second.error == "process 0 failed: by zero"
    assert second.told
    assert time.monotonic() - start < 10


def test_a_process_that_is_killed_ends_the_others_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sartor.dist, "PAUSE", timedelta(seconds=0.5))
    start = time.monotonic()
    first, second = side_by_side(dying)
    assert second.kind == "killed"
    assert first.error.startswith("another process has ended without a word, or does not answer (")
    assert not first.told
    assert time.monotonic() - start < 20


def twice(rank: int) -> list:
    """A failed meeting and a good one in the same process, then one inside another."""
    results = []
    for failed in (True, False):
        try:
            with joined() as world:
                if failed:
                    world.same("the first try", lambda: str(rank))
                with joined() as inner:
                    results.append(inner.highest(rank))
                results.append(world.highest(rank))
        except SartorError as error:
            results.append(type(error).__name__)
    return results


def test_processes_may_meet_again() -> None:
    assert values(side_by_side(twice)) == [["SartorError", 1, 1]] * 2


def own_group(rank: int) -> list:
    """A script that has joined torch.distributed by itself."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    with joined() as world:
        found = world.highest(rank + 5)
    still_there = dist.is_initialized()
    dist.destroy_process_group()
    return [found, still_there]


def test_a_group_that_the_caller_made_is_used_and_stays() -> None:
    assert values(side_by_side(own_group)) == [[6, True]] * 2


def test_devices_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert World(1, 2).place("auto") == World(1, 2).place("cuda") == "cuda:1"
    assert World(1, 2).place("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first process of a second machine
    assert World(2, 4).place("auto") == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"process 2 of this machine has no GPU, there are 2; start at most 2"):
        World(2, 3).place("auto")
    for device in ("cuda:0", "mps"):
        with pytest.raises(ConfigError, match=f"device is '{device}'; 2 processes need cpu, or cuda"):
            World(0, 2).place(device)


def test_what_works_alone_is_refused_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_company("sartor report", "start it without")
    monkeypatch.setenv("WORLD_SIZE", "4")  # of something that is not torchrun
    assert launched() == 1
    refuse_company("sartor report", "start it without")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert launched() == 4
    with pytest.raises(ConfigError, match="sartor report cannot be started by torchrun; start it without") as caught:
        refuse_company("sartor report", "start it without")
    assert caught.value.told


def test_no_other_file_knows_how_processes_talk() -> None:
    source = Path(sartor.dist.__file__).parent
    knowing = {path.name for path in source.rglob("*.py") if "torch.distributed" in path.read_text(encoding="utf-8")}
    assert knowing == {"dist.py"}
