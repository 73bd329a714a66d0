"""bfloat16 is picked where it pays, keeps the ranking, and never leaks into what is returned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.costs import count_flops
from sartor.data.pool import Pool
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.precision import WORTHWHILE, arithmetic, gains, has_bf16, pick_precision
from sartor.recipes import SWaST
from sartor.scanning import scan

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "native", "gaining", "picked"),
    [
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp32"),
        ("auto", False, True, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
    ],
)
def test_auto_needs_hardware_and_a_network_that_gains(monkeypatch, asked, native, gaining, picked):
    monkeypatch.setattr("sartor.precision.has_bf16", lambda device: native)
    assert pick_precision(asked, CPU, gaining) == picked
    if asked == "auto":
        assert pick_precision(asked, torch.device("cuda"), gaining) == "fp32", "it was not measured there"


def test_large_networks_of_convolutions_gain():
    """A small transformer in training was measured to be slower in bf16, though its FLOPs are many."""
    convolutions = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten())
    image = torch.zeros(1, 3, 16, 16)
    assert count_flops(convolutions, image).forward > WORTHWHILE
    assert gains(convolutions, count_flops(convolutions, image))
    assert not gains(nn.Conv2d(3, 8, 3), count_flops(nn.Conv2d(3, 8, 3), image))
    wide = nn.Sequential(nn.Flatten(), nn.Linear(768, 8192))
    assert count_flops(wide, image).forward > WORTHWHILE
    assert not gains(wide, count_flops(wide, image))


class Halves(nn.Module):
    """Writes float32 into a table of its own, which mixed precision cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 64, 3), nn.Linear(64, 3)

    def forward(self, x):
        out = torch.zeros(len(x), 3)
        out[torch.arange(len(x))] = self.head(self.body(x).mean((2, 3)))
        return out


def test_a_network_that_bf16_cannot_run_is_refused_and_fp32_is_the_way_round():
    data = torch.randn(40, 3, 8, 8), torch.arange(40) % 3
    options = {"epochs": 2, "fraction": 0.5, "every": 1, "selector": "el2n", "pruner": "none", "holdout": 0.0}
    with pytest.raises(ConfigError, match=r"cannot be run in bf16 \(Index put.*use --precision fp32 --scoring fp32"):
        SWaST(**options, precision="bf16", scoring="bf16").fit(Halves(), data)
    SWaST(**options, precision="fp32", scoring="fp32").fit(Halves(), data)


class Casts(nn.Module):
    """Returns its head's output as float32: the very tensor, or in mixed precision another one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x)).float()


def test_the_head_is_found_behind_a_cast():
    pool = Pool.from_arrays(torch.randn(20, 6), torch.arange(20) % 3)
    model = Casts()
    exact, rounded = (scan(model, pool, needs={"features"}, precision=p).features for p in ("fp32", "bf16"))
    torch.testing.assert_close(exact, rounded, atol=0.1, rtol=0.1)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"precision is 'bf61'.*Did you mean 'bf16'"):
        pick_precision("bf61", CPU, False)
    with pytest.raises(ConfigError, match=r"mps has no mixed precision here. Use fp32"):
        pick_precision("bf16", torch.device("mps"), False)
    assert pick_precision("auto", torch.device("mps"), True) == "fp32"
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
