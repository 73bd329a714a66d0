from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import hashing as literal
from sartor.data.hashing import hashes, id_keys, uniform

IDS = st.lists(st.text(max_size=30), min_size=1, max_size=20)


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@given(IDS)
def test_keys_are_those_of_the_literal_hash(ids: list[str]) -> None:
    assert id_keys(ids).tolist() == [signed(literal.key(name)) for name in ids]


@given(IDS, st.integers(0, 2**40), st.integers(0, 1000))
def test_uniform_is_that_of_the_literal_hash(ids: list[str], seed: int, epoch: int) -> None:
    assert uniform(id_keys(ids), seed, "test", epoch).tolist() == [literal.draw(i, seed, "test", epoch) for i in ids]


def test_a_key_does_not_depend_on_the_other_ids() -> None:
    alone = id_keys(["a"])
    assert id_keys(["a", "b" * 100])[0] == alone[0]
    assert id_keys(["x", "a"])[1] == alone[0]


def test_ids_that_look_alike_have_different_keys() -> None:
    ids = ["", "\0", "\0\0", "a", "a\0", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaa\0", "é", "e\u0301", "\udc80"]
    assert len(set(id_keys(ids).tolist())) == len(ids)


def test_no_ids_give_no_keys() -> None:
    assert id_keys([]).shape == (0,)


def test_draws_are_uniform_and_unrelated_between_purposes_epochs_and_seeds() -> None:
    keys = id_keys([f"{i:06d}" for i in range(40_000)])
    draws = torch.stack(
        [uniform(keys, 0, "a"), uniform(keys, 0, "b"), uniform(keys, 0, "a", 1), uniform(keys, 1, "a")]
    ).double()
    assert bool((draws >= 0).all())
    assert bool((draws < 1).all())
    counts = torch.stack([torch.histc(row, 20, 0, 1) for row in draws])
    assert bool((((counts - 2000) ** 2 / 2000).sum(1) < 50).all())  # chi-square with 19 degrees of freedom: p = 1e-4
    correlation = torch.corrcoef(torch.cat([draws, draws[:1].roll(1, 1)])) - torch.eye(5)
    assert float(correlation.abs().max()) < 4.5 / 200


def test_bits_of_neighbouring_ids_are_balanced() -> None:
    drawn = hashes(id_keys([str(i) for i in range(20_000)]), 3, "bits")
    for bit in range(64):
        assert abs(float(((drawn >> bit) & 1).double().mean()) - 0.5) < 5 * 0.5 / 20_000**0.5
