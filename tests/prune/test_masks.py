from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from sartor.errors import PruningError
from sartor.prune.masks import Masks

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, weight_decay=1e-2),
    "amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01),
    "single tensor": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, foreach=False),
    "fused": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, fused=True),
    "maximize": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, maximize=True),
}


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def drawn(model: nn.Module, names: tuple[str, ...] = ("0.weight", "4.weight"), seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(model.get_parameter(name).shape, generator=generator) < 0.4 for name in names}


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 2, 6, 6, generator=generator), torch.randint(3, (8,), generator=generator)


def backward(model: nn.Module, seed: int) -> None:
    inputs, targets = batch(seed)
    model.zero_grad()
    dtype = next(model.parameters()).dtype
    nn.functional.cross_entropy(model(inputs.to(dtype)).float(), targets).backward()


def dead_are_zero(masks: Masks) -> bool:
    return all(bool((masks.parameter(name)[~masks[name]] == 0).all()) for name in masks.names)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("mask_gradients", [True, False])
def test_dead_weights_stay_zero_and_living_ones_move(kind: str, mask_gradients: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS[kind](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    assert dead_are_zero(masks), "attaching enforces the masks"
    start = {name: masks.parameter(name).detach().clone() for name in masks.names}
    for step in range(4):
        backward(model, step)
        if mask_gradients:
            masks.apply_to_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        assert dead_are_zero(masks)
    assert all(bool((masks.parameter(n) != start[n])[masks[n]].any()) for n in masks.names)


def test_without_masks_dead_weights_would_not_stay_zero() -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    masks.detach()
    backward(model, 0)
    optimizer.step()
    assert not dead_are_zero(masks)


def test_clipping_sees_living_weights_only() -> None:
    model = network()
    masks = Masks(model, drawn(model))
    backward(model, 0)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    for name in masks.names:
        gradients[name] *= masks[name]
    expected = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients.values()]))
    masks.apply_to_gradients()
    assert float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)) == pytest.approx(float(expected), rel=1e-6)


def test_a_step_that_the_loss_scaler_skips_changes_nothing() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(4):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(inputs), targets)).backward()
        if step == 2:
            dead = (~masks["0.weight"]).nonzero()[0].tolist()
            masks.parameter("0.weight").grad[tuple(dead)] = float("inf")  # type: ignore[index]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        masks.apply_to_gradients()
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert same == (step == 2)
        assert dead_are_zero(masks)
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_learning_rate_schedule_keeps_the_hooks() -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    for step in range(3):
        backward(model, step)
        optimizer.step()
        schedule.step()
        assert dead_are_zero(masks)


def test_closures_are_refused_in_words() -> None:
    """A peer replaced optimizer.step by a function without arguments, so closures died of a TypeError."""
    model = network()
    for optimizer in (torch.optim.LBFGS(model.parameters()), torch.optim.SGD(model.parameters(), lr=0.1)):
        masks = Masks(model, drawn(model)).attach(optimizer)
        before = masks.parameter("0.weight").detach().clone()
        with pytest.raises(PruningError, match=r"was given a closure.*step\(\) without one"):
            optimizer.step(lambda: torch.tensor(0.0))
        with pytest.raises(PruningError, match="closure"):
            optimizer.step(closure=lambda: torch.tensor(0.0))
        assert torch.equal(before, masks.parameter("0.weight"))
        masks.detach()


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adam", "amsgrad", "adamw", "rmsprop", "adagrad"])
def test_move_resets_weights_and_all_memory_where_weights_die_or_are_born(kind: str) -> None:
    """Peers left Adam's state at dead weights, and revived weights with their stale values."""
    model = network()
    optimizer = OPTIMIZERS[kind](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    for step in range(3):
        backward(model, step)
        optimizer.step()
    name = "0.weight"
    parameter, old, new = masks.parameter(name), masks[name].clone(), drawn(model, seed=9)[name]
    with torch.no_grad():
        parameter[~old] = 5.0
    slots = {k: v for k, v in optimizer.state[parameter].items() if v is not None and v.shape == parameter.shape}
    before = {key: slot.clone() for key, slot in slots.items()} | {"weight": parameter.detach().clone()}
    steps = {k: v.clone() for k, v in optimizer.state[parameter].items() if v is not None and v.dim() == 0}
    masks.move(name, new)
    changed, both = old ^ new, old & new
    assert slots
    assert any(bool((before[key][changed] != 0).any()) for key in slots)
    for key, slot in {**slots, "weight": parameter.detach()}.items():
        assert bool((slot[changed] == 0).all()), key
        assert torch.equal(slot[both], before[key][both]), key
    assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in steps.items())
    assert torch.equal(masks[name], new)
    assert masks.kept(name) == int(new.sum())


def test_move_adds_nothing_to_an_optimizer_that_has_not_stepped() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    masks.move("0.weight", drawn(model, seed=9)["0.weight"])
    assert len(optimizer.state) == 0


def test_moved_masks_hold_in_the_next_step() -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    backward(model, 0)
    optimizer.step()
    masks.move("0.weight", drawn(model, seed=9)["0.weight"])
    backward(model, 1)
    masks.apply_to_gradients()
    assert bool((masks.parameter("0.weight").grad[~masks["0.weight"]] == 0).all())  # type: ignore[index]
    optimizer.step()
    assert dead_are_zero(masks)
    assert bool((masks.parameter("0.weight")[masks["0.weight"]] != 0).any())


@pytest.mark.parametrize("change", ["channels_last", "bfloat16", "double"])
@pytest.mark.parametrize("when", ["before masks", "before attach", "after attach"])
def test_masks_follow_layout_and_dtype(change: str, when: str) -> None:
    def convert(model: nn.Module) -> None:
        if change == "channels_last":
            model.to(memory_format=torch.channels_last)
        else:
            model.to(getattr(torch, change))

    plain, model = network(), network()
    reference = Masks(plain, drawn(plain))
    if when == "before masks":
        convert(model)
    masks = Masks(model, drawn(model))
    if when == "before attach":
        convert(model)
    optimizer = OPTIMIZERS["momentum"](model)
    masks.attach(optimizer)
    if when == "after attach":
        backward(model, 0)
        optimizer.step()
        optimizer.state.clear()
        convert(model)
    for step in range(2):
        backward(model, step)
        masks.apply_to_gradients()
        optimizer.step()
        assert dead_are_zero(masks)
    for copied, parameter in zip(masks._copies.values(), map(masks.parameter, masks.names)):
        assert (copied.dtype, copied.stride()) == (parameter.dtype, parameter.stride()), (
            "a fast multiply needs both equal"
        )
    assert masks.digest() == reference.digest()
    assert masks["0.weight"].is_contiguous()


def test_channels_last_masks_given_as_channels_last() -> None:
    model = network()
    given_masks = drawn(model)
    given_masks["0.weight"] = given_masks["0.weight"].to(memory_format=torch.channels_last)
    assert Masks(model, given_masks).digest() == Masks(model, drawn(model)).digest()


def test_a_model_moved_to_another_device_before_attach() -> None:
    model = network()
    masks = Masks(model, drawn(model))
    model.to("meta")
    masks.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    assert masks["0.weight"].device.type == "meta"
    assert masks.parameter("0.weight") is model[0].weight


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_moved_to_the_gpu_before_attach() -> None:
    model = network()
    masks = Masks(model, drawn(model))
    digest = masks.digest()
    model.to("cuda")
    optimizer = OPTIMIZERS["adamw"](model)
    masks.attach(optimizer)
    inputs, targets = batch(0)
    nn.functional.cross_entropy(model(inputs.cuda()), targets.cuda()).backward()
    masks.apply_to_gradients()
    optimizer.step()
    assert dead_are_zero(masks)
    assert masks.digest() == digest


def test_parameters_without_gradient() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    masks = Masks(model, drawn(model)).attach(optimizer)
    backward(model, 0)
    masks.apply_to_gradients()
    optimizer.step()
    assert dead_are_zero(masks)
    assert model[0].weight.grad is None


def test_shared_weights_are_masked_under_one_name() -> None:
    layer = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": layer, "b": layer})
    mask = torch.eye(4) > 0
    for name in ("a.weight", "b.weight"):
        masks = Masks(model, {name: mask})
        masks.apply()
        assert bool((model["b"].weight[~mask] == 0).all())
    with pytest.raises(PruningError, match=r"'a\.weight' and 'b\.weight' are one shared parameter"):
        Masks(model, {"a.weight": mask, "b.weight": mask})


def test_apply_clears_infinities() -> None:
    model = network()
    masks = Masks(model, drawn(model))
    with torch.no_grad():
        model[0].weight[~masks["0.weight"]] = float("inf")
    masks.apply()
    assert dead_are_zero(masks)


def test_attaching_again_lets_go_of_the_old_optimizer() -> None:
    model = network()
    old, new = OPTIMIZERS["momentum"](model), OPTIMIZERS["adamw"](model)
    masks = Masks(model, drawn(model))
    assert masks.attach(old) is masks
    masks.attach(new)
    masks.attach(new)
    assert (len(old._optimizer_step_post_hooks), len(new._optimizer_step_post_hooks)) == (0, 1)
    backward(model, 0)
    old.step()
    assert not dead_are_zero(masks)
    backward(model, 1)
    new.step()
    assert dead_are_zero(masks)


def test_an_optimizer_of_other_parameters_is_refused() -> None:
    model = network()
    with pytest.raises(PruningError, match=r"does not hold the masked parameter '0\.weight'"):
        Masks(model, drawn(model)).attach(OPTIMIZERS["sgd"](network()))


def test_bake_leaves_a_plain_model() -> None:
    model = network()
    keys, optimizer = list(model.state_dict()), OPTIMIZERS["momentum"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    masks.bake()
    assert dead_are_zero(masks)
    assert list(model.state_dict()) == keys
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert bool((1 / model[0].weight[~masks["0.weight"]] > 0).all()), "zeros are positive zeros"


def test_a_model_in_training_can_be_copied() -> None:
    """torch.nn.utils.prune makes copy.deepcopy fail between a forward pass and prune.remove."""
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    masks = Masks(model, drawn(model)).attach(optimizer)
    backward(model, 0)
    optimizer.step()
    twin = copy.deepcopy(model)
    inputs, _ = batch(1)
    assert torch.equal(twin(inputs), model(inputs))
    optimizer.step()
    assert not torch.equal(twin[4].weight, model[4].weight)
    both = copy.deepcopy((model, masks))
    assert both[1].parameter("0.weight") is both[0][0].weight
    assert both[1].digest() == masks.digest()


def test_counts_and_digest() -> None:
    model = network()
    given_masks = drawn(model)
    masks = Masks(model, given_masks)
    kept = {name: int(mask.sum()) for name, mask in given_masks.items()}
    assert masks.names == ("0.weight", "4.weight")
    assert masks.kept() == sum(kept.values())
    assert masks.kept("4.weight") == kept["4.weight"]
    assert masks.total() == 72 + 192
    assert masks.density() == sum(kept.values()) / 264
    assert masks.densities() == {"0.weight": kept["0.weight"] / 72, "4.weight": kept["4.weight"] / 192}
    backwards = Masks(model, dict(reversed(given_masks.items())))
    assert backwards.digest() == masks.digest()
    flipped = given_masks["4.weight"].clone()
    flipped[2, 63] ^= True
    masks.move("4.weight", flipped)
    assert backwards.digest() != masks.digest()
    assert Masks(model, {}).density() == 1.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_state_survives_a_round_trip(rows: int, columns: int, seed: int) -> None:
    layer, twin = nn.Linear(columns, rows), nn.Linear(columns, rows)
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    masks, other = Masks(layer, {"weight": mask}), Masks(twin, {"weight": torch.ones(rows, columns, dtype=torch.bool)})
    other.load_state_dict(masks.state_dict())
    assert other.digest() == masks.digest()
    assert other.kept() == int(mask.sum())
    assert dead_are_zero(other)


def test_state_is_a_copy_and_masks_own_theirs() -> None:
    model = network()
    given_masks = drawn(model)
    masks = Masks(model, given_masks)
    digest, state = masks.digest(), masks.state_dict()
    given_masks["0.weight"].fill_(True)
    state["4.weight"].fill_(True)
    assert masks.digest() == digest


def test_state_of_other_weights_is_refused_and_nothing_changes() -> None:
    """A peer's state was a list without names, so it could be loaded into another network in silence."""
    model = network()
    masks = Masks(model, drawn(model))
    digest = masks.digest()
    with pytest.raises(PruningError, match=r"missing \['4\.weight'\], not known none"):
        masks.load_state_dict({"0.weight": masks["0.weight"]})
    with pytest.raises(PruningError, match=r"not known \['9\.weight'\]"):
        masks.load_state_dict({**masks.state_dict(), "9.weight": masks["0.weight"]})
    with pytest.raises(PruningError, match=r"must be torch\.bool of shape \(3, 64\)"):
        masks.load_state_dict({"0.weight": ~masks["0.weight"], "4.weight": torch.ones(64, 3, dtype=torch.bool)})
    assert masks.digest() == digest


def test_errors_of_the_constructor() -> None:
    model = network()
    with pytest.raises(PruningError, match=r"no parameter '0\.weigth' to mask\. Did you mean '0\.weight'"):
        Masks(model, {"0.weigth": torch.ones(4, 2, 3, 3, dtype=torch.bool)})
    with pytest.raises(PruningError, match=r"torch\.float32 of shape \(4, 2, 3, 3\); it must be torch\.bool"):
        Masks(model, {"0.weight": torch.ones(4, 2, 3, 3)})
    with pytest.raises(PruningError, match=r"there is no mask for '1\.weight'"):
        Masks(model, drawn(model)).move("1.weight", torch.ones(4, dtype=torch.bool))
