from __future__ import annotations

import pytest
import torch
from torch import nn

from reference.networks import character_logits
from sartor.costs import count_flops
from sartor.data.texts import SYMBOLS
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.models.vdcnn import SHORTEST, Characters, LargestPool
from sartor.registry import MODELS

LONG = (1024,)
CONNECTED = 4096 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 2 + 2


@pytest.mark.parametrize(
    ("depth", "expected", "published"), [(9, 14_173_202, 14.18e6), (17, 16_266_002, 16.27e6), (29, 16_636_946, 16.64e6)]
)
def test_parameter_counts(depth: int, expected: int, published: float) -> None:
    """With the 141 symbols that the published counts are for; these count biases before norms too, at most 5,504."""
    for symbols, count in ((141, expected), (SYMBOLS, expected - 16 * (141 - SYMBOLS))):
        with torch.device("meta"):
            model = MODELS.build(f"vdcnn{depth}(symbols={symbols})", classes=2, input_shape=LONG)
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert sum(p.numel() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()) == CONNECTED
    assert expected == pytest.approx(published, rel=1e-3)


def test_the_alphabet_is_that_of_the_data() -> None:
    assert MODELS.options("vdcnn9")["symbols"] == SYMBOLS == 69


@pytest.mark.parametrize(("depth", "blocks"), [(9, (1, 1, 1, 1)), (17, (2, 2, 2, 2)), (29, (5, 5, 2, 2))])
def test_it_computes_what_the_literal_version_computes(depth: int, blocks: tuple[int, ...]) -> None:
    model = build_model(f"vdcnn{depth}(width=3, hidden=7)", classes=5, input_shape=(70,), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    x = torch.randint(SYMBOLS, (3, 70), generator=generator)
    x[1, 40:] = 0
    torch.testing.assert_close(model.eval()(x), character_logits(x, model.state_dict(), blocks))
    assert torch.equal(model(x), model(x.int()))


def test_the_largest_values_stay_in_their_order_and_of_equal_ones_the_first() -> None:
    x = torch.tensor([[[0.0, 5, 0, 3, 0, 4, 0], [7, 6, 5, 4, 3, 2, 1]]], requires_grad=True)
    kept = LargestPool(4)(x)
    assert kept.tolist() == [[[0, 5, 3, 4], [7, 6, 5, 4]]]
    kept.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[1, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0]]]


def test_the_shortest_text_leaves_as_many_places_as_are_kept() -> None:
    model = MODELS.build("vdcnn9(width=1, hidden=2)", classes=2, input_shape=(SHORTEST,))
    sizes: list[int] = []
    model.largest.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[2]))
    model(torch.ones(2, SHORTEST, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(2, SHORTEST - 1, dtype=torch.int64))
    assert sizes == [8, 7]


def test_the_multiplications_of_a_block_are_those_by_hand() -> None:
    model = MODELS.build("vdcnn9(width=4, hidden=5)", classes=3, input_shape=(64,))
    counted = count_flops(model, torch.ones(1, 64, dtype=torch.int64))
    assert counted.by_weight["conv1.weight"] == 2 * 16 * 4 * 3 * 64
    assert counted.by_weight["stage2.0.conv1.weight"] == 2 * 4 * 8 * 3 * 32
    assert counted.by_weight["stage4.0.conv2.weight"] == 2 * 32 * 32 * 3 * 8
    assert counted.by_weight["hidden1.weight"] == 2 * 8 * 32 * 5
    assert counted.forward == sum(counted.by_weight.values())


def test_initial_weights() -> None:
    model = build_model("vdcnn9(hidden=8)", classes=10, input_shape=LONG, seed=0)
    weight = model.stage4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 3)) ** 0.5, rel=0.02)
    assert not model.characters.weight[0].any()


def test_inputs_that_are_no_characters_are_explained() -> None:
    read = Characters(5, 2, padding_idx=0)
    with pytest.raises(ConfigError, match=r"as whole numbers, but its input is torch.float32; give int64"):
        read(torch.ones(2, 3))
    with pytest.raises(ConfigError, match=r"knows the characters 0\.\.4, the text has 1\.\.7; set symbols=NUMBER"):
        read(torch.tensor([[1, 7]]))


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("vdcnn9", (56,), r"vdcnn9 is asked to take samples of shape \(56,\); it takes texts of 57 or more"),
        ("vdcnn17", (3, 32, 32), "vdcnn17 is asked to take"),
        ("vdcnn29", ((100,), (2,)), "vdcnn29 takes one tensor"),
        ("vdcnn9(symbols=1)", LONG, "symbols of vdcnn9 is 1; it must be at least 2"),
        ("vdcnn9(hidden=0)", LONG, "hidden of vdcnn9 is 0"),
        ("vdcnn9(width=0)", LONG, "width of vdcnn9 is 0"),
        ("vdcnn9(dropout=1)", LONG, "dropout of vdcnn9 is 1"),
        ("vdcnn49", LONG, "no model called 'vdcnn49'"),
    ],
)
def test_what_it_refuses(spec: str, shape: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
