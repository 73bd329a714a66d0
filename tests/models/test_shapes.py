from __future__ import annotations

import pytest
import torch

from sartor.errors import ConfigError
from sartor.models.shapes import check_single, image_shape, shape_of


def test_the_shape_of_a_sample_has_the_structure_of_the_inputs() -> None:
    assert shape_of(torch.zeros(5, 3, 2, 2)) == (3, 2, 2)
    assert shape_of((torch.zeros(5, 3), torch.zeros(5))) == ((3,), ())
    assert shape_of({"x": torch.zeros(5, 3), "y": torch.zeros(5, 2, 2)}) == {"x": (3,), "y": (2, 2)}


def test_single_tensors_pass_and_others_are_shown() -> None:
    assert check_single("net", torch.Size([3, 2])) == (3, 2)
    assert check_single("net", ()) == ()
    assert image_shape("net", 2, (3, 5, 4)) == (3, 5, 4)
    for shape in ((), (3, 2), (0, 2, 2)):
        with pytest.raises(ConfigError, match="it takes images"):
            image_shape("net", 2, shape)
    for shape in (((3,), (2,)), {"x": (3,)}, {}):
        with pytest.raises(ConfigError, match=r"net takes one tensor, but a sample is .*package.module:factory"):
            check_single("net", shape)
