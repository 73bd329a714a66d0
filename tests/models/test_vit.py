from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sartor.costs import count_flops
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.models.vit import Block
from sartor.registry import MODELS

SMALL = (3, 32, 32)
TINY = "vit-s(depth=2, width=24, heads=3, patch=4)"


@pytest.mark.parametrize(
    ("spec", "classes", "shape", "expected"),
    [
        ("vit-s", 10, SMALL, 21_342_346),
        ("vit-s", 100, SMALL, 21_376_996),
        ("vit-s(patch=16)", 1000, (3, 224, 224), 22_050_664),  # 22 M in table 1 of DeiT's paper
        ("vit-s(patch=16, width=192, heads=3)", 1000, (3, 224, 224), 5_717_416),  # 5 M: DeiT-Ti
    ],
)
def test_parameter_counts(spec: str, classes: int, shape: tuple[int, ...], expected: int) -> None:
    with torch.device("meta"):
        model = MODELS.build(spec, classes=classes, input_shape=shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_a_block_computes_what_torchs_own_encoder_layer_computes() -> None:
    torch.manual_seed(0)
    block = Block(24, 3)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    twin = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "norm1": "norm1",
        "attention.qkv.": "self_attn.in_proj_",
        "attention.proj": "self_attn.out_proj",
        "norm2": "norm2",
        "mlp.0": "linear1",
        "mlp.2": "linear2",
    }
    state = {}
    for name, value in block.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        state[name.replace(old, names[old])] = value
    twin.load_state_dict(state)
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x), twin(x), rtol=1e-4, atol=1e-4)


def test_tokens_are_patches_row_by_row_behind_the_class_token() -> None:
    model = build_model("vit-s(depth=1, width=6, heads=2, patch=2)", classes=3, input_shape=(1, 4, 6), seed=0)
    seen: list[torch.Tensor] = []
    model.blocks.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 1, 4, 6)
    model(x)
    expected = [model.class_token[0, 0]]
    for row in (0, 2):
        for column in (0, 2, 4):
            patch = x[0, :, row : row + 2, column : column + 2]
            expected.append((model.patches.weight * patch).sum((1, 2, 3)) + model.patches.bias)
    torch.testing.assert_close(seen[0][0], torch.stack(expected) + model.positions[0])


def test_heads_and_places_that_are_cut_out_leave_what_the_rest_computes() -> None:
    """Cutting by hand: the heads 0 and 2 of three, then the first 5 places of the 8 in each."""
    model = build_model(TINY, classes=3, input_shape=(3, 8, 8), seed=0)
    x = torch.randn(2, 3, 8, 8)
    for kept_heads, kept_places in (((0, 2), range(8)), ((0, 1, 2), range(5))):
        masked, small = copy.deepcopy(model), copy.deepcopy(model)
        kept = torch.tensor([8 * head + place for head in kept_heads for place in kept_places])
        rows = torch.cat([kept, kept + 24, kept + 48])
        for big, cut in zip(masked.blocks, small.blocks, strict=True):
            with torch.no_grad():
                gone = torch.ones(72, dtype=torch.bool).index_fill(0, rows, False)
                big.attention.qkv.weight[gone] = 0
                big.attention.qkv.bias[gone] = 0
                cut.attention.qkv.weight = nn.Parameter(cut.attention.qkv.weight[rows])
                cut.attention.qkv.bias = nn.Parameter(cut.attention.qkv.bias[rows])
                cut.attention.proj.weight = nn.Parameter(cut.attention.proj.weight[:, kept])
            cut.attention.num_heads, cut.attention.head_dim = len(kept_heads), len(kept_places)
        torch.testing.assert_close(small(x), masked(x))
        assert not torch.allclose(small(x), model(x))


def test_the_multiplications_of_a_block_are_those_by_hand() -> None:
    model = MODELS.build(TINY, classes=3, input_shape=(3, 8, 8))
    counted = count_flops(model, torch.zeros(1, 3, 8, 8))
    tokens = 2 * 2 + 1
    assert counted.by_weight["blocks.0.attention.qkv.weight"] == 2 * tokens * 24 * 72
    assert counted.by_weight["blocks.0.attention.proj.weight"] == 2 * tokens * 24 * 24
    assert counted.by_weight["blocks.0.mlp.0.weight"] == 2 * tokens * 24 * 96
    assert counted.by_weight["patches.weight"] == 2 * 4 * 3 * 16 * 24
    products = 2 * (2 * tokens * tokens * 24)  # q k' and its product with v, over all heads
    assert counted.forward == sum(counted.by_weight.values()) + 2 * products


def test_initial_weights() -> None:
    model = build_model("vit-s(depth=1)", classes=10, input_shape=SMALL, seed=0)
    assert model.blocks[0].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.02)
    assert not model.blocks[0].mlp[0].bias.any()
    assert model.classifier.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("vit-s(patch=3)", (1, 28, 28), r"patches of 3 x 3 do not fill 28 x 28; patch may be 1, 2, 4, 7, 14, 28\."),
        ("vit-s", (3, 32, 30), r"do not fill 32 x 30; patch may be 1, 2\."),
        ("vit-s(heads=5)", SMALL, "the width of vit-s is 384, which 5 heads cannot share evenly"),
        ("vit-s(heads=0)", SMALL, "the number of heads of vit-s is 0"),
        ("vit-s(patch=0)", SMALL, "the side of the patches of vit-s is 0"),
        ("vit-s(depth=0)", SMALL, "the depth of vit-s is 0"),
        ("vit-s(width=0)", SMALL, "width of vit-s is 0"),
        ("vit-s(dropout=2)", SMALL, "dropout of vit-s is 2"),
        ("vit-s", (1024,), "vit-s is asked to take .* it takes images"),
        ("vit-s", {"pixels": SMALL}, "vit-s takes one tensor"),
    ],
)
def test_what_it_refuses(spec: str, shape: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(spec, classes=10, input_shape=shape)
