from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from reference.rigl import LiteralRun, literal_move, two_sorts_move
from sartor.errors import ConfigError, PruningError
from sartor.prune.masks import Masks
from sartor.prune.rewiring import drop_and_grow
from sartor.prune.rigl import RigL
from sartor.registry import PRUNERS

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
}


def network(seed: int = 0, *, norm: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle: nn.Module = nn.BatchNorm2d(6) if norm else nn.Identity()
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, bias=False),
            middle,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 10),
            nn.ReLU(),
            nn.Linear(10, 3),
        )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    source = generator(1000 + seed)
    return torch.randn(8, 2, 6, 6, generator=source), torch.randint(3, (8,), generator=source)


def train(
    model: nn.Module, masks: Masks, optimizer: Optimizer, pruner: RigL, steps: range, total: int = 40
) -> list[bool]:
    answers = []
    for step in steps:
        inputs, targets = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs.to(next(model.parameters()).dtype)).float(), targets).backward()
        answers.append(pruner.update(masks, step=step, total_steps=total))
        masks.apply_to_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if answers[-1]:
            optimizer.step()
        assert dead_are_zero(masks)
    return answers


def dead_are_zero(masks: Masks) -> bool:
    return all(bool((masks.parameter(name)[~masks[name]] == 0).all()) for name in masks.names)


def put_gradients(masks: Masks, seed: int = 0) -> None:
    source = generator(seed)
    for name in masks.names:
        masks.parameter(name).grad = torch.randn(masks[name].shape, generator=source)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_move_is_that_of_the_literal_version_ties_included(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 8))
    size = rows * columns
    values = st.lists(st.integers(-2, 2).map(float), min_size=size, max_size=size)
    mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    weight, gradient = data.draw(values), data.draw(values)
    count = data.draw(st.integers(0, sum(mask)))
    shape = (rows, columns)
    tensors = (
        torch.tensor(weight).reshape(shape),
        torch.tensor(gradient).reshape(shape),
        torch.tensor(mask).reshape(shape),
    )
    new = drop_and_grow(*tensors, count)
    assert new.flatten().tolist() == literal_move(weight, gradient, mask, count)
    assert torch.equal(new, two_sorts_move(*tensors, count))
    assert int(new.sum()) == sum(mask), "ties must not change the number of living weights"


def test_a_move_by_hand() -> None:
    weight = torch.tensor([[3.0, -0.1, 0.2, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, False, False]])
    gradient = torch.tensor([[9.0, -5.0, 0.1, 0.2, -4.0]])
    grown = drop_and_grow(weight, gradient, mask, 2)
    assert grown.tolist() == [[True, True, False, False, True]], "position 1 dies and is revived, 2 gives way to 4"


def test_moves_do_not_depend_on_layout_and_take_bfloat16() -> None:
    source = generator()
    weight, gradient = torch.randn(6, 5, 3, 3, generator=source), torch.randn(6, 5, 3, 3, generator=source)
    mask = torch.rand(6, 5, 3, 3, generator=source) < 0.3
    plain = drop_and_grow(weight, gradient, mask, 20)
    last = [tensor.to(memory_format=torch.channels_last) for tensor in (weight, gradient)]
    assert torch.equal(drop_and_grow(last[0], last[1], mask, 20), plain)
    assert plain.is_contiguous()
    half = drop_and_grow(weight.bfloat16(), gradient.bfloat16(), mask, 20)
    again = drop_and_grow(weight.bfloat16().float(), gradient.bfloat16().float(), mask, 20)
    assert torch.equal(half, again)
    assert int(half.sum()) == int(mask.sum())


def forward_literal(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    hidden = nn.functional.conv2d(inputs, parameters["0.weight"]).relu().flatten(1)
    hidden = nn.functional.linear(hidden, parameters["4.weight"], parameters["4.bias"]).relu()
    return nn.functional.linear(hidden, parameters["6.weight"], parameters["6.bias"])


def test_fifty_updates_equal_the_literal_run_mask_for_mask() -> None:
    every, total = 2, 140
    pruner = RigL(sparsity=0.8, every=every, drop=0.3, stop=0.75)
    model = network(norm=False)
    masks = pruner.init(model, generator=generator())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    masks.attach(optimizer)
    literal = LiteralRun(dict(model.named_parameters()), masks.state_dict(), every=every, drop=0.3, stop=105)
    digests = set()
    for step in range(total):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        assert pruner.update(masks, step=step, total_steps=total)
        masks.apply_to_gradients()
        optimizer.step()
        loss = nn.functional.cross_entropy(forward_literal(literal.parameters, inputs), targets)
        literal.step(loss, step, lr=0.05, momentum=0.9, decay=5e-4)
        for name in masks.names:
            assert torch.equal(masks[name], literal.masks[name]), f"{name} at step {step}"
        digests.add(masks.digest())
    assert literal.updates == 52
    assert len(digests) > 40, "the masks must have moved"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, literal.parameters[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_zeros_stay_zero_and_counts_stay_exact(kind: str) -> None:
    pruner = RigL(sparsity=0.7, every=3, drop=0.5)
    model = network()
    masks = pruner.init(model, generator=generator())
    kept, digest = [masks.kept(name) for name in masks.names], masks.digest()
    optimizer = OPTIMIZERS[kind](model)
    masks.attach(optimizer)
    assert all(train(model, masks, optimizer, pruner, range(20)))
    assert [int(masks[name].sum()) for name in masks.names] == kept
    assert masks.digest() != digest
    slots = [
        slot for state in optimizer.state.values() for slot in state.values() if slot is not None and slot.dim() > 1
    ]
    assert slots
    for name in masks.names:
        for slot in optimizer.state[masks.parameter(name)].values():
            if slot is not None and slot.shape == masks[name].shape:
                assert bool((slot[~masks[name]] == 0).all()), "no memory at dead weights"


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_resumed_run_ends_where_the_straight_one_ends(kind: str) -> None:
    pruner = RigL(sparsity=0.7, every=3, drop=0.5)

    def start() -> tuple[nn.Module, Masks, Optimizer]:
        model = network()
        masks = pruner.init(model, generator=generator())
        optimizer = OPTIMIZERS[kind](model)
        return model, masks.attach(optimizer), optimizer

    model, masks, optimizer = start()
    train(model, masks, optimizer, pruner, range(10))
    saved = copy.deepcopy([part.state_dict() for part in (model, masks, optimizer)])
    train(model, masks, optimizer, pruner, range(10, 20))

    fresh = network(seed=5)
    other = pruner.init(fresh, generator=generator(7))
    again = OPTIMIZERS[kind](fresh)
    fresh.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    other.attach(again)
    train(fresh, other, again, pruner, range(10, 20))
    assert other.digest() == masks.digest()
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_layout_and_dtype_do_not_change_the_masks() -> None:
    pruner = RigL(sparsity=0.8, every=1, drop=0.3)
    digests: dict[str, str] = {}
    for change in ("plain", "channels_last", "double"):
        model = network()
        if change == "channels_last":
            model.to(memory_format=torch.channels_last)
        elif change == "double":
            model.double()
        masks = pruner.init(model, generator=generator())
        for name, count in ((n, masks.kept(n) // 3) for n in masks.names):
            source = generator(len(name) + count)
            gradient = torch.randn(masks[name].shape, generator=source).to(masks.parameter(name))
            masks.move(name, drop_and_grow(masks.parameter(name), gradient, masks[name], count))
        digests[change] = masks.digest()
    assert len(set(digests.values())) == 1
    bfloat = network().bfloat16()
    assert pruner.init(bfloat, generator=generator()).digest() == pruner.init(network(), generator=generator()).digest()


def test_bfloat16_training() -> None:
    pruner = RigL(sparsity=0.7, every=3, drop=0.5)
    model = network().bfloat16()
    masks = pruner.init(model, generator=generator())
    digest, optimizer = masks.digest(), OPTIMIZERS["momentum"](model)
    masks.attach(optimizer)
    train(model, masks, optimizer, pruner, range(8))
    assert masks.digest() != digest


def test_masks_rest_after_the_stop_and_at_other_steps() -> None:
    pruner = RigL(sparsity=0.7, every=4, drop=0.5, stop=0.5)
    masks = pruner.init(network(), generator=generator())
    moved = []
    for step in range(40):
        put_gradients(masks, seed=step)
        before = masks.digest()
        pruner.update(masks, step=step, total_steps=40)
        moved.append(masks.digest() != before)
    due = [step for step in range(40) if pruner.moves(step, 40)]
    assert due == [4, 8, 12, 16]
    assert [step for step in range(40) if moved[step]] == due


def test_the_stop_is_a_share_of_the_real_steps() -> None:
    """With a small coreset a run has few steps; an absolute stop would never come."""
    pruner = RigL(every=10)
    assert [step for step in range(100) if pruner.moves(step, 100)] == [10, 20, 30, 40, 50, 60, 70]
    assert [step for step in range(60) if pruner.moves(step, 60)] == [10, 20, 30, 40]


def test_step_after_update() -> None:
    for follow in (True, False):
        pruner = RigL(sparsity=0.7, every=4, drop=0.5, step_after_update=follow)
        model = network()
        masks = pruner.init(model, generator=generator())
        optimizer = OPTIMIZERS["momentum"](model)
        answers = train(model, masks.attach(optimizer), optimizer, pruner, range(10), total=40)
        assert answers == [follow if step in (4, 8) else True for step in range(10)]


def test_no_step_is_skipped_when_nothing_moved() -> None:
    pruner = RigL(sparsity=0.0, every=1, step_after_update=False)
    masks = pruner.init(network(), generator=generator())
    put_gradients(masks)
    assert pruner.update(masks, step=1, total_steps=10)
    assert masks.density() == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["4.weight", "1.bias"])
def test_a_gradient_that_is_not_finite_leaves_the_masks(value: float, where: str) -> None:
    pruner = RigL(sparsity=0.7, every=1, step_after_update=False)
    model = network()
    masks = pruner.init(model, generator=generator())
    put_gradients(masks)
    parameter = model.get_parameter(where)
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad.view(-1)[0] = value
    digest, weights = masks.digest(), {name: p.detach().clone() for name, p in model.named_parameters()}
    assert pruner.update(masks, step=1, total_steps=10), "the loss scaler decides about the step"
    assert masks.digest() == digest
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    parameter.grad.zero_()
    assert not pruner.update(masks, step=1, total_steps=10)


def test_a_step_that_the_loss_scaler_skips() -> None:
    pruner = RigL(sparsity=0.7, every=2, drop=0.5)
    model = network()
    masks = pruner.init(model, generator=generator())
    optimizer = OPTIMIZERS["adamw"](model)
    masks.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(6):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(inputs), targets)).backward()
        if step == 4:
            model[0].weight.grad[0, 0, 0, 0] = float("inf")  # type: ignore[union-attr, index]
        scaler.unscale_(optimizer)
        before, digest = {n: v.clone() for n, v in model.named_parameters()}, masks.digest()
        pruner.update(masks, step=step, total_steps=20)
        masks.apply_to_gradients()
        scaler.step(optimizer)
        scaler.update()
        assert (masks.digest() != digest) == (step == 2)
        assert all(torch.equal(v, before[n]) for n, v in model.named_parameters()) == (step == 4)
        assert dead_are_zero(masks)


def test_revived_weights_start_at_zero_with_zero_momentum_and_kept_ones_keep_both() -> None:
    """A peer never applied its initial value for grown weights, so stale ones came back."""
    pruner = RigL(sparsity=0.7, every=1, drop=0.5)
    model = network()
    masks = pruner.init(model, generator=generator())
    optimizer = OPTIMIZERS["momentum"](model)
    masks.attach(optimizer)
    train(model, masks, optimizer, pruner, range(3))
    name = "4.weight"
    parameter = masks.parameter(name)
    slot = optimizer.state[parameter]["momentum_buffer"]
    with torch.no_grad():
        slot[~masks[name]] = 7.0
    old, weight, momentum = masks[name].clone(), parameter.detach().clone(), slot.clone()
    put_gradients(masks, seed=3)
    pruner.update(masks, step=4, total_steps=40)
    changed, both = old ^ masks[name], old & masks[name]
    assert bool(changed.any())
    assert bool((parameter[changed] == 0).all())
    assert bool((slot[changed] == 0).all())
    assert torch.equal(parameter[both], weight[both])
    assert torch.equal(slot[both], momentum[both])


def test_layers_without_gradient_rest_and_a_missing_backward_is_an_error() -> None:
    pruner = RigL(sparsity=0.7, every=1, drop=0.5)
    model = network()
    masks = pruner.init(model, generator=generator())
    with pytest.raises(PruningError, match="between backward and zero_grad"):
        pruner.update(masks, step=1, total_steps=10)
    put_gradients(masks)
    model[0].weight.grad = None
    before = masks.state_dict()
    pruner.update(masks, step=1, total_steps=10)
    assert torch.equal(masks["0.weight"], before["0.weight"])
    assert not torch.equal(masks["4.weight"], before["4.weight"])


def test_frozen_weights_are_left_whole() -> None:
    """Neither dropped nor rescaled: a weight that cannot learn cannot make up for either."""
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    masks = RigL(sparsity=0.7, rescale="always").init(model, generator=generator())
    assert "0.weight" not in masks.names
    assert torch.equal(model[0].weight, before)


def test_a_shared_weight_moves_once() -> None:
    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 2))
    pruner = RigL(sparsity=0.5, every=1, drop=0.5)
    masks = pruner.init(model, generator=generator())
    assert masks.names == ("0.weight", "3.weight")
    optimizer = OPTIMIZERS["momentum"](model)
    masks.attach(optimizer)
    for step in range(3):
        model(torch.randn(4, 6, generator=generator(step))).square().sum().backward()
        pruner.update(masks, step=step, total_steps=10)
        masks.apply_to_gradients()
        optimizer.step()
    assert dead_are_zero(masks)
    assert masks.density() == 0.5


def test_init_has_exact_counts_by_scope_and_depends_on_the_generator_alone() -> None:
    pruner = RigL(sparsity={"backbone": 0.75, "classifier": 0.9})
    state, model = torch.get_rng_state(), network()
    masks = pruner.init(model, generator=generator(3))
    assert torch.equal(state, torch.get_rng_state())
    assert masks.kept("0.weight") + masks.kept("4.weight") == (108 + 960) // 4
    assert masks.kept("6.weight") == 3
    assert dead_are_zero(masks)
    reordered = RigL(sparsity={"classifier": 0.9, "backbone": 0.75})
    assert reordered.init(network(1), generator=generator(3)).digest() == masks.digest()
    assert pruner.init(network(), generator=generator(4)).digest() != masks.digest()


@pytest.mark.parametrize(
    ("rescale", "scaled"),
    [("auto", {"4.weight", "6.weight"}), ("always", {"0.weight", "4.weight", "6.weight"}), ("never", set())],
)
def test_kept_initial_weights_are_rescaled_where_no_norm_follows(rescale: str, scaled: set[str]) -> None:
    plain, model = network(), network()
    masks = RigL(sparsity=0.7, rescale=rescale).init(model, generator=generator())
    for name in masks.names:
        factor = masks.densities()[name] ** -0.5 if name in scaled else 1.0
        expected = plain.get_parameter(name) * factor * masks[name]
        torch.testing.assert_close(masks.parameter(name).detach(), expected.detach(), rtol=1e-6, atol=0)


def test_norms_are_never_masked() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    masks = RigL(sparsity=0.5).init(model, generator=generator())
    assert masks.names == ("0.weight", "2.weight", "4.weight")
    assert bool((model[1].weight == 1).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity is 1; it must lie in"),
        ({"sparsity": 90}, r"Did you mean 0\.9"),
        ({"sparsity": {"backbone": 1.5}}, "sparsity of 'backbone' is 1.5"),
        ({"distribution": "erdos"}, "distribution is 'erdos'; it must be one of erk, er, uniform"),
        ({"rescale": "sometimes"}, "rescale is 'sometimes'"),
        ({"drop": 0.0}, "drop is 0; it must lie in"),
        ({"stop": 1.2}, "stop is 1.2"),
        ({"every": 0}, "every is 0; it must be a whole number"),
        ({"every": 2.5}, "every is 2.5"),
    ],
)
def test_options_are_checked_when_they_are_given(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RigL(**options)


def test_registry_builds_it_with_options() -> None:
    assert PRUNERS.build("rigl(sparsity=0.8, every=10, distribution=er)") == RigL(0.8, "er", 10)
    with pytest.raises(ConfigError, match="Did you mean 'sparsity'"):
        PRUNERS.build("rigl(sparcity=0.8)")


def test_too_few_kept_weights() -> None:
    with pytest.raises(PruningError, match="each of the 3 layers needs one"):
        RigL(sparsity=0.999).init(network(), generator=generator())


def test_docstrings_stay_short() -> None:
    assert len((inspect.getdoc(RigL) or "").splitlines()) <= 15
