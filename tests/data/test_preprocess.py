from __future__ import annotations

import pytest
import torch

from sartor.data import Preprocess
from sartor.data.preprocess import UNIT
from sartor.errors import DataError


def images(n: int = 7, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_measure_gives_mean_and_population_deviation() -> None:
    made = Preprocess.measure(images())
    scaled = images().double() / 255
    torch.testing.assert_close(torch.tensor(made.mean), scaled.mean((0, 2, 3)).float())
    torch.testing.assert_close(torch.tensor(made.std), scaled.std((0, 2, 3), correction=0).float())


def test_measured_images_come_out_standardised() -> None:
    result = Preprocess.measure(images())(images())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_it_is_the_formula() -> None:
    made = Preprocess((0.5, 0.25, 0.0), (0.5, 2.0, 1.0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (made.mean, made.std))
    torch.testing.assert_close(made(images()), (images() / 255 - mean) / std)
    torch.testing.assert_close(UNIT(images()), images() / 255)


def test_the_order_of_the_images_has_no_effect_on_the_measure() -> None:
    assert Preprocess.measure(images()) == Preprocess.measure(images().flip(0))


def test_a_channel_of_one_value_has_std_1() -> None:
    made = Preprocess.measure(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8))
    assert made.mean == pytest.approx((0.2,))
    assert made.std == (1.0,)


def test_it_works_in_training_after_a_first_use_in_inference() -> None:
    made = Preprocess((0.123,), (0.456,))
    with torch.inference_mode():
        made(images(channels=1))
    layer = torch.nn.Conv2d(1, 1, 3)
    layer(made(images(channels=1))).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    ("mean", "std"), [((), ()), ((0.5,), (1.0, 1.0)), ((0.5,), (0.0,)), ((0.5,), (-1.0,)), ((float("nan"),), (1.0,))]
)
def test_impossible_numbers_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="mean"):
        Preprocess(mean, std)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3, dtype=torch.uint8)])
def test_only_byte_images_can_be_measured(wrong: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"torch\.uint8 of shape \(n, channels, height, width\)"):
        Preprocess.measure(wrong)
