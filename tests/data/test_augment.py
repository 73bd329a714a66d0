from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import alternating
from reference import cropping as literal
from sartor.data import Augment
from sartor.data.augment import crop_and_flip, hashed
from sartor.data.hashing import id_keys
from sartor.errors import ConfigError, DataError

KEYS = id_keys([f"{i:05d}" for i in range(6000)])


def images(b: int, channels: int = 1, height: int = 4, width: int = 5) -> torch.Tensor:
    return torch.randn(b, channels, height, width, generator=torch.Generator().manual_seed(b))


@given(st.data(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_the_gather_is_the_literal_crop_and_flip(
    data: st.DataObject, b: int, channels: int, height: int, width: int, pad: int
) -> None:
    offsets = st.lists(st.integers(0, 2 * pad), min_size=b, max_size=b).map(torch.tensor)
    down, right = data.draw(offsets), data.draw(offsets)
    flips = torch.tensor(data.draw(st.lists(st.booleans(), min_size=b, max_size=b)))
    batch = images(b, channels, height, width)
    expected = literal.crop_and_flip(batch, pad, down, right, flips)
    assert torch.equal(crop_and_flip(batch, pad, down, right, flips), expected)


def test_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    one, zero, two = torch.tensor([1]), torch.tensor([0]), torch.tensor([2])
    no, yes = torch.tensor([False]), torch.tensor([True])
    assert crop_and_flip(image, 1, one, one, no).tolist() == image.tolist()
    assert crop_and_flip(image, 1, one, one, yes)[0, 0].tolist() == [[2, 1], [4, 3]]
    assert crop_and_flip(image, 1, zero, zero, no)[0, 0].tolist() == [[0, 0], [0, 1]]
    assert crop_and_flip(image, 1, two, zero, yes)[0, 0].tolist() == [[3, 0], [0, 0]]


@given(st.permutations(range(8)), st.integers(1, 8))
def test_draws_do_not_depend_on_the_batch(order: list[int], size: int) -> None:
    augment, batch, keys = Augment(crop=2, flip=True), images(8), KEYS[:8]
    whole = augment(batch, keys, seed=1, epoch=3)
    for part in torch.tensor(order).split(size):
        assert torch.equal(augment(batch[part], keys[part], seed=1, epoch=3), whole[part])


def test_epoch_and_seed_change_the_draws() -> None:
    augment, batch, keys = Augment(crop=2, flip=True), images(16), KEYS[:16]
    first = augment(batch, keys, seed=0, epoch=0)
    assert torch.equal(first, augment(batch, keys, seed=0, epoch=0))
    assert not torch.equal(first, augment(batch, keys, seed=0, epoch=1))
    assert not torch.equal(first, augment(batch, keys, seed=1, epoch=0))


def test_all_offsets_and_both_sides_are_as_likely() -> None:
    position = torch.arange(1.0, 26.0).view(1, 1, 5, 5).expand(len(KEYS), 1, 5, 5)
    made = Augment(crop=1, flip=True)(position, KEYS, seed=0, epoch=0)
    middle, right_of_it = made[:, 0, 2, 2].long(), made[:, 0, 2, 3].long()
    flipped = right_of_it < middle
    counts = torch.bincount((middle - 1) * 2 + flipped.long(), minlength=50)
    counts = counts[counts > 0].double()
    assert len(counts) == 18
    expected = len(KEYS) / 18
    assert float(((counts - expected) ** 2 / expected).sum()) < 45  # chi-square, 17 degrees of freedom: p = 2e-4


def test_only_what_is_asked_for_happens() -> None:
    batch, keys = images(64), KEYS[:64]
    assert Augment()(batch, keys, seed=0, epoch=0) is batch
    flipped = Augment(flip=True)(batch, keys, seed=0, epoch=0)
    mirrored = (flipped == batch.flip(3)).flatten(1).all(1)
    assert bool((mirrored | (flipped == batch).flatten(1).all(1)).all())
    assert 16 < int(mirrored.sum()) < 48
    cropped = Augment(crop=4)(batch, keys, seed=0, epoch=0)
    assert cropped.shape == batch.shape
    assert not torch.equal(cropped, batch)


def mirrored(augment: Augment, batch: torch.Tensor, keys: torch.Tensor, seed: int, epoch: int) -> list[bool]:
    """Which images of a batch without symmetric ones come out mirrored; the others come out as they are."""
    made = augment(batch, keys, seed=seed, epoch=epoch)
    flipped = (made == batch.flip(3)).flatten(1).all(1)
    assert torch.equal(~flipped, (made == batch).flatten(1).all(1))
    return flipped.tolist()


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 6))
def test_alternating_flips_are_the_literal_ones(seed: int, b: int, epochs: int) -> None:
    augment, batch, keys = Augment(flip=True, alternate=True), images(b), KEYS[100 : 100 + b]
    table = [mirrored(augment, batch, keys, seed, epoch) for epoch in range(epochs)]
    assert table == alternating.flips(table[0], epochs)
    assert all(sum(sample[:2]) == 1 for sample in zip(*table)), "two epochs show both sides of every sample"


def test_alternating_flips_turn_over_half_of_the_samples_first_and_others_with_another_seed() -> None:
    augment, batch = Augment(flip=True, alternate=True), torch.arange(2.0).expand(len(KEYS), 1, 1, 2)
    first, other = (torch.tensor(mirrored(augment, batch, KEYS, seed, 0)) for seed in (0, 1))
    for flips in (first, other, first ^ other):
        assert abs(int(flips.sum()) - len(KEYS) / 2) < 4 * (len(KEYS) / 4) ** 0.5  # four standard deviations


@given(st.permutations(range(8)), st.integers(1, 8), st.integers(0, 9))
def test_alternating_draws_do_not_depend_on_the_batch(order: list[int], size: int, epoch: int) -> None:
    augment, batch, keys = Augment(crop=1, flip=True, alternate=True), images(8), KEYS[:8]
    whole = augment(batch, keys, seed=1, epoch=epoch)
    for part in torch.tensor(order).split(size):
        assert torch.equal(augment(batch[part], keys[part], seed=1, epoch=epoch), whole[part])


def test_crops_are_the_same_with_alternating_flips() -> None:
    same = torch.ones(6, 1, 4, 4).cumsum(2)  # each line is constant, so that a flip does not show
    made = [
        Augment(crop=1, flip=True, alternate=kind)(same, KEYS[:6], seed=0, epoch=1)[..., 1:3] for kind in (False, True)
    ]
    assert torch.equal(*made)


def test_the_given_batch_is_left_alone() -> None:
    batch = images(4)
    before = batch.clone()
    Augment(crop=1, flip=True)(batch, KEYS[:4], seed=0, epoch=0)
    assert torch.equal(batch, before)


def test_it_takes_channels_last_memory() -> None:
    batch = images(4, channels=3)
    augment = Augment(crop=1, flip=True)
    other = augment(batch.contiguous(memory_format=torch.channels_last), KEYS[:4], seed=0, epoch=0)
    assert torch.equal(other, augment(batch, KEYS[:4], seed=0, epoch=0))


def test_hashed_lies_in_the_unit_interval() -> None:
    drawn = hashed(KEYS, 0, 0, "test")
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1


def test_a_negative_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop is -1"):
        Augment(crop=-1)


def test_alternation_of_no_flips_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is flipped"):
        Augment(crop=4, alternate=True)


def test_what_is_no_image_is_refused() -> None:
    Augment().check((torch.zeros(2, 3),))
    Augment(flip=True).check(images(2))
    for wrong in (torch.zeros(2, 3), (images(2), images(2)), {"x": images(2)}):
        with pytest.raises(DataError, match="crop and flip need images"):
            Augment(flip=True).check(wrong)
