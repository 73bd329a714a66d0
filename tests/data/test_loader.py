from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data import Augment, Loader, Pool, Preprocess, corrupt
from sartor.data.loader import Batch, even_sizes
from sartor.errors import ConfigError, DataError
from sartor.types import Subset


def pool_of(n: int = 50, order: list[int] | None = None) -> Pool:
    order = list(range(n)) if order is None else order
    inputs = torch.randint(0, 256, (n, 2, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ids, labels = [f"s{i}" for i in range(n)], torch.arange(n) % 5
    preprocess = Preprocess((0.4, 0.5), (0.2, 0.3))
    return Pool.from_arrays(inputs[order], labels[order], ids=[ids[i] for i in order], preprocess=preprocess)


def everything(pool: Pool) -> Subset:
    return Subset.of(pool.rows)


def same(first: Batch, second: Batch) -> bool:
    names = ("rows", "positions", "inputs", "targets", "weights")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


class TestEvenSizes:
    @given(st.integers(1, 5000), st.integers(1, 300))
    def test_there_is_never_a_tiny_remainder(self, k: int, batch_size: int) -> None:
        sizes = even_sizes(k, batch_size)
        assert sum(sizes) == k
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == max(1, int(k / batch_size + 0.5))
        assert min(sizes) >= min(k, 3 * batch_size // 4)
        assert max(sizes) <= max(1, 1.5 * batch_size + 1)

    def test_by_hand(self) -> None:
        assert even_sizes(130, 32) == [33, 33, 32, 32]
        assert even_sizes(128, 32) == [32] * 4
        assert even_sizes(47, 32) == [47]
        assert even_sizes(48, 32) == [24, 24]
        assert even_sizes(3, 32) == [3]

    @pytest.mark.parametrize(("k", "batch_size", "error"), [(0, 32, DataError), (5, 0, ConfigError)])
    def test_what_it_refuses(self, k: int, batch_size: int, error: type[Exception]) -> None:
        with pytest.raises(error, match="at least"):
            even_sizes(k, batch_size)


class TestEpoch:
    def test_every_sample_once_with_its_own_data(self) -> None:
        pool = pool_of()
        subset = Subset.of(torch.arange(5, 47, 2), torch.arange(1.0, 22.0))
        batches = list(Loader(pool, batch_size=8, seed=0).epoch(subset, 0))
        assert [len(batch) for batch in batches] == even_sizes(21, 8)
        assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == subset.rows.tolist()
        for batch in batches:
            assert torch.equal(subset.rows[batch.positions], batch.rows)
            assert torch.equal(subset.weights[batch.positions], batch.weights)
            assert torch.equal(pool.targets_of(batch.rows), batch.targets)
            assert torch.equal(pool.gather(batch.rows), batch.inputs)  # type: ignore[arg-type]

    def test_the_order_changes_with_the_epoch_and_the_seed_only(self) -> None:
        pool = pool_of()

        def order(seed: int, epoch: int, batch_size: int = 8) -> list[int]:
            batches = Loader(pool, batch_size=batch_size, seed=seed).epoch(everything(pool), epoch)
            return torch.cat([batch.rows for batch in batches]).tolist()

        torch.manual_seed(1)
        first = order(0, 0)
        torch.manual_seed(2)
        assert order(0, 0) == first
        assert order(0, 0, batch_size=50) == first
        assert order(0, 1) != first
        assert order(1, 0) != first
        assert first != sorted(first)

    @given(st.integers(0, 6), st.integers(0, 6))
    def test_starting_late_gives_the_same_batches(self, start: int, stop: int) -> None:
        pool = pool_of()
        loader = Loader(pool, batch_size=8, seed=0, augment=Augment(crop=1, flip=True))
        whole = list(loader.epoch(everything(pool), 2))
        assert len(whole) == 6
        if start > stop:
            with pytest.raises(ConfigError, match="the epoch has 6 batches"):
                loader.epoch(everything(pool), 2, start=start, stop=stop)
            return
        part = list(loader.epoch(everything(pool), 2, start=start, stop=stop))
        assert len(part) == stop - start
        assert all(same(*pair) for pair in zip(part, whole[start:stop], strict=True))

    @given(st.permutations(range(50)))
    def test_the_order_of_the_source_has_no_effect(self, order: list[int]) -> None:
        batches = []
        for pool in (pool_of(), pool_of(order=order)):
            noisy = corrupt(pool, 0.3, seed=0)
            loader = Loader(noisy, batch_size=16, seed=0, augment=Augment(crop=1, flip=True))
            batches.append([(batch, noisy.ids_of(batch.rows)) for batch in loader.epoch(everything(noisy), 1)])
        for (first, first_ids), (second, second_ids) in zip(*batches, strict=True):
            assert first_ids == second_ids
            assert same(first, second)

    def test_augmentation_follows_the_sample_into_any_batch_and_subset(self) -> None:
        pool = pool_of()
        seen: list[dict[int, torch.Tensor]] = []
        for batch_size, subset in ((8, everything(pool)), (50, everything(pool)), (3, Subset.of(torch.arange(9)))):
            loader = Loader(pool, batch_size=batch_size, seed=0, augment=Augment(crop=2, flip=True))
            batches = list(loader.epoch(subset, 4))
            seen.append({row: x for batch in batches for row, x in zip(batch.rows.tolist(), batch.inputs, strict=True)})
        assert all(torch.equal(seen[0][row], seen[1][row]) for row in range(50))
        assert all(torch.equal(seen[0][row], seen[2][row]) for row in range(9))
        assert not all(torch.equal(seen[0][row], pool.gather(torch.tensor([row]))[0]) for row in range(50))  # type: ignore[index]

    def test_rows_out_of_the_view_are_refused(self) -> None:
        pool = pool_of()
        with pytest.raises(DataError, match="not in this pool of 10"):
            Loader(pool.only(torch.arange(10)), batch_size=8, seed=0).epoch(everything(pool), 0)

    def test_samples_without_a_label_are_refused(self) -> None:
        pool = Pool.from_arrays(torch.zeros(3, 1), [0, -1, 1])
        with pytest.raises(DataError, match=r"1 samples have no label, such as '1'"):
            Loader(pool, batch_size=8, seed=0).epoch(everything(pool), 0)

    def test_no_samples_are_refused(self) -> None:
        nothing = Subset(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        with pytest.raises(DataError, match="0 samples"):
            Loader(pool_of(), batch_size=8, seed=0).epoch(nothing, 0)


class TestSequential:
    def test_rows_in_their_order_without_augmentation(self) -> None:
        pool = pool_of()
        loader = Loader(pool, batch_size=8, seed=0, augment=Augment(flip=True))
        rows = torch.tensor([7, 3, 9, 11, 2])
        batches = list(loader.sequential(rows, batch_size=2))
        assert [batch.rows.tolist() for batch in batches] == [[7, 3], [9, 11], [2]]
        assert [batch.positions.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
        assert all(bool((batch.weights == 1).all()) for batch in batches)
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), pool.gather(rows))  # type: ignore[arg-type,misc]

    def test_missing_labels_are_minus_one(self) -> None:
        loader = Loader(Pool.from_arrays(torch.zeros(3, 1)), batch_size=8, seed=0)
        assert [batch.targets.tolist() for batch in loader.sequential(torch.arange(3), batch_size=2)] == [
            [-1, -1],
            [-1],
        ]

    def test_no_rows_give_no_batch_and_no_size_is_refused(self) -> None:
        loader = Loader(pool_of(), batch_size=8, seed=0)
        assert list(loader.sequential(torch.arange(0), batch_size=4)) == []
        with pytest.raises(ConfigError, match="batch_size is 0"):
            loader.sequential(torch.arange(3), batch_size=0)


def test_channels_last_changes_the_memory_only() -> None:
    pool = pool_of()
    for augment in (None, Augment(crop=1)):
        plain = Loader(pool, batch_size=8, seed=0, augment=augment).epoch(everything(pool), 0)
        last = Loader(pool, batch_size=8, seed=0, augment=augment, channels_last=True).epoch(everything(pool), 0)
        for first, second in zip(plain, last, strict=True):
            assert same(first, second)
            assert second.inputs.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]


def test_what_is_kept_of_a_mini_batch_is_the_same_views_and_costs_nothing_else() -> None:
    pool = pool_of()
    loader = Loader(pool, batch_size=8, seed=1, augment=Augment(crop=1, flip=True))
    subset = Subset.of(pool.rows, torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1)
    kept = torch.arange(50) % 3 > 0
    parts = list(loader.epoch(subset, 2, kept=kept))
    for whole, part in zip(loader.epoch(subset, 2), parts, strict=True):
        stays = kept[whole.positions]
        assert part.size == len(part) == int(stays.sum())
        for name in ("rows", "positions", "inputs", "targets", "weights"):
            assert torch.equal(getattr(whole, name)[stays], getattr(part, name))
        assert torch.equal(part.whole, part.weights)
    assert same(parts[3], next(loader.epoch(subset, 2, start=3, kept=kept)))


def test_tuple_and_dict_inputs_are_batched() -> None:
    tensors = torch.arange(10.0)[:, None], torch.arange(10)[:, None]
    for inputs in (tensors, dict(zip("xy", tensors, strict=True))):
        pool = Pool.from_arrays(inputs, torch.arange(10))
        for batch in Loader(pool, batch_size=4, seed=0, channels_last=True).epoch(everything(pool), 0):
            members = list(batch.inputs.values()) if isinstance(batch.inputs, dict) else batch.inputs
            assert members[0].squeeze(1).tolist() == members[1].squeeze(1).tolist() == batch.targets.tolist()


def test_augmentation_that_does_not_fit_and_batch_size_0_are_refused() -> None:
    with pytest.raises(DataError, match="crop and flip need images"):
        Loader(Pool.from_arrays(torch.zeros(3, 2)), batch_size=8, seed=0, augment=Augment(flip=True))
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Loader(pool_of(), batch_size=0, seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_are_the_same_on_the_device() -> None:
    pool = pool_of()
    options = {"batch_size": 8, "seed": 0, "augment": Augment(crop=1, flip=True)}
    here = Loader(pool, **options).epoch(everything(pool), 0)  # type: ignore[arg-type]
    there = Loader(pool, device="cuda", **options).epoch(everything(pool), 0)  # type: ignore[arg-type]
    for first, second in zip(here, there, strict=True):
        for name in ("rows", "positions", "targets", "weights"):
            assert getattr(second, name).is_cuda
            assert torch.equal(getattr(first, name), getattr(second, name).cpu())
        torch.testing.assert_close(second.inputs.cpu(), first.inputs)  # type: ignore[union-attr]
