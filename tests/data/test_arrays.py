from __future__ import annotations

import numpy as np
import pytest
import torch

from sartor.data.arrays import as_inputs, as_tensor, stack
from sartor.errors import DataError


def test_arrays_share_memory() -> None:
    array = np.zeros((3, 2), dtype=np.float32)
    assert as_tensor(array, "inputs").data_ptr() == array.ctypes.data


def test_arrays_that_cannot_be_shared_are_copied() -> None:
    base = np.arange(6, dtype=np.int64).reshape(3, 2)
    frozen = base.copy()
    frozen.flags.writeable = False
    for array in (base[::-1], frozen, base.astype(">i8"), base.T):
        assert as_tensor(array, "inputs").tolist() == array.tolist()


def test_double_numbers_become_the_default_dtype() -> None:
    assert as_tensor(np.ones(2), "inputs").dtype == torch.float32
    assert as_tensor(torch.ones(2, dtype=torch.float64), "inputs").dtype == torch.float32
    assert as_tensor(torch.ones(2, dtype=torch.bfloat16), "inputs").dtype == torch.bfloat16


def test_a_tensor_that_requires_grad_is_detached() -> None:
    assert not as_tensor(torch.ones(2, requires_grad=True), "inputs").requires_grad


def test_a_tuple_of_one_is_its_member() -> None:
    assert isinstance(as_inputs((np.zeros((2, 3)),)), torch.Tensor)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("text", "inputs is str"),
        ([1, 2], "inputs is list"),
        ((), "inputs is tuple"),
        ({}, "inputs is dict"),
        (np.array(["a"]), "must be numbers"),
        (np.array([object()]), "must be numbers"),
        (torch.tensor(1.0), "single number"),
        ((torch.zeros(2), [1]), r"inputs\[1\] is list"),
        ({"a": torch.zeros(2, 1), "b": torch.zeros(3, 1)}, r"inputs\['b'\] has 3 samples but inputs\['a'\] has 2"),
        (torch.zeros(2, 2).to_sparse(), "to_dense"),
    ],
)
def test_what_is_no_input_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_inputs(wrong)


def test_stack_keeps_structure() -> None:
    items = [{"x": np.ones(2), "pair": (torch.tensor([i]), 2.5)} for i in range(3)]
    made = stack(items, ["a", "b", "c"])
    assert made["x"].shape == (3, 2)
    assert made["pair"][0].tolist() == [[0], [1], [2]]
    assert made["pair"][1].tolist() == [2.5, 2.5, 2.5]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([np.zeros((3, 4)), np.zeros((3, 5))], r"sample 'b' is of shape \(3, 5\) but that of 'a' is of shape \(3, 4\)"),
        ([(1, 2), (1, 2, 3)], "sample 'b' is a tuple of 3 but that of 'a' is a tuple of 2"),
        ([{"x": 1}, {"y": 1}], "sample 'b' is a dict of 'y' but that of 'a' is a dict of 'x'"),
        ([(1, 2), 1], "sample 'b' is a int but that of 'a' is a tuple of 2"),
        ([1, "two"], "sample 'b' is str; .*transform"),
        ([{"x": np.zeros(2)}, {"x": np.zeros(3)}], r"inputs\['x'\] of sample 'b' is of shape \(3,\)"),
    ],
)
def test_stack_names_the_sample_that_differs(items: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        stack(items, ["a", "b"])
