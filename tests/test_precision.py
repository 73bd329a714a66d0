"""bfloat16 is picked where it pays, keeps the ranking, and never leaks into what is returned."""

from __future__ import annotations

import pytest
import torch

from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.precision import WORTHWHILE, arithmetic, has_bf16, pick_precision
from sartor.scanning import scan

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "native", "flops", "picked"),
    [
        ("auto", True, WORTHWHILE, "bf16"),
        ("auto", True, WORTHWHILE - 1, "fp32"),
        ("auto", False, 10 * WORTHWHILE, "fp32"),
        ("fp32", True, 10 * WORTHWHILE, "fp32"),
        ("bf16", False, 1, "bf16"),
    ],
)
def test_auto_needs_hardware_and_a_network_of_some_size(monkeypatch, asked, native, flops, picked):
    monkeypatch.setattr("sartor.precision.has_bf16", lambda device: native)
    assert pick_precision(asked, CPU, flops) == picked


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"precision is 'bf61'.*Did you mean 'bf16'"):
        pick_precision("bf61", CPU, 1)
    with pytest.raises(ConfigError, match=r"mps has no mixed precision here. Use fp32"):
        pick_precision("bf16", torch.device("mps"), 1)
    assert pick_precision("auto", torch.device("mps"), 10 * WORTHWHILE) == "fp32"
    assert not has_bf16(torch.device("mps"))


def test_products_are_rounded_only_inside():
    left, right = torch.tensor([[1.0 + 2**-12]]), torch.ones(1, 1)
    with arithmetic("bf16", CPU):
        assert (left @ right).dtype == torch.bfloat16
    with arithmetic("fp32", CPU):
        assert float(left @ right) == 1 + 2**-12
    assert (left @ right).dtype == torch.float32


def test_a_scan_in_bf16_is_close_float32_and_keeps_the_order_of_el2n():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (400, 3, 16, 16), dtype=torch.uint8, generator=generator)
    pool = Pool.from_arrays(images, torch.randint(0, 10, (400,), generator=generator))
    model = build_model("resnet8", classes=10, input_shape=(3, 16, 16), seed=0)
    needs = {"logits", "features", "targets"}
    exact, rounded = (scan(model, pool, needs=needs, precision=p) for p in ("fp32", "bf16"))
    for part in ("logits", "features"):
        assert getattr(rounded, part).dtype == torch.float32
        assert not torch.equal(getattr(rounded, part), getattr(exact, part))
        scale = getattr(exact, part).abs().max()
        torch.testing.assert_close(getattr(rounded, part), getattr(exact, part), rtol=0, atol=0.02 * float(scale))
    top = [set(s.errors(slice(None)).norm(dim=1).topk(40).indices.tolist()) for s in (exact, rounded)]
    assert len(top[0] & top[1]) >= 36
