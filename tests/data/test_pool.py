from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sartor.data import Pool, Preprocess, as_pool
from sartor.errors import DataError


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def images(n: int, channels: int = 1) -> torch.Tensor:
    made = torch.arange(n * channels * 12).reshape(n, channels, 3, 4)
    return made.remainder(251).to(torch.uint8)


def small(**options: object) -> Pool:
    """Four samples, listed out of order; sample 'a' holds 1.0 and label 1, 'b' 2.0 and 0, and so on."""
    inputs = torch.tensor([[3.0], [1.0], [4.0], [2.0]])
    return Pool.from_arrays(inputs, [2, 1, -1, 0], ids=["c", "a", "d", "b"], **options)  # type: ignore[arg-type]


class Items(Dataset[object]):
    def __init__(self, items: list[object]) -> None:
        self.items = items

    def __getitem__(self, index: int) -> object:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


class TestFromArrays:
    def test_samples_are_in_the_order_of_their_ids(self) -> None:
        pool = small()
        assert pool.ids == ("a", "b", "c", "d")
        assert pool.gather(pool.rows).tolist() == [[1.0], [2.0], [3.0], [4.0]]  # type: ignore[union-attr]
        assert pool.targets_of(pool.rows).tolist() == [1, 0, 2, -1]
        assert pool.classes == 3
        assert pool.input_shape == (1,)
        assert len(pool) == 4

    @given(st.permutations(range(12)), st.booleans())
    def test_the_order_of_the_source_has_no_effect(self, order: list[int], as_dataset: bool) -> None:
        inputs, targets, ids = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3, []
        ids = [f"sample {i}" for i in range(12)]
        expected = Pool.from_arrays(inputs, targets, ids=ids)
        shuffled = [ids[i] for i in order]
        if as_dataset:
            pool = Pool.from_dataset(Items([(inputs[i], int(targets[i])) for i in order]), ids=shuffled)
        else:
            pool = Pool.from_arrays(inputs[order], targets[order], ids=shuffled)
        assert pool.ids == expected.ids
        assert torch.equal(pool.inputs, expected.inputs)  # type: ignore[arg-type]
        assert torch.equal(pool.targets, expected.targets)  # type: ignore[arg-type]
        assert pool.fingerprint() == expected.fingerprint()

    def test_ids_default_to_the_padded_index(self) -> None:
        assert Pool.from_arrays(torch.zeros(11, 1)).ids[:3] == ("00", "01", "02")
        assert Pool.from_arrays(torch.zeros(1, 1)).ids == ("0",)

    def test_tuples_and_dicts(self) -> None:
        first, second = torch.arange(6.0).view(3, 2), torch.arange(3)
        pair = Pool.from_arrays((first, second.view(3, 1)), ids=["b", "c", "a"])
        made = pair.gather(rows(0, 2))
        assert isinstance(made, tuple)
        assert made[0].tolist() == [[4.0, 5.0], [2.0, 3.0]]
        assert made[1].tolist() == [[2], [1]]
        named = Pool.from_arrays({"x": first, "pixels": images(3)}, preprocess=Preprocess((0.5,), (0.5,)))
        batch = named.gather(rows(1))
        assert isinstance(batch, dict)
        assert batch["x"].tolist() == [[2.0, 3.0]]
        torch.testing.assert_close(batch["pixels"], (images(3)[1:2] / 255 - 0.5) / 0.5)
        with pytest.raises(DataError, match="inputs are a dict"):
            _ = named.input_shape

    def test_byte_images_become_float_and_other_bytes_stay(self) -> None:
        plain = Pool.from_arrays(images(3)).gather(rows(2, 0))
        torch.testing.assert_close(plain, images(3)[[2, 0]] / 255)
        made = Pool.from_arrays(images(3), preprocess=Preprocess((0.1,), (0.2,))).gather(rows(1))
        torch.testing.assert_close(made, (images(3)[[1]] / 255 - 0.1) / 0.2)
        mask = torch.zeros(3, 5, dtype=torch.uint8)
        both = Pool.from_arrays({"x": images(3), "mask": mask, "flags": mask > 0}).gather(rows(0))
        assert isinstance(both, dict)
        assert (both["mask"].dtype, both["flags"].dtype) == (torch.uint8, torch.bool)

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "bool", "float16"])
    @pytest.mark.parametrize("streamed", [None, False, True])
    def test_tables_come_as_networks_take_them(self, dtype: str, streamed: bool | None) -> None:
        """As they are stored, a network would refuse them: its weights are float32."""
        x = (np.arange(12).reshape(4, 3) % 2).astype(dtype)
        pool = Pool.from_arrays(x) if streamed is None else Pool.from_dataset(Items(list(x)), streamed=streamed)
        made = pool.gather(rows(0, 3))
        assert isinstance(made, torch.Tensor)
        assert made.dtype == torch.float32
        assert np.array_equal(made, x[[0, 3]])
        assert pool.fingerprint() == Pool.from_arrays(x).fingerprint()

    def test_tokens_stay_whole_numbers(self) -> None:
        for dtype in (torch.int32, torch.int64):
            assert Pool.from_arrays(torch.zeros(3, 5, dtype=dtype)).gather(rows(0)).dtype == dtype  # type: ignore[union-attr]

    def test_missing_targets(self) -> None:
        pool = Pool.from_arrays(torch.zeros(3, 1))
        assert pool.targets is None
        assert pool.classes is None
        assert pool.targets_of(pool.rows).tolist() == [-1, -1, -1]
        assert len(pool.labelled_rows()) == 0
        with pytest.raises(DataError, match="no labels"):
            pool.class_counts()
        hidden = Pool.from_arrays(torch.zeros(3, 1), [-1, -1, -1])
        assert hidden.targets is not None
        assert hidden.classes is None
        assert Pool.from_arrays(torch.zeros(2, 1), [-1, -1], classes=4).class_counts().tolist() == [0, 0, 0, 0]

    def test_class_names_give_the_number_of_classes(self) -> None:
        pool = Pool.from_arrays(torch.zeros(2, 1), [0, 1], class_names=["cat", "dog", "owl"])
        assert pool.classes == 3
        assert pool.class_names == ("cat", "dog", "owl")

    def test_the_pool_has_its_own_labels_and_shares_sorted_inputs(self) -> None:
        inputs, targets = np.zeros((3, 2), dtype=np.float32), np.array([0, 1, 2])
        pool = Pool.from_arrays(inputs, targets)
        targets[0] = 2
        assert pool.targets_of(rows(0)).tolist() == [0]
        assert pool.inputs.data_ptr() == inputs.ctypes.data  # type: ignore[union-attr]

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint16", "int64"])
    def test_labels_of_any_whole_type(self, dtype: str) -> None:
        pool = Pool.from_arrays(torch.zeros(2, 1), np.array([3, 1], dtype=dtype))
        assert pool.targets_of(pool.rows).dtype == torch.int64
        assert pool.targets_of(pool.rows).tolist() == [3, 1]

    @pytest.mark.parametrize(
        ("targets", "options", "message"),
        [
            ([0, 1, 2], {}, r"targets have shape \(3,\); there are 2 samples"),
            ([[0, 1, 2], [1, 0, 0]], {}, r"targets have shape \(2, 3\)"),
            ([[0, 1], [1, 0]], {}, r"targets are one-hot, of shape \(2, 2\); give the classes, targets.argmax\(1\)"),
            (np.eye(2), {}, "targets are one-hot"),
            ([0, -2], {"ids": ["x", "y"]}, "sample 'y' has label -2; labels are whole numbers from 0"),
            ([0, 5], {"classes": 3}, r"sample '1' has label 5; with 3 classes it must be in 0\.\.2"),
            ([0, 2], {"class_names": ["a", "b"]}, "sample '1' has label 2; with 2 classes"),
            ([0, 1], {"class_names": ["a", "b"], "classes": 3}, "2 class names for 3 classes"),
            ([0, 1], {"classes": 0}, "must be at least 1"),
            ([0.0, 1.0], {}, "targets are torch.float32; they must be whole numbers"),
            ([True, False], {}, "targets are torch.bool"),
            (["a", "b"], {}, "targets is an array of <U1"),
            ([0, 1], {"ids": ["x"]}, "1 ids for 2 samples"),
            ([0, 1], {"ids": ["x", "x"]}, r"1 ids are given more than once \('x'\)"),
            ([0, 1], {"ids": [1, 2]}, r"id 1 is int; ids are strings, so give str\(1\)"),
            ([0, 1], {"preprocess": Preprocess((0.0,), (1.0,))}, "preprocess is for torch.uint8 images"),
        ],
    )
    def test_what_contradicts_itself_is_refused(
        self, targets: object, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            Pool.from_arrays(torch.zeros(2, 1), targets, **options)  # type: ignore[arg-type]

    def test_ids_that_are_numbers_in_another_order_are_refused_before_sorting(self) -> None:
        with pytest.raises(DataError, match="ids are strings"):
            Pool.from_arrays(torch.zeros(2, 1), ids=["x", 1])  # type: ignore[list-item]

    def test_labels_may_stand_in_a_column(self) -> None:
        for targets in ([[2], [0]], np.array([[2], [0]]), torch.tensor([[2], [0]])):
            assert Pool.from_arrays(torch.zeros(2, 1), targets).targets_of(rows(0, 1)).tolist() == [2, 0]

    def test_an_empty_pool_is_refused(self) -> None:
        with pytest.raises(DataError, match="no samples"):
            Pool.from_arrays(torch.zeros(0, 3))

    @pytest.mark.parametrize(
        ("shape", "message"), [((2, 5, 5), r"inputs\[:, None\]"), ((2, 32, 32, 3), "move the last axis to place 1")]
    )
    def test_byte_images_need_channels_first(self, shape: tuple[int, ...], message: str) -> None:
        with pytest.raises(DataError, match=message):
            Pool.from_arrays(torch.zeros(shape, dtype=torch.uint8))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_images_of_fractions_need_channels_first_too(self, channels: int) -> None:
        """Trained on as they are, their height would be taken for the channels."""
        x = np.zeros((2, 16, 20, channels), dtype=np.float32)
        with pytest.raises(DataError, match=r"\(2, 16, 20, \d\); .* so give \.transpose\(0, 3, 1, 2\)"):
            Pool.from_arrays(x)
        with pytest.raises(DataError, match="transpose"):
            Pool.from_dataset(Items(list(x)), streamed=True)
        assert Pool.from_arrays(x.transpose(0, 3, 1, 2)).input_shape == (channels, 16, 20)
        assert Pool.from_arrays(np.zeros((2, 64, 4, 4))).input_shape == (64, 4, 4)

    def test_preprocess_must_fit_the_channels(self) -> None:
        with pytest.raises(DataError, match="3 channels but preprocess 2"):
            Pool.from_arrays(images(2, channels=3), preprocess=Preprocess((0.0, 0.0), (1.0, 1.0)))

    def test_sixty_thousand_images_take_well_under_a_second(self) -> None:
        inputs, targets = np.zeros((60_000, 1, 28, 28), dtype=np.uint8), np.zeros(60_000, dtype=np.int64)
        begin = time.process_time()
        pool = Pool.from_arrays(inputs, targets)
        pool.keys_of(pool.rows)
        assert time.process_time() - begin < 0.5


class TestFromDataset:
    def test_pairs(self) -> None:
        pool = Pool.from_dataset(TensorDataset(images(3), torch.tensor([2, 0, 1])), ids=["c", "b", "a"])
        assert pool.targets_of(pool.rows).tolist() == [1, 0, 2]
        assert torch.equal(pool.inputs, images(3).flip(0))  # type: ignore[arg-type]

    def test_inputs_alone(self) -> None:
        assert Pool.from_dataset(TensorDataset(torch.zeros(3, 2))).input_shape == (2,)
        assert Pool.from_dataset(Items([np.zeros(2), np.ones(2)])).targets is None

    def test_tuples_dicts_and_missing_labels(self) -> None:
        items: list[object] = [((np.zeros(2), np.ones(3)), np.int64(4)), ((np.zeros(2), np.ones(3)), None)]
        pool = Pool.from_dataset(Items(items))
        assert pool.targets_of(pool.rows).tolist() == [4, -1]
        assert isinstance(pool.inputs, tuple)
        named = Pool.from_dataset(Items([({"x": torch.zeros(2)}, torch.tensor(1))]))
        assert isinstance(named.inputs, dict)
        two_inputs = Pool.from_dataset(Items([(np.zeros(2), np.ones(3))]))
        assert isinstance(two_inputs.inputs, tuple)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_labels_of_one_number_in_an_array(self, streamed: bool) -> None:
        """Taken for a second input, they would leave the pool without labels."""
        for label in (np.array, torch.tensor):
            pool = Pool.from_dataset(Items([(np.zeros(2), label([y])) for y in (1, 0, 2)]), streamed=streamed)
            assert pool.targets_of(pool.rows).tolist() == [1, 0, 2]
        assert Pool.from_dataset(Items([(np.zeros(2), np.zeros(1))] * 3), streamed=streamed).targets is None

    @pytest.mark.parametrize("streamed", [False, True])
    def test_labels_in_a_dict_or_one_hot_are_explained(self, streamed: bool) -> None:
        for key in ("label", "labels", "target", "y"):
            with pytest.raises(DataError, match=rf"a dict that holds its label as '{key}'; give pairs \(x, y\)"):
                Pool.from_dataset(Items([{"x": np.zeros(2), key: y} for y in (1, 0)]), streamed=streamed)
        eye = np.eye(3)
        with pytest.raises(
            DataError, match=r"y of sample '0', .* one-hot, of shape \(3,\); give the class, y.argmax\(\)"
        ):
            Pool.from_dataset(Items([(np.zeros(2), eye[y]) for y in (1, 0)]), streamed=streamed)
        two = Pool.from_dataset(Items([(np.zeros(2), eye[0]), (np.zeros(2), eye[0] * 2)]), streamed=streamed)
        assert isinstance(two.inputs, tuple)

    def test_items_of_differing_shapes_name_the_ids(self) -> None:
        with pytest.raises(DataError, match=r"sample 'y' is of shape \(3,\) but that of 'x' is of shape \(2,\)"):
            Pool.from_dataset(Items([(np.zeros(2), 0), (np.zeros(3), 1)]), ids=["x", "y"])

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "no samples"),
            ([(np.zeros(2), 0), np.zeros(2)], r"sample '1' is no pair \(x, y\) but '0' is"),
            ([(np.zeros(2), 0.5)], "whole numbers"),
            ([("text", 0)], "is str; .*transform"),
        ],
    )
    def test_other_items_are_refused(self, items: list[object], message: str) -> None:
        with pytest.raises(DataError, match=message):
            Pool.from_dataset(Items(items))

    def test_a_stream_is_refused(self) -> None:
        class Stream(IterableDataset[int]):
            def __iter__(self) -> Iterator[int]:
                return iter([1])

            def __len__(self) -> int:
                return 1

        with pytest.raises(DataError, match="map-style"):
            as_pool(Stream())


class TestViews:
    def test_a_view_keeps_root_rows_and_shares_storage(self) -> None:
        pool = small()
        view = pool.only(rows(3, 1))
        assert view.rows.tolist() == [1, 3]
        assert len(view) == 2
        assert view.ids == pool.ids
        assert view.inputs is pool.inputs
        assert view.targets is pool.targets
        assert view.ids_of(view.rows) == ["b", "d"]
        assert view.labelled_rows().tolist() == [1]
        assert view.class_counts().tolist() == [1, 0, 0]
        assert view.only(rows(3)).gather(rows(3)).tolist() == [[4.0]]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            (rows(0), r"row 0 \('a'\) is not in this pool of 2 samples"),
            (rows(1, 2), r"row 2 \('c'\)"),
            (rows(9), "row 9 is not"),
            (rows(-1), "row -1 is not"),
            (rows(1, 1), "row 1 is given more than once"),
        ],
    )
    def test_rows_of_elsewhere_are_refused(self, wanted: torch.Tensor, message: str) -> None:
        with pytest.raises(DataError, match=message):
            small().only(rows(1, 3)).only(wanted)

    def test_an_empty_view(self) -> None:
        empty = small().only(rows())
        assert len(empty) == 0
        assert empty.class_counts().tolist() == [0, 0, 0]
        with pytest.raises(DataError, match="not in this pool of 0"):
            empty.only(rows(0))

    def test_gather_keeps_the_order_asked_for(self) -> None:
        assert small().gather(rows(2, 0, 2)).tolist() == [[3.0], [1.0], [3.0]]  # type: ignore[union-attr]

    def test_repr_tells_what_it_is(self) -> None:
        assert repr(small().only(rows(0))) == "Pool(1 of 4 samples, inputs (1,) torch.float32, classes 3)"


class TestFingerprint:
    def test_it_is_that_of_the_view(self) -> None:
        pool = small()
        alone = Pool.from_arrays(torch.tensor([[2.0], [3.0]]), [0, 2], ids=["b", "c"])
        assert pool.only(rows(1, 2)).fingerprint() == alone.fingerprint()
        assert pool.fingerprint() != alone.fingerprint()

    def test_it_depends_on_everything(self) -> None:
        x, y = torch.zeros(2, 4), [0, 1]
        variants = [
            Pool.from_arrays(x, y),
            Pool.from_arrays(x, [0, 0]),
            Pool.from_arrays(x, [0, -1]),
            Pool.from_arrays(x),
            Pool.from_arrays(x + 1, y),
            Pool.from_arrays(x.view(2, 2, 2), y),
            Pool.from_arrays(x.int(), y),
            Pool.from_arrays({"x": x}, y),
            Pool.from_arrays(x, y, ids=["0", "2"]),
            Pool.from_arrays(x, y, ids=["01", "1"]),
            Pool.from_arrays(images(2), y),
            Pool.from_arrays(images(2), y, preprocess=Preprocess((0.5,), (1.0,))),
            Pool.from_arrays(images(2), y, preprocess=Preprocess((0.5,), (0.5,))),
        ]
        assert len({pool.fingerprint() for pool in variants}) == len(variants)


class TestAsPool:
    def test_what_it_takes(self) -> None:
        x = np.zeros((3, 2))
        pool = Pool.from_arrays(x)
        assert as_pool(pool) is pool
        assert as_pool((x, np.array([0, 1, 1]))).classes == 2
        assert as_pool((x, [0, 1, 1]), classes=5).classes == 5
        assert as_pool((x, torch.tensor([0, -1, 1]))).labelled_rows().tolist() == [0, 2]
        assert as_pool((x, None)).targets is None
        assert as_pool((x, np.array([[0], [1], [1]]))).targets_of(rows(0, 1, 2)).tolist() == [0, 1, 1]
        assert as_pool((x, torch.tensor([[0], [1], [1]]))).classes == 2
        assert as_pool([(np.zeros(2), 1), (np.zeros(2), 0)]).classes == 2
        assert as_pool(x).targets is None
        assert isinstance(as_pool((x, x)).inputs, tuple)
        assert isinstance(as_pool({"x": x}).inputs, dict)
        assert as_pool(TensorDataset(torch.zeros(3, 2), torch.tensor([0, 1, 2]))).classes == 3
        assert as_pool(images(2), preprocess=Preprocess((0.5,), (1.0,))).preprocess == Preprocess((0.5,), (1.0,))

    @pytest.mark.parametrize(
        ("data", "options", "message"),
        [
            (Pool.from_arrays(torch.zeros(2, 1)), {"classes": 3}, "have no effect"),
            ((torch.zeros(2, 1), torch.zeros(2)), {}, "1-d array of torch.float32; labels must be whole numbers"),
            ((torch.zeros(2, 1), np.eye(2)), {}, r"one-hot, of shape \(2, 2\); give the classes, y.argmax\(1\)"),
            ((torch.zeros(2, 1), torch.eye(2, dtype=torch.uint8)), {}, "one-hot"),
            (7, {}, "data are int"),
            ("path/to/data", {}, "data are str"),
            (None, {}, "data are NoneType"),
        ],
    )
    def test_what_it_refuses(self, data: object, options: dict[str, int], message: str) -> None:
        with pytest.raises(DataError, match=message):
            as_pool(data, **options)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_one_copy_on_the_device_serves_all_views() -> None:
    pool = Pool.from_arrays(images(6), preprocess=Preprocess((0.1,), (0.2,)))
    on_device = pool.only(rows(1, 5)).gather(rows(5, 1), "cuda")
    torch.testing.assert_close(on_device.cpu(), pool.gather(rows(5, 1)))  # type: ignore[union-attr]
    used = torch.cuda.memory_allocated()
    pool.gather(rows(0).cuda(), "cuda:0")
    assert torch.cuda.memory_allocated() == used


def test_importing_leaves_numpy_and_torch_as_they_are() -> None:
    import subprocess
    import sys

    program = (
        "import numpy, torch; before = numpy.geterr(), torch.get_rng_state(), torch.get_num_threads();"
        "import sartor.data, sartor.models, sartor.registry as r; list(r.MODELS), list(r.DATASETS);"
        "after = numpy.geterr(), torch.get_rng_state(), torch.get_num_threads();"
        "assert before[0] == after[0] and torch.equal(before[1], after[1]) and before[2] == after[2]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
