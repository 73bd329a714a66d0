"""Data that are read when they are asked for are, to everything above, the same data."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_pictures import pixels_of, write_folder
from PIL import Image
from torch.utils.data import Dataset

from sartor.data import Augment, Loader, Pool, Preprocess, corrupt, hold_out
from sartor.data.folders import imagefolder
from sartor.data.loader import Batch
from sartor.data.source import Resident, digests_of, packed, unpacked
from sartor.data.workers import AHEAD, read_ahead
from sartor.errors import ConfigError, DataError
from sartor.types import Subset


def same(first: Batch, second: Batch) -> bool:
    names = ("rows", "positions", "inputs", "targets", "weights")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


@dataclass
class Numbers(Dataset[tuple[torch.Tensor, int]]):
    """Sample i holds i; the hook, if there is one, is called with i first, in whatever process reads it."""

    n: int = 40
    hook: Callable[[int], Any] | None = None

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        if self.hook is not None:
            self.hook(number)
        return torch.full((2, 3), float(number)), number % 3


def streamed_numbers(hook: Callable[[int], Any], n: int = 40) -> Pool:
    """A streamed pool whose samples call the hook from now on."""
    dataset = Numbers(n)
    pool = Pool.from_dataset(dataset, streamed=True)
    dataset.hook = hook
    return pool


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Pool]:
    """The same pictures in memory and streamed."""
    root = write_folder(tmp_path_factory.mktemp("pets"), 16, mixed=True)
    return imagefolder(root, size=10).train, imagefolder(root, size=10, streamed=True).train


class TestTheSameBatches:
    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_epochs_whole_and_from_the_middle(self, both: tuple[Pool, Pool], workers: int) -> None:
        resident, streamed = both
        options: dict[str, Any] = {"batch_size": 6, "seed": 3, "augment": Augment(crop=2, flip=True)}
        expected = Loader(resident, **options)
        loader = Loader(streamed, workers=workers, channels_last=workers == 1, **options)
        some = Subset.of(resident.rows[3::2], torch.arange(1.0, 1.0 + len(resident.rows[3::2])))
        for subset, epoch, start, stop in ((Subset.of(resident.rows), 0, 0, None), (some, 1, 0, None), (some, 2, 1, 3)):
            first = list(expected.epoch(subset, epoch, start=start, stop=stop))
            second = list(loader.epoch(subset, epoch, start=start, stop=stop))
            assert len(first) == len(second)
            assert all(map(same, first, second))
        rows = streamed.rows[:13].flip(0)
        for first_batch, second_batch in zip(
            expected.sequential(rows, batch_size=5), loader.sequential(rows, batch_size=5), strict=True
        ):
            assert same(first_batch, second_batch)

    def test_another_epoch_may_begin_while_one_is_read_ahead(self, both: tuple[Pool, Pool]) -> None:
        """A subset that is selected anew in mid-epoch is not fed with batches of the old one."""
        resident, streamed = both
        first, second = (Subset.of(resident.rows[begin::2]) for begin in (0, 1))
        loader = Loader(streamed, batch_size=4, seed=0, workers=2)
        old = loader.epoch(first, 0)
        next(old)
        batches = list(loader.epoch(second, 1))
        assert all(map(same, batches, Loader(resident, batch_size=4, seed=0).epoch(second, 1)))
        rest = list(Loader(resident, batch_size=4, seed=0).epoch(first, 0, start=1))
        assert all(map(same, old, rest))

    def test_views_noise_and_hold_out(self, both: tuple[Pool, Pool]) -> None:
        made = [[*hold_out(pool, 0.25, seed=1)] for pool in both]
        noisy = [corrupt(train, 0.3, seed=1) for train, _ in made]
        assert noisy[0].fingerprint() == noisy[1].fingerprint() != made[0][0].fingerprint()
        for first, second in zip(made[0], made[1], strict=True):
            assert first is not None
            assert second is not None
            assert first.fingerprint() == second.fingerprint()
            assert torch.equal(first.gather(first.rows), second.gather(second.rows))  # type: ignore[arg-type]
        assert repr(both[1]).endswith("torch.uint8, classes 3, streamed)")
        assert not repr(both[0]).endswith("streamed)")

    def test_gather_keeps_the_order_asked_for(self, both: tuple[Pool, Pool]) -> None:
        for rows in (both[1].rows[[5, 0, 5, 2]], both[1].rows[:0]):
            assert torch.equal(both[0].gather(rows), both[1].gather(rows))  # type: ignore[arg-type]

    def test_global_random_states_are_left_alone(self, both: tuple[Pool, Pool]) -> None:
        state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        list(Loader(both[1], batch_size=8, seed=0, workers=1).sequential(both[1].rows, batch_size=8))
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == numbers).all()  # type: ignore[index]

    def test_fewer_than_no_workers(self, both: tuple[Pool, Pool]) -> None:
        with pytest.raises(ConfigError, match="workers is -1; it must be 0"):
            Loader(both[1], batch_size=8, seed=0, workers=-1)


class TestWorkers:
    def test_they_end_with_the_iterator_left_half_way(self) -> None:
        pool = streamed_numbers(lambda _: None)
        batches = Loader(pool, batch_size=2, seed=0, workers=2).sequential(pool.rows, batch_size=2)
        next(batches)
        assert len(multiprocessing.active_children()) == 2
        batches.close()
        assert not multiprocessing.active_children()
        again = Loader(pool, batch_size=2, seed=0, workers=2).sequential(pool.rows, batch_size=2)
        next(again)
        del again
        assert not multiprocessing.active_children()

    def test_they_end_with_the_last_batch(self) -> None:
        pool = streamed_numbers(lambda _: None)
        assert len(list(Loader(pool, batch_size=9, seed=0, workers=2).sequential(pool.rows, batch_size=9))) == 5
        assert not multiprocessing.active_children()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_they_read_a_few_batches_ahead_and_no_more(self, workers: int) -> None:
        count = multiprocessing.get_context("fork").Value("i", 0)

        def counting(_: int) -> None:
            with count.get_lock():
                count.value += 1

        pool = streamed_numbers(counting)
        batches = Loader(pool, batch_size=1, seed=0, workers=workers).sequential(pool.rows, batch_size=1)
        for taken in (1, 2, 3):
            next(batches)
            deadline = time.monotonic() + 5
            while count.value < taken + AHEAD * workers and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)
            assert count.value == taken + AHEAD * workers
        batches.close()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_sample_that_fails_is_named_after_those_before_it(self, workers: int) -> None:
        def failing(number: int) -> None:
            if number == 7:
                raise ValueError("no such voxel")

        pool = streamed_numbers(failing)
        batches = Loader(pool, batch_size=2, seed=0, workers=workers).sequential(pool.rows, batch_size=2)
        assert [next(batches).rows.tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
        with pytest.raises(
            DataError, match=r"sample '07' \(item 7 of Numbers\) cannot be read \(ValueError: no such voxel\)"
        ):
            next(batches)
        assert not multiprocessing.active_children()

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_file_that_has_changed_is_named(self, tmp_path: Path, workers: int) -> None:
        pool = imagefolder(write_folder(tmp_path), streamed=True).train
        name = pool.ids_of(pool.rows)[4]
        loader = Loader(pool, batch_size=30, seed=0, workers=workers)
        Image.fromarray(pixels_of(2, 77)).save(tmp_path / name)
        with pytest.raises(
            DataError, match=rf"sample '{name}' \({tmp_path}/{name}\) reads otherwise than when the pool"
        ):
            list(loader.epoch(Subset.of(pool.rows), 0))
        Image.new("RGB", (9, 9)).save(tmp_path / name)
        with pytest.raises(DataError, match=rf"sample '{name}' .* has another size"):
            list(loader.epoch(Subset.of(pool.rows), 0))
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match=rf"sample '{name}' .* cannot be read any more \(the file is empty\)"):
            pool.gather(pool.rows)

    def test_one_that_is_killed_ends_the_pass_with_one_line(self) -> None:
        pool = streamed_numbers(lambda number: number == 5 and os.kill(os.getpid(), signal.SIGKILL))
        loader = Loader(pool, batch_size=2, seed=0, workers=1)
        with pytest.raises(DataError, match="was killed, for lack of memory perhaps; use fewer --workers"):
            list(loader.sequential(pool.rows, batch_size=2))
        assert not multiprocessing.active_children()

    def test_signals_are_left_to_the_first_process(self) -> None:
        def interrupted(number: int) -> None:
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)

        pool = streamed_numbers(interrupted, n=8)
        assert len(list(Loader(pool, batch_size=2, seed=0, workers=1).sequential(pool.rows, batch_size=2))) == 4

    def test_they_end_when_their_parent_is_killed(self) -> None:
        pool = streamed_numbers(lambda _: None)
        reading, writing = os.pipe()
        parent = os.fork()
        if parent == 0:
            batches = Loader(pool, batch_size=2, seed=0, workers=2).sequential(pool.rows, batch_size=2)
            next(batches)
            numbers = [child.pid for child in multiprocessing.active_children()]
            os.write(writing, " ".join(map(str, numbers)).encode())
            time.sleep(60)
            os._exit(1)
        workers = [int(number) for number in os.read(reading, 100).split()]
        assert len(workers) == 2
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        deadline = time.monotonic() + 10
        while any(map(is_running, workers)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(map(is_running, workers))
        os.close(reading)
        os.close(writing)


def is_running(number: int) -> bool:
    """Tell whether there is a process that has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Items(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


ITEMS: dict[str, Callable[[int], Any]] = {
    "bytes": lambda i: (np.full((3, 4, 5), i, dtype=np.uint8), i % 2),
    "double": lambda i: (np.full((4,), i / 3), np.int64(i % 2)),
    "half": lambda i: (torch.full((2, 2), i, dtype=torch.bfloat16), i % 2),
    "numbers": lambda i: (float(i), None if i == 3 else i % 2),
    "tuple": lambda i: ((torch.tensor([i]), np.array([i % 2 == 0])), i % 2),
    "dict": lambda i: ({"words": torch.arange(3) + i, "present": torch.zeros(0)}, i % 2),
    "unlabelled": lambda i: torch.full((2,), float(i)),
    "complex": lambda i: (torch.full((2,), complex(i, 1)), i % 2),
}


class TestFromDataset:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("kind", ITEMS)
    def test_any_kind_of_item(self, kind: str, workers: int) -> None:
        items = Items([ITEMS[kind](i) for i in range(7)])
        ids = [f"s{(3 * i) % 7}" for i in range(7)]
        resident, streamed = (Pool.from_dataset(items, ids=ids, streamed=flag) for flag in (False, True))
        assert streamed.streamed
        assert streamed.ids == resident.ids
        assert streamed.classes == resident.classes
        assert streamed.fingerprint() == resident.fingerprint()
        batches = [
            list(Loader(pool, batch_size=3, seed=0, workers=workers).sequential(pool.rows, batch_size=3))
            for pool in (resident, streamed)
        ]
        for first, second in zip(*batches, strict=True):
            torch.testing.assert_close(second.inputs, first.inputs, rtol=0, atol=0)
            assert torch.equal(first.targets, second.targets)

    def test_images_are_normalised(self) -> None:
        items = Items([ITEMS["bytes"](i) for i in range(4)])
        pool = Pool.from_dataset(items, preprocess=Preprocess((0.1,) * 3, (0.5,) * 3), streamed=True)
        expected = (torch.full((1, 3, 4, 5), 2 / 255) - 0.1) / 0.5
        torch.testing.assert_close(pool.gather(torch.tensor([2])), expected)

    def test_a_random_transform_is_found_out(self) -> None:
        generator = torch.Generator().manual_seed(0)

        class Jittered(Numbers):
            def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
                image, label = super().__getitem__(number)
                return image + torch.rand(1, generator=generator), label

        pool = Pool.from_dataset(Jittered(), streamed=True)
        with pytest.raises(DataError, match=r"sample '00' \(item 0 of Jittered\) reads otherwise .*recipe's augment"):
            pool.gather(pool.rows)

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "no samples"),
            ([(torch.zeros(2), 0), torch.zeros(2)], r"sample 'y' is no pair \(x, y\) but 'x' is"),
            ([(torch.zeros(2), 0), (torch.zeros(3), 0)], r"sample 'y' is of shape \(3,\) but that of 'x' is of shape"),
            ([(torch.zeros(2), 0), ((torch.zeros(2),) * 2, 0)], "sample 'y' is a tuple of 2|'y' is tuple"),
            ([(torch.zeros(2), 0), (torch.zeros(2, dtype=torch.int32), 0)], "sample 'y' holds numbers of another type"),
            ([(torch.zeros(2), 0.5), (torch.zeros(2), 0)], "whole numbers"),
            ([("text", 0)], "is str; .*transform"),
        ],
    )
    def test_items_that_differ_are_refused(self, items: list[Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            Pool.from_dataset(Items(items), ids=["x", "y"][: len(items)], streamed=True)

    def test_a_source_has_its_samples_in_order(self) -> None:
        source = Pool.from_dataset(Numbers(3), streamed=True)._storage.source
        assert Pool.from_source(source, [0, 1, 1], ids=["a", "b", "c"]).classes == 2  # type: ignore[arg-type]
        for ids in (["b", "a", "c"], ["a", "a", "b"]):
            with pytest.raises(DataError, match=r"order of their ids|more than once"):
                Pool.from_source(source, ids=ids)  # type: ignore[arg-type]


class TestBytes:
    @given(
        st.sampled_from([torch.uint8, torch.bool, torch.int64, torch.float32, torch.bfloat16, torch.complex64]),
        st.lists(st.integers(0, 3), max_size=3),
        st.integers(1, 4),
    )
    def test_packing_loses_nothing(self, dtype: torch.dtype, shape: list[int], n: int) -> None:
        values = torch.randint(0, 2, (n, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
        inputs = {"strided": values.repeat(2, *[1] * len(shape))[::2], "x": values}
        layout = {name: torch.empty_like(tensor, device="meta") for name, tensor in inputs.items()}
        back = unpacked(packed(inputs), layout)
        assert isinstance(back, dict)
        for name, tensor in inputs.items():
            assert back[name].dtype == dtype
            assert torch.equal(back[name], tensor)

    def test_a_digest_is_that_of_the_bytes(self) -> None:
        import hashlib

        left, right = torch.arange(6.0).view(2, 3), torch.tensor([[7], [8]], dtype=torch.uint8)
        made = digests_of((left, right))
        for row in range(2):
            expected = hashlib.sha256(left[row].numpy().tobytes() + right[row].numpy().tobytes()).digest()
            assert made[row].tobytes() == expected

    def test_digests_that_are_kept_are_those_of_what_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sartor.data.source.BLOCK", 3)
        monkeypatch.setattr("sartor.data.source.KEPT", 4)
        inputs = {"a": torch.arange(20.0).view(10, 2), "b": torch.arange(10)}
        held, generator = Resident(inputs), torch.Generator().manual_seed(0)
        for _ in range(20):
            rows = torch.randperm(10, generator=generator)[: int(torch.randint(11, (), generator=generator))]
            for _ in range(2):
                assert (held.digests(rows) == digests_of(held.take(rows, None))).all()
            inputs["b"][int(torch.randint(10, (), generator=generator))] += 1
            assert len(held.hashed) <= 4

    def test_no_batches(self) -> None:
        source = Pool.from_dataset(Numbers(3), streamed=True)._storage.source
        assert list(read_ahead(source, [], 2)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_part_on_its_own_is_that_part_in_rows_of_its_own(streamed: bool) -> None:
    whole = Pool.from_dataset(Numbers(20), streamed=streamed)
    wrong = corrupt(whole, 0.5, seed=0)
    rows = torch.tensor([3, 4, 7, 19])
    part, own = wrong.only(rows), wrong.only(rows).alone(None)
    assert own.streamed == streamed
    assert own.rows.tolist() == [0, 1, 2, 3]
    assert own.fingerprint() == part.fingerprint()
    assert list(own.ids) == part.ids_of(rows)
    for number, row in enumerate(rows.tolist()):
        place, there = torch.tensor([number]), torch.tensor([row])
        assert torch.equal(own.gather(place), part.gather(there))
        assert torch.equal(own.targets_of(place), part.targets_of(there))
        assert torch.equal(own.keys_of(place), part.keys_of(there))
    assert own.noise is not None
    assert part.noise is not None
    assert own.noise.to_json(own) == part.noise.to_json(part)
    assert Pool.from_dataset(Numbers(20)).alone(None).fingerprint() == whole.fingerprint()


def test_a_pool_on_its_own_can_be_normalised_in_another_way() -> None:
    images = torch.arange(48, dtype=torch.uint8).reshape(4, 3, 2, 2)
    pool = Pool.from_arrays(images, [0, 1, 0, 1], preprocess=Preprocess((0.5,), (0.5,)))
    other = pool.alone(Preprocess((0.0,), (2.0,)))
    assert torch.allclose(other.gather(other.rows), images.float() / 255 / 2, atol=1e-6)
    assert torch.allclose(pool.gather(pool.rows), (images.float() / 255 - 0.5) / 0.5, atol=1e-6)
    with pytest.raises(DataError, match="has 3 channels but preprocess 2"):
        pool.alone(Preprocess((0.0, 0.0), (1.0, 1.0)))
