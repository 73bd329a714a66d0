from __future__ import annotations

import json
import time
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sartor.costs import Flops, Ledger, count_flops, peak_resident_bytes, training_flops
from sartor.errors import ConfigError, PruningError, ResumeError
from sartor.prune.masks import Masks
from sartor.prune.scope import prunable
from sartor.types import Inputs


class Residual(nn.Module):
    """Two calls of one convolution, a functional product and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 10)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        hidden = functional.relu(self.norm(self.stem(images)))
        hidden = hidden + self.block(self.block(hidden))
        return self.fc(self.drop(hidden.mean((2, 3))))


class Standardised(nn.Conv2d):
    """A convolution whose kernel is computed from its weight."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(images, self.weight - self.weight.mean(), self.bias, self.stride, self.padding)


class Tied(nn.Module):
    """A Linear used twice, once through its weight alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.mix = nn.Linear(4, 4, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.mix(self.embed(tokens)), self.mix.weight)


class Named(nn.Module):
    """Takes two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(2, 5)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right)


CASES: dict[str, tuple[nn.Module, Any]] = {
    "convolutions": (Residual(), torch.zeros(2, 3, 6, 6)),
    "bfloat16": (Residual().bfloat16(), torch.zeros(2, 3, 6, 6, dtype=torch.bfloat16)),
    "channels last": (Residual().to(memory_format=torch.channels_last), torch.zeros(2, 3, 6, 6)),  # type: ignore[call-overload]
    "frozen": (Residual().requires_grad_(False), torch.zeros(2, 3, 6, 6)),
    "standardised": (nn.Sequential(Standardised(1, 4, 3), nn.Flatten(), nn.Linear(64, 3)), torch.zeros(1, 1, 6, 6)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(2, 4, 2, stride=2)), torch.zeros(3, 2, 5, 5)),
    "attention": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0), torch.zeros(3, 5, 16)),
    "tied": (Tied(), torch.zeros(2, 7, dtype=torch.int64)),
    "tuple": (nn.Bilinear(3, 2, 4), (torch.zeros(2, 3), torch.zeros(2, 2))),
    "dict": (Named(), {"left": torch.zeros(2, 3), "right": torch.zeros(2, 2)}),
}


def counted_by_torch(model: nn.Module, example: Any) -> int:
    arguments, named = (), {}
    if isinstance(example, dict):
        named = {name: value[:1] for name, value in example.items()}
    else:
        arguments = tuple(value[:1] for value in (example if isinstance(example, tuple) else (example,)))
    modes = {module: module.training for module in model.modules()}
    for module in model.modules():
        module.training = isinstance(module, nn.TransformerEncoderLayer)  # its fused evaluation is not counted
    with FlopCounterMode(display=False) as counter:
        model(*arguments, **named)
    for module, mode in modes.items():
        module.training = mode
    return counter.get_total_flops()


@pytest.mark.parametrize("case", CASES)
def test_the_total_equals_torchs_counter(case: str) -> None:
    model, example = CASES[case]
    flops = count_flops(model, example)
    if case != "attention":
        assert flops.forward == counted_by_torch(model, example)
    assert sum(flops.by_weight.values()) <= flops.forward
    assert set(prunable(model)) <= set(flops.by_weight)


def test_parts_by_hand() -> None:
    flops = count_flops(Residual(), torch.zeros(4, 3, 6, 6))
    block = 2 * 2 * 36 * 8 * 4 * 9
    assert flops.by_weight == {"stem.weight": 2 * 36 * 8 * 27, "block.weight": block, "fc.weight": 2 * 80}
    assert flops.forward == sum(flops.by_weight.values())


def test_weights_are_found_however_they_are_used() -> None:
    standardised = count_flops(*CASES["standardised"])
    assert standardised.by_weight == {"0.weight": 2 * 16 * 4 * 9, "2.weight": 2 * 64 * 3}
    assert count_flops(*CASES["tied"]).by_weight == {"mix.weight": 2 * (2 * 7 * 16)}


def test_a_model_without_data_has_the_same_parts() -> None:
    with torch.device("meta"):
        model, example = Residual(), torch.zeros(2, 3, 6, 6)
    assert count_flops(model, example) == count_flops(Residual(), torch.zeros(1, 3, 6, 6))


def test_attention_is_counted_in_full_in_evaluation() -> None:
    """Fused attention would hide all of it from the counter: in and out projections, two products, two Linears."""
    tokens, width, hidden = 5, 16, 32
    flops = count_flops(*CASES["attention"])
    products = 2 * 2 * tokens * tokens * width
    projection = 2 * tokens * width * width
    assert flops.by_weight == {
        "self_attn.out_proj.weight": projection,
        "linear1.weight": 2 * tokens * width * hidden,
        "linear2.weight": 2 * tokens * width * hidden,
    }
    assert flops.forward == sum(flops.by_weight.values()) + 3 * projection + products


def test_the_model_is_left_as_it_was() -> None:
    model = Residual()
    model.norm.eval()
    model.fc(torch.zeros(1, 8)).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient, random = model.fc.bias.grad.clone(), torch.get_rng_state()  # type: ignore[union-attr]
    count_flops(model, torch.zeros(2, 3, 6, 6))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.children()] == [True, False, True, True, True]
    assert torch.equal(model.fc.bias.grad, gradient)  # type: ignore[arg-type]
    assert model.stem.weight.grad is None
    assert torch.equal(random, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_model_is_left_as_it_was_when_it_fails() -> None:
    model = Residual()
    with pytest.raises(RuntimeError):
        count_flops(model, torch.zeros(2, 4, 6, 6))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_masked_flops_are_the_sum_of_parts_times_density() -> None:
    model = Residual()
    flops = count_flops(model, torch.zeros(1, 3, 6, 6))
    source = torch.Generator().manual_seed(0)
    masks = Masks(model, {name: torch.rand(w.shape, generator=source) < 0.3 for name, w in prunable(model).items()})
    expected = sum(flops.by_weight[name] * masks.kept(name) / masks[name].numel() for name in masks.names)
    assert flops.masked(masks.densities()) == pytest.approx(expected, rel=1e-12)
    assert flops.masked({}) == flops.forward
    assert flops.masked({"fc.weight": 0.25}) == flops.forward - 120
    with pytest.raises(PruningError, match=r"'fc\.weigth' were not counted\. Did you mean 'fc\.weight'"):
        flops.masked({"fc.weigth": 0.5})


def test_training_costs_three_passes_and_a_dense_gradient_more() -> None:
    flops = Flops(1000, {"a": 600, "b": 300})
    assert training_flops(flops, {}) == 3000
    assert training_flops(flops, {"a": 0.5}) == 3 * 700
    assert training_flops(flops, {"a": 0.5}, dense_gradient=True) == 2 * 700 + 1000
    assert training_flops(flops, {}, dense_gradient=True) == 3000


CHARGES = st.lists(
    st.tuples(
        st.sampled_from(["train", "select", "monitor"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.floats(0, 1e17, allow_nan=False),
        st.integers(0, 10**12),
    ),
    max_size=20,
)


@given(CHARGES, st.randoms(use_true_random=False), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_totals_depend_neither_on_order_nor_on_a_stop(charges: list[Any], random: Any, stop: int) -> None:
    straight, shuffled = Ledger(), list(charges)
    random.shuffle(shuffled)
    for purpose, forward, trained, flops, size in charges:
        straight.charge(purpose, forward=forward, trained=trained, flops=flops, bytes=size)
    resumed = Ledger()
    for number, (purpose, forward, trained, flops, size) in enumerate(shuffled):
        if number == stop:
            saved = json.loads(json.dumps(resumed.state_dict()))
            resumed = Ledger()
            resumed.load_state_dict(saved)
        resumed.charge(purpose, forward=forward, trained=trained, flops=flops, bytes=size)
    assert resumed.state_dict() == straight.state_dict()
    exact = sum((Fraction(c[3]) for c in charges if c[0] != "monitor"), Fraction(0))
    assert straight.flops() == float(exact)
    assert straight.samples() == {
        "forward": sum(c[1] for c in charges if c[0] != "monitor"),
        "trained": sum(c[2] for c in charges if c[0] != "monitor"),
    }


def test_small_charges_are_not_lost_in_a_large_total() -> None:
    ledger = Ledger()
    ledger.charge("train", flops=1e17)
    for _ in range(1000):
        ledger.charge("train", flops=1.0)
    assert ledger.flops() == 1e17 + 1000
    assert 1e17 + 1.0 == 1e17, "which plain addition would have lost, one by one"


def test_monitoring_is_recorded_but_not_counted() -> None:
    ledger = Ledger()
    ledger.charge("train", trained=300, flops=30.0, seconds=2.0, bytes=70)
    ledger.charge("train", trained=300, flops=30.5, seconds=1.0, bytes=50)
    ledger.charge("select", forward=100, flops=5.0, seconds=0.5)
    ledger.charge("monitor", forward=900, flops=99.0, seconds=9.0, bytes=999)
    assert (ledger.flops(), ledger.seconds(), ledger.samples()) == (65.5, 3.5, {"forward": 100, "trained": 600})
    assert ledger.epoch_equivalents(200) == 3.0
    assert ledger.by_purpose() == {
        "train": {"forward": 0, "trained": 600, "flops": 60.5, "seconds": 3.0, "bytes": 70},
        "select": {"forward": 100, "trained": 0, "flops": 5.0, "seconds": 0.5, "bytes": 0},
        "monitor": {"forward": 900, "trained": 0, "flops": 99.0, "seconds": 9.0, "bytes": 999},
    }
    assert json.loads(json.dumps(ledger.to_json())) == {
        "by_purpose": ledger.by_purpose(),
        "total": {"forward": 100, "trained": 600, "flops": 65.5, "seconds": 3.5, "bytes": 70},
    }


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    hands = Clock()
    monkeypatch.setattr(time, "perf_counter", hands)
    return hands


def test_seconds_belong_to_the_innermost_block(clock: Clock) -> None:
    ledger = Ledger()
    with ledger.timed("train"):
        clock.now += 2
        with ledger.timed("select"):
            clock.now += 5
        clock.now += 1
    clock.now += 50
    with ledger.timed("train"):
        clock.now += 4
    seconds = {purpose: costs["seconds"] for purpose, costs in ledger.by_purpose().items()}
    assert seconds == {"train": 7.0, "select": 5.0}
    assert ledger.by_purpose()["train"]["bytes"] == peak_resident_bytes() > 2**20


def test_a_block_that_fails_is_charged(clock: Clock) -> None:
    ledger = Ledger()

    def fail() -> None:
        with ledger.timed("train"):
            clock.now += 3
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    clock.now += 9
    assert ledger.seconds() == 3.0


def test_state_saved_in_an_open_block_holds_its_time(clock: Clock) -> None:
    ledger, resumed = Ledger(), Ledger()
    with ledger.timed("train"):
        clock.now += 3
        state = ledger.state_dict()
        clock.now += 1
    assert ledger.seconds() == 4.0
    clock.now += 1000
    with resumed.timed("train"):
        resumed.load_state_dict(state)
        clock.now += 1
    assert resumed.seconds() == 4.0, "what was timed before loading is replaced by what was saved"


def test_charges_and_states_are_checked() -> None:
    ledger = Ledger()
    for amount in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="flops charged to 'train' is"):
            ledger.charge("train", flops=amount)
    with pytest.raises(ConfigError, match="trained charged to 'train' is -1"):
        ledger.charge("train", trained=-1)
    assert ledger.by_purpose() == {}
    with pytest.raises(ResumeError, match="the costs of 'train' have"):
        ledger.load_state_dict({"train": {"flops": "1"}})


def test_inputs_cover_what_a_module_takes() -> None:
    example: Inputs = {"left": torch.zeros(1, 3), "right": torch.zeros(1, 2)}
    assert count_flops(Named(), example).forward == 2 * 15 + 2 * 10
