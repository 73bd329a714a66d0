import dataclasses
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_pictures import write_folder
from PIL import Image
from torch import Tensor

from reference.twins import equal_groups
from sartor.data import Pool, Splits, inspection
from sartor.data.inspection import Inspection, Sample, Twins, find_twins, inspect, is_constant
from sartor.data.opening import open_data
from sartor.errors import DataError
from sartor.registry import DATASETS


def noise(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def look(train: tuple[Any, Any], test: tuple[Any, Any] | None = None, **options: Any) -> Inspection:
    """Inspect two pools of inputs and labels; test is one sample of its own if not given."""
    if test is None:
        shape = train[0].shape[1:]
        test = (torch.full((1, *shape), 77).to(train[0].dtype), [0])
    pools = [Pool.from_arrays(inputs, labels, **options) for inputs, labels in (train, test)]
    return inspect(Splits("made", pools[0], pools[1]))


def places(twins: Twins) -> list[str]:
    return [f"{sample.part}/{sample.id}" for sample in twins.samples]


class TestTwins:
    def test_equal_samples_within_and_across_parts_and_their_labels(self) -> None:
        train, test = noise(8, 1, 4, 4), noise(5, 1, 4, 4, seed=1)
        train[5] = train[2]  # of one label
        train[7] = train[0]  # labels differ
        test[1] = train[3]  # across, of one label
        test[4] = test[0] = train[7]  # joins those of 0 and 7
        found = look((train, [0, 1, 2, 0, 1, 2, 0, 1]), (test, [1, 0, 2, 2, 0]))
        groups = {tuple(places(twins)): (twins.across, twins.disagree) for twins in found.twins}
        assert groups == {
            ("train/0", "train/7", "test/0", "test/4"): (True, True),
            ("train/2", "train/5"): (False, False),
            ("train/3", "test/1"): (True, False),
        }
        assert list(groups) == sorted(groups, key=lambda group: group[0])
        assert found.twins[0].samples[1] == Sample("train", "7", 1)

    def test_a_missing_label_contradicts_nothing(self) -> None:
        train = noise(1, 1, 4, 4).repeat(3, 1, 1, 1)
        assert not look((train, [1, -1, 1])).twins[0].disagree
        assert not look((train, [-1, -1, -1])).twins[0].disagree
        assert look((train, [1, -1, 0])).twins[0].disagree

    def test_one_bit_of_one_tensor_makes_another_sample(self) -> None:
        image, words = noise(1, 1, 2, 2).repeat(4, 1, 1, 1), torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2]])
        pool = Pool.from_arrays({"image": image, "words": words}, [0, 0, 0, 0])
        found = inspect(Splits("made", pool.only(torch.tensor([0, 2])), pool.only(torch.tensor([1, 3]))))
        assert [places(twins) for twins in found.twins] == [["train/0", "test/1", "test/3"]]
        assert [values.name for values in found.parts[0].values] == ["inputs['image']", "inputs['words']"]

    @given(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=14),
        st.integers(1, 13),
        st.integers(1, 5),
    )
    def test_groups_are_those_of_comparing_each_with_each(
        self, drawn: list[tuple[int, int]], cut: int, block: int
    ) -> None:
        inputs = (torch.tensor([[a] for a, _ in drawn]), torch.tensor([[[float(b)]] for _, b in drawn]))
        pool = Pool.from_arrays(inputs, [0] * len(drawn))
        train, test = (pool.only(rows) for rows in (pool.rows[:cut], pool.rows[cut:]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inspection, "_BLOCK_ROWS", block)
            found = inspect(Splits("made", train, test))
        expected = equal_groups([(inputs[0][place], inputs[1][place]) for place in range(len(drawn))])
        assert [[int(sample.id) for sample in twins.samples] for twins in found.twins] == expected
        assert [part.samples for part in found.parts] == [len(train), len(test)]

    def test_digests_that_share_words_are_different(self) -> None:
        table = np.zeros((4, 32), np.uint8)
        table[1, 31], table[2, 0], table[3, 31] = 1, 1, 1
        groups = find_twins(table, lambda place: Sample("train", str(place), 0))
        assert [[sample.id for sample in twins.samples] for twins in groups] == [["1", "3"]]
        assert find_twins(table[:1], lambda place: Sample("train", str(place), 0)) == ()


class TestValues:
    def test_by_hand(self) -> None:
        train = torch.tensor([[[[0, 2]], [[10, 10]]], [[[4, 6]], [[10, 14]]]], dtype=torch.uint8)
        values = look((train, [0, 1])).parts[0].values[0]
        assert (values.name, values.dtype, values.shape) == ("inputs", "uint8", (2, 1, 2))
        assert (values.low, values.high) == ((0, 10), (6, 14))
        assert values.mean == (3, 11)
        assert values.std == pytest.approx((math.sqrt(5), math.sqrt(3)))

    @given(st.integers(1, 9), st.integers(1, 5), st.floats(-1e6, 1e6), st.sampled_from([torch.float32, torch.int16]))
    def test_blocks_change_nothing(self, n: int, block: int, shift: float, dtype: torch.dtype) -> None:
        source = torch.Generator().manual_seed(n)
        inputs = (100 * torch.randn(n, 3, 2, 2, generator=source) + shift % 1e4).to(dtype)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inspection, "_BLOCK_ROWS", block)
            values = look((inputs, [0] * n)).parts[0].values[0]
        whole = inputs.double().transpose(0, 1).flatten(1)
        assert values.low == tuple(whole.amin(1).tolist())
        assert values.high == tuple(whole.amax(1).tolist())
        assert values.mean == pytest.approx(tuple(whole.mean(1).tolist()), rel=1e-9, abs=1e-9)
        assert values.std == pytest.approx(tuple(whole.std(1, correction=0).tolist()), rel=1e-9, abs=1e-9)

    def test_mean_and_std_are_those_that_normalise(self) -> None:
        splits = DATASETS.build("digits")
        values, preprocess = inspect(splits).parts[0].values[0], splits.train.preprocess
        assert tuple(mean / 255 for mean in values.mean) == pytest.approx(preprocess.mean)
        assert tuple(std / 255 for std in values.std) == pytest.approx(preprocess.std)

    def test_what_is_not_finite_is_named_and_left_out(self) -> None:
        train = torch.tensor([[1.0, 2.0], [math.nan, 4.0], [5.0, -math.inf], [6.0, 6.0]])
        part = look((train, [0, 0, 0, 0])).parts[0]
        assert part.infinite == ("1", "2")
        assert part.values[0].low == (1,)
        assert part.values[0].high == (6,)
        assert part.values[0].mean == (4,)
        nothing = look((torch.full((2, 2), math.nan), [0, 0])).parts[0]
        assert nothing.infinite == ("0", "1")
        assert nothing.values[0].mean == nothing.values[0].low == ()

    @pytest.mark.parametrize(
        "inputs", [torch.randn(3, 2, dtype=torch.complex64), torch.zeros(3, 0), torch.ones(3, 2) > 0]
    )
    def test_unusual_types_pass(self, inputs: Tensor) -> None:
        part = look((inputs, [0, 1, 0])).parts[0]
        assert part.samples == 3
        assert part.infinite == ()


class TestClasses:
    def test_counts_missing_classes_and_balance(self) -> None:
        train, test = noise(7, 1, 4, 4), noise(3, 1, 4, 4, seed=1)
        names = ("cat", "dog", "owl", "yak")
        found = look((train, [0, 0, 0, 2, -1, 0, 2]), (test, [0, 1, -1]), class_names=names)
        first, second = found.parts
        assert found.class_names == names
        assert first.counts == (4, 0, 2, 0)
        assert (first.missing, first.imbalance) == ((1, 3), 2.0)
        assert (second.missing, second.imbalance) == ((2, 3), 1.0)
        assert (first.unlabelled, second.unlabelled) == (("4",), ("2",))

    def test_parts_that_know_other_numbers_of_classes(self) -> None:
        found = look((noise(3, 1, 4, 4), [0, 1, 1]), (noise(2, 1, 4, 4, seed=1), [4, 0]))
        assert found.class_names == ("0", "1", "2", "3", "4")
        assert [part.counts for part in found.parts] == [(1, 2, 0, 0, 0), (1, 0, 0, 0, 1)]
        assert found.parts[0].missing == (2, 3, 4)

    def test_no_labels_at_all(self) -> None:
        found = look((noise(3, 1, 4, 4), None), (noise(2, 1, 4, 4, seed=1), None))
        assert found.class_names == ()
        assert found.parts[0].unlabelled == ("0", "1", "2")
        assert found.parts[0].imbalance is None


def test_constant_images_are_of_one_value_in_each_channel() -> None:
    train = noise(5, 2, 3, 3)
    train[1] = 9
    train[3, 0], train[3, 1] = 1, 2
    train[4, 0] = 5  # the other channel varies
    assert look((train, [0] * 5)).parts[0].constant == ("1", "3")
    assert not is_constant(torch.zeros(2, 3)).any(), "no image"
    assert not is_constant(torch.zeros(2, 3, 1, 1)).any(), "a single pixel is always constant"
    assert not is_constant((torch.zeros(2, 1, 2, 2), torch.zeros(2, 1))).any()


def test_streamed_samples_are_found_as_those_in_memory_are(tmp_path: Path) -> None:
    write_folder(tmp_path, 6)
    (tmp_path / "dog" / "copy.png").write_bytes((tmp_path / "cat" / "000.png").read_bytes())
    Image.new("RGB", (12, 12), "red").save(tmp_path / "owl" / "blank.png")
    resident, streamed = (DATASETS.build(f"imagefolder(streamed={how})", root=tmp_path) for how in (False, True))
    assert streamed.train.streamed
    found = inspect(resident)
    assert inspect(streamed) == found
    assert inspect(streamed, workers=2) == found
    assert len(found.twins) == 1
    assert {sample.id for sample in found.twins[0].samples} == {"cat/000.png", "dog/copy.png"}
    assert found.twins[0].disagree
    assert [*found.parts[0].constant, *found.parts[1].constant] == ["owl/blank.png"]


def test_unreadable_pictures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    write_folder(tmp_path, 6)
    (tmp_path / "cat" / "003.png").write_bytes(b"no picture")
    (tmp_path / "owl" / "001.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 18 pictures cannot be read"):
        open_data(str(tmp_path))
    for spec, root in ((str(tmp_path), None), ("imagefolder", str(tmp_path))):
        with pytest.warns(UserWarning, match="2 of 18 pictures cannot be read"):
            found = inspect(open_data(spec, root, unreadable="skip"))
        assert dict(found.skipped) == {
            "cat/003.png": "no picture that Pillow knows",
            "owl/001.png": "the file is empty",
        }
        assert sum(part.samples for part in found.parts) == 16
    with pytest.raises(DataError, match="cannot be read"):
        open_data("imagefolder(unreadable=refuse)", str(tmp_path), unreadable="skip")
    assert open_data("digits", unreadable="skip").skipped == ()


def test_json_holds_all_of_it() -> None:
    train = noise(1, 1, 4, 4).repeat(9, 1, 1, 1)
    train[8] = 3
    found = look((train, [0, 1, -1, 0, 0, 0, 0, 0, 0]))
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [sample["id"] for sample in read["twins"][0]["samples"]] == [str(number) for number in range(8)]
    assert (read["twins"][0]["disagree"], read["twins"][0]["across"]) == (True, False)
    assert read["parts"][0]["constant"] == ["8"]
    assert read["parts"][0]["unlabelled"] == ["2"]
    assert read["parts"][0]["imbalance"] == 7
    assert read["parts"][1]["missing"] == [1]
    assert read["parts"][0]["values"][0]["shape"] == [1, 4, 4]


def test_memory_is_that_of_a_block_and_of_digests() -> None:
    inputs = noise(1, 3, 64, 64).expand(6000, -1, -1, -1).contiguous()  # 74 MB
    inputs[:, 0, 0, :2] = noise(6000, 2)
    pool = Pool.from_arrays(inputs, [0] * len(inputs))
    splits = Splits("made", pool, pool.only(pool.rows[:1]))
    told: list[int] = []
    tracemalloc.start()
    inspect(splits, heard=told.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "numpy's own, of torch's the block sizes below tell"
    assert max(told) * 3 * 64 * 64 <= inspection._BLOCK_BYTES
    assert sum(told) == 6001


def test_nothing_is_changed_by_looking() -> None:
    splits = DATASETS.build("digits")
    before = splits.train.fingerprint(), splits.test.fingerprint(), torch.random.get_rng_state().tolist()
    first, second = inspect(splits), inspect(splits)
    assert first == second
    assert (splits.train.fingerprint(), splits.test.fingerprint(), torch.random.get_rng_state().tolist()) == before
    assert [part.samples for part in first.parts] == [1297, 500]
    assert first.parts[0].counts == tuple(splits.train.class_counts().tolist())
    assert dataclasses.replace(first, twins=()) == first, "digits has no equal samples"
