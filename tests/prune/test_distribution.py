from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.erk import literal_densities
from sartor.costs import count_flops
from sartor.errors import ConfigError, PruningError
from sartor.prune.distribution import kept_counts, random_masks
from sartor.prune.scope import prunable
from sartor.registry import MODELS

LAYERS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3]), st.sampled_from([1, 3, 5])),
    ),
    min_size=1,
    max_size=8,
).map(lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)})
SPARSITIES = st.integers(0, 99).map(lambda percent: percent / 100)


def exact_total(sparsity: float, size: int) -> int:
    return math.floor((1 - Fraction(str(sparsity))) * size + Fraction(1, 2))


@given(LAYERS, SPARSITIES, st.sampled_from(["er", "erk"]))
@settings(max_examples=300, deadline=None)
def test_the_total_is_exact_and_every_layer_keeps_between_one_and_all(
    shapes: dict[str, tuple[int, ...]], sparsity: float, kind: str
) -> None:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = exact_total(sparsity, sum(sizes.values()))
    if total < len(shapes):
        with pytest.raises(PruningError, match="each of the"):
            kept_counts(shapes, sparsity, kind)
        return
    kept = kept_counts(shapes, sparsity, kind)
    assert list(kept) == list(shapes)
    assert sum(kept.values()) == total
    assert all(1 <= kept[name] <= sizes[name] for name in shapes)


@given(LAYERS, SPARSITIES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_densities_are_those_of_the_original_up_to_rounding(
    shapes: dict[str, tuple[int, ...]], sparsity: float, kernel: bool
) -> None:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    wanted = literal_densities(shapes, sparsity, kernel=kernel)
    if any(wanted[name] * sizes[name] < 1 + len(shapes) for name in shapes):
        return  # the original has no guard for layers that keep nothing
    kept = kept_counts(shapes, sparsity, "erk" if kernel else "er")
    for name, size in sizes.items():
        assert abs(kept[name] - wanted[name] * size) <= len(shapes) + 1, (
            "the original rounds the zeros of each layer down, which moves at most one weight a layer"
        )


def resnet50() -> dict[str, tuple[tuple[int, ...], int]]:
    """Return shape and output positions of every weight of ResNet-50 at 224 x 224 (stride in the 3 x 3 convolution)."""
    layers: dict[str, tuple[tuple[int, ...], int]] = {"stem": ((64, 3, 7, 7), 112 * 112)}
    width_in = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        side = 56 >> stage
        for block in range(blocks):
            before = side * 2 if stage > 0 and block == 0 else side
            name = f"stage{stage}.{block}"
            layers[f"{name}.1"] = ((width, width_in, 1, 1), before**2)
            layers[f"{name}.2"] = ((width, width, 3, 3), side**2)
            layers[f"{name}.3"] = ((4 * width, width, 1, 1), side**2)
            if block == 0:
                layers[f"{name}.shortcut"] = ((4 * width, width_in, 1, 1), side**2)
            width_in = 4 * width
    layers["head"] = ((1000, 2048), 1)
    return layers


@pytest.mark.parametrize(("sparsity", "published"), [(0.8, 0.42), (0.9, 0.24)])
def test_resnet50_has_the_published_share_of_flops(sparsity: float, published: float) -> None:
    """Evci et al. 2020, Table of ResNet-50 results: RigL with ERK tests at 0.42x and 0.24x of the dense FLOPs."""
    layers = resnet50()
    assert sum(math.prod(shape) for shape, _ in layers.values()) == 25_502_912
    kept = kept_counts({name: shape for name, (shape, _) in layers.items()}, sparsity)
    dense = sum(math.prod(shape) * positions for shape, positions in layers.values())
    sparse = sum(kept[name] * positions for name, (_, positions) in layers.items())
    assert sparse / dense == pytest.approx(published, abs=0.01)


SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)


@pytest.mark.parametrize(
    ("network", "fractions"),
    [
        ("resnet18", (0.968, 0.904, 0.797, 0.633, 0.249, 0.126, 0.026)),
        ("resnet101", (0.963, 0.785, 0.617, 0.410, 0.161, 0.081, 0.016)),
    ],
)
def test_shares_of_flops_of_residual_networks_for_small_images(network: str, fractions: tuple[float, ...]) -> None:
    """A sparsity is no share of FLOPs: at 0.7, ResNet-18 still has 63 % of them, and ResNet-101 has 41 %."""
    with torch.device("meta"):
        model = MODELS.build(network, classes=10, input_shape=(3, 32, 32))
        flops = count_flops(model, torch.zeros(1, 3, 32, 32))
    weights = prunable(model)
    for sparsity, fraction in zip(SHARES, fractions, strict=True):
        kept = kept_counts({name: tuple(weight.shape) for name, weight in weights.items()}, sparsity)
        densities = {name: kept[name] / weight.numel() for name, weight in weights.items()}
        assert flops.masked(densities) / flops.forward == pytest.approx(fraction, abs=2e-3)


def test_hand_computed_erk() -> None:
    """Raw densities 0.75 and 0.2 of 8 and 100 weights: 54 kept make eps = 54 / 26 > 1 / 0.75, so the first is dense."""
    kept = kept_counts({"small": (4, 2), "large": (10, 10)}, 0.5)
    assert kept == {"small": 8, "large": 46}
    thin = kept_counts({"small": (4, 2), "large": (10, 10)}, 0.9)
    assert thin == {"small": 3, "large": 8}, "11 kept in proportion 6 : 20 is 2.54 : 8.46"


def test_a_layer_that_would_keep_nothing_gets_one_from_the_others() -> None:
    """Of 100 kept weights the tiny layer's share is 0.15."""
    assert kept_counts({"tiny": (2, 1), "large": (1000, 1000)}, 0.9999) == {"tiny": 1, "large": 99}


def test_er_leaves_the_kernel_out() -> None:
    shapes = {"wide": (20, 20, 1, 1), "square": (20, 20, 3, 3)}
    erk, er = kept_counts(shapes, 0.9), kept_counts(shapes, 0.9, "er")
    assert er["wide"] / 400 == pytest.approx(er["square"] / 3600, abs=2e-3)
    assert erk["wide"] / 400 > 2 * erk["square"] / 3600


def test_uniform_rounds_each_layer_and_leaves_none_empty() -> None:
    kept = kept_counts({"a": (5, 3), "b": (2, 1), "c": (10, 10)}, 0.9, "uniform")
    assert kept == {"a": 2, "b": 1, "c": 10}


def test_sparsity_is_the_written_decimal() -> None:
    """1 - 0.9 is a little less than 0.1 in floating point; half a weight must still round up."""
    assert kept_counts({"a": (5, 1)}, 0.9) == {"a": 1}
    assert kept_counts({"a": (1, 25)}, 0.7)["a"] == 8


def test_sparsity_zero_keeps_all() -> None:
    shapes = {"a": (7, 5), "b": (3, 2, 3, 3)}
    for kind in ("uniform", "er", "erk"):
        assert kept_counts(shapes, 0, kind) == {"a": 35, "b": 54}


def test_errors_say_what_is_possible() -> None:
    with pytest.raises(PruningError, match=r"keeps 1 of 100 weights.* at most 0\.98"):
        kept_counts({"a": (5, 10), "b": (10, 5)}, 0.99)
    with pytest.raises(ConfigError, match="Did you mean 'erk'"):
        kept_counts({"a": (5, 10)}, 0.9, "erks")
    with pytest.raises(ConfigError, match=r"Did you mean 0\.9"):
        kept_counts({"a": (5, 10)}, 90)


def test_random_masks_have_exact_counts_and_depend_on_the_generator_alone() -> None:
    shapes, kept = {"a": (7, 5), "b": (3, 2, 3, 3)}, {"a": 11, "b": 54}
    before = torch.get_rng_state()
    first = random_masks(shapes, kept, torch.Generator().manual_seed(3))
    again = random_masks(shapes, kept, torch.Generator().manual_seed(3))
    other = random_masks(shapes, kept, torch.Generator().manual_seed(4))
    assert torch.equal(before, torch.get_rng_state())
    assert {name: tuple(mask.shape) for name, mask in first.items()} == shapes
    assert {name: int(mask.sum()) for name, mask in first.items()} == kept
    assert torch.equal(first["a"], again["a"])
    assert not torch.equal(first["a"], other["a"])
