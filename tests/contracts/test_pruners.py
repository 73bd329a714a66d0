"""What every pruner must keep to, whatever its method."""

from __future__ import annotations

import copy
import functools
import inspect
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sartor.errors import ConfigError, PruningError
from sartor.prune.distribution import KINDS, kept_counts, kept_of
from sartor.prune.masks import Masks
from sartor.prune.scope import prunable, resolve
from sartor.registry import PRUNERS, parse
from sartor.types import Pruner

NAMES = list(PRUNERS)
SPECS = [*NAMES, "magnitude(at=0.5)", "magnitude(distribution=global-l2, at=0.4)", "acdc(distribution=global-raw)"]
DISTRIBUTED = [
    (name, kind)
    for name in NAMES
    if "distribution" in PRUNERS.options(name)
    for kind in getattr(PRUNERS[name], "distributions", KINDS)
]
TOTAL = 12
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
}


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3)
        )


@functools.cache
def batches() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 1, 6, 6, generator=source), torch.randint(3, (6,), generator=source)) for _ in range(TOTAL)]


def build(spec: str, **options: Any) -> Pruner:
    name = parse(spec)[0]
    options |= {"every": 2} if "every" in PRUNERS.options(name) else {}
    options |= {"rounds": 5} if "rounds" in PRUNERS.options(name) else {}
    return PRUNERS.build(spec, **options)


def init(pruner: Pruner, model: nn.Module, seed: int = 0) -> Masks:
    return pruner.init(
        model, generator=torch.Generator().manual_seed(seed), batches=batches(), loss=nn.functional.cross_entropy
    )


def train(pruner: Pruner, model: nn.Module, masks: Masks, optimizer: Optimizer, steps: range) -> list[Any]:
    answers = []
    for step in steps:
        inputs, targets = batches()[step]
        optimizer.zero_grad()
        for _ in range(pruner.passes):
            with pruner.forward(model, masks):
                (nn.functional.cross_entropy(model(inputs), targets) / pruner.passes).backward()
        answers.append(pruner.update(masks, step=step, total_steps=TOTAL))
        masks.apply_to_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        if answers[-1]:
            optimizer.step()
        assert dead_are_zero(masks)
    return answers


def dead_are_zero(masks: Masks) -> bool:
    return all(bool((masks.parameter(name)[~masks[name]] == 0).all()) for name in masks.names)


def sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_documented_pruner_whose_options_have_defaults(name: str) -> None:
    pruner = build(name)
    assert isinstance(pruner, Pruner)
    assert pruner.passes >= 1
    assert PRUNERS.describe(name)
    assert inspect.Parameter.empty not in PRUNERS.options(name).values()
    assert isinstance(pruner.forward(network(), Masks(network(), {})), AbstractContextManager)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_refused_when_they_cannot_be_meant(name: str) -> None:
    with pytest.raises(ConfigError):
        PRUNERS.build(f"{name}(no_such_option=1)")
    if "sparsity" in PRUNERS.options(name):
        with pytest.raises(ConfigError):
            PRUNERS.build(f"{name}(sparsity=1.5)")


@pytest.mark.parametrize("name", SPECS)
def test_masks_cover_prunable_weights_and_depend_on_the_generator_alone(name: str) -> None:
    model, twin = network(), network()
    keys, state = list(model.state_dict()), torch.get_rng_state()
    masks = init(build(name), model)
    torch.manual_seed(99)
    again = init(build(name), twin)
    torch.set_rng_state(state)
    assert set(masks.names) <= set(prunable(model))
    assert masks.digest() == again.digest()
    assert same(model, twin)
    assert list(model.state_dict()) == keys
    assert model.training


@pytest.mark.parametrize("name", SPECS)
def test_training_moves_no_global_random_state_and_update_answers_with_a_bool(name: str) -> None:
    pruner, model = build(name), network()
    state = torch.get_rng_state()
    masks = init(pruner, model)
    optimizer = sgd(model)
    answers = train(pruner, model, masks.attach(optimizer), optimizer, range(TOTAL))
    assert torch.equal(state, torch.get_rng_state())
    assert all(isinstance(answer, bool) for answer in answers)


@pytest.mark.parametrize("name", NAMES)
def test_init_leaves_mode_buffers_gradients_and_random_states_as_they_were(name: str) -> None:
    model = nn.Sequential(network(), nn.Dropout(0.5))
    model[0][1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    modes, buffers = [m.training for m in model.modules()], [b.clone() for b in model.buffers()]
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    masks = init(build(name), model)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(old, new) for old, new in zip(buffers, model.buffers(), strict=True))
    assert all(bool((parameter.grad == 0.5).all()) for parameter in model.parameters())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1], states[2]) == (random.getstate(), numpy.random.get_state()[1].tolist())
    kept = {name: value for name, value in network().state_dict().items() if "0." + name not in masks.names}
    assert all(torch.equal(value, model.state_dict()["0." + name]) for name, value in kept.items())


@pytest.mark.parametrize(("name", "kind"), DISTRIBUTED)
@pytest.mark.parametrize("sparsity", [{"backbone": 0.77, "classifier": 0.0}, 0.9])
def test_counts_are_exact_in_every_scope_and_distribution(name: str, kind: str, sparsity: Any) -> None:
    pruner, model = build(name, distribution=kind, sparsity=sparsity), network()
    masks = init(pruner, model)
    optimizer = sgd(model)
    train(pruner, model, masks.attach(optimizer), optimizer, range(TOTAL))
    for scope in resolve(model, sparsity):
        shapes = {parameter: tuple(weight.shape) for parameter, weight in scope.weights.items()}
        living = {parameter: int(masks[parameter].sum()) for parameter in shapes}
        if kind in KINDS:
            assert living == kept_counts(shapes, scope.sparsity, kind)
        else:
            assert sum(living.values()) == kept_of(scope.sparsity, sum(w.numel() for w in scope.weights.values()))
            assert min(living.values()) >= 1
    assert masks.counts.kept == {parameter: int(masks[parameter].sum()) for parameter in masks.names}
    assert sum(masks.counts.goal.values()) == masks.kept()


@pytest.mark.parametrize("name", NAMES)
def test_a_sparsity_that_leaves_a_layer_nothing_or_names_none_is_refused(name: str) -> None:
    if "distribution" in PRUNERS.options(name):
        kind = next(kind for kind in getattr(PRUNERS[name], "distributions", KINDS) if kind != "uniform")
        with pytest.raises(PruningError, match=r"each of the 3 layers needs one; the sparsity can be at most 0\.98"):
            init(build(name, distribution=kind, sparsity=0.995), network())
    with pytest.raises(PruningError, match="'layer7' matches no weight"):
        init(build(name, sparsity={"layer7": 0.5}), network())
    with pytest.raises(PruningError, match="no weights to prune"):
        init(build(name), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36)))
    with pytest.raises(ConfigError, match=r"sparsity is 70.*Did you mean 0\.7"):
        build(name, sparsity=70)


@pytest.mark.parametrize("name", NAMES)
def test_norms_biases_and_frozen_weights_are_never_masked(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))
    model[3].weight.requires_grad_(False)
    whole = [p.detach().clone() for p in (model[1].bias, model[2].weight, model[3].weight)]
    masks = init(build(name, sparsity=0.5), model)
    assert masks.names == ("1.weight", "5.weight")
    assert all(torch.equal(a, b) for a, b in zip(whole, (model[1].bias, model[2].weight, model[3].weight)))


def scaled_step(
    pruner: Pruner, model: nn.Module, masks: Masks, optimizer: Optimizer, scaler: Any, step: int, *, spoilt: bool
) -> None:
    """Take a clipped step with a loss scaler, which skips it if `spoilt`; nothing may move then."""
    inputs, targets = batches()[step]
    optimizer.zero_grad()
    for _ in range(pruner.passes):
        with pruner.forward(model, masks):
            scaler.scale(nn.functional.cross_entropy(model(inputs), targets) / pruner.passes).backward()
    if spoilt:
        model[0].weight.grad[0, 0, 0, 0] = float("inf")  # type: ignore[index]
    scaler.unscale_(optimizer)
    if masks.learned:
        scaler.unscale_(masks.score_optimizer)  # type: ignore[attr-defined]
    before, digest = copy.deepcopy(model), masks.digest()
    may_step = pruner.update(masks, step=step, total_steps=TOTAL)
    masks.apply_to_gradients()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    if may_step:
        scaler.step(optimizer)
    scaler.update()
    if spoilt:
        assert masks.digest() == digest
        assert all(torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters()))
    assert dead_are_zero(masks)


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_that_the_loss_scaler_skips_moves_nothing(spec: str) -> None:
    pruner, model = build(spec), network()
    masks, optimizer = init(pruner, model), torch.optim.AdamW(model.parameters(), lr=0.01)
    masks.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(TOTAL):
        scaled_step(pruner, model, masks, optimizer, scaler, step, spoilt=step in (2, 5, 6))
    pruner.finish(model, masks)
    assert masks.kept() == sum(masks.counts.goal.values()), "a move that a bad step put off is made up for"


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("spec", SPECS)
def test_settled_zeros_stay_zero_and_forgotten_under_a_loss_scaler_and_after_resume(spec: str, kind: str) -> None:
    """Masks that are drawn for each pass have zeros only once they are settled; others rest or move on."""
    pruner, model = build(spec), network()
    masks, optimizer = init(pruner, model), OPTIMIZERS[kind](model)
    train(pruner, model, masks.attach(optimizer), optimizer, range(6))
    pruner.finish(model, masks)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(6, TOTAL):
        scaled_step(pruner, model, masks, optimizer, scaler, step, spoilt=step in (7, 10))
        for name in masks.names:
            slots = optimizer.state[masks.parameter(name)].values()
            assert all(slot.dim() == 0 or not slot[~masks[name]].any() for slot in slots if isinstance(slot, Tensor))
        if step == 8:
            saved = copy.deepcopy([part.state_dict() for part in (model, masks, optimizer, scaler)])
            model = network(3)
            masks, optimizer = init(pruner, model, seed=7), OPTIMIZERS[kind](model)
            scaler = torch.amp.GradScaler("cpu")
            for part, state in zip((model, masks, optimizer, scaler), saved):
                part.load_state_dict(state)
            assert dead_are_zero(masks.attach(optimizer))
    pruner.finish(model, masks)
    assert masks.kept() == sum(masks.counts.goal.values()) < masks.total()


@pytest.mark.parametrize("name", NAMES)
def test_after_finish_the_masks_have_their_sparsity_and_dead_weights_are_zero(name: str) -> None:
    pruner, model = build(name), network()
    masks = init(pruner, model)
    optimizer = sgd(model)
    train(pruner, model, masks.attach(optimizer), optimizer, range(TOTAL))
    pruner.finish(model, masks)
    for parameter in masks.names:
        assert bool((masks.parameter(parameter)[~masks[parameter]] == 0).all())
    sparsity = getattr(pruner, "sparsity", None)
    if isinstance(sparsity, float) and getattr(pruner, "distribution", None) != "uniform":
        assert masks.kept() == int((1 - sparsity) * masks.total() + 0.5)


@pytest.mark.parametrize(("kind", "stop"), [("momentum", 5), ("nesterov", 3), ("adam", 6), ("adamw", 4)])
@pytest.mark.parametrize("name", SPECS)
def test_a_resumed_run_equals_the_straight_one(name: str, kind: str, stop: int) -> None:
    pruner, model = build(name), network()
    masks, optimizer = init(pruner, model), OPTIMIZERS[kind](model)
    train(pruner, model, masks.attach(optimizer), optimizer, range(stop))
    saved = copy.deepcopy([part.state_dict() for part in (model, masks, optimizer)])
    train(pruner, model, masks, optimizer, range(stop, TOTAL))

    pruner, fresh = build(name), network(3)
    other, again = init(pruner, fresh, seed=7), OPTIMIZERS[kind](fresh)
    for part, state in zip((fresh, other, again), saved):
        part.load_state_dict(state)
    train(pruner, fresh, other.attach(again), again, range(stop, TOTAL))
    assert other.digest() == masks.digest()
    assert same(model, fresh)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_leaves_the_masks(name: str) -> None:
    pruner, model = build(name), network()
    masks = init(pruner, model)
    for step in range(1, 5):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, float("nan"))
        before = masks.digest()
        assert pruner.update(masks, step=step, total_steps=TOTAL)
        assert masks.digest() == before


@pytest.mark.parametrize("name", NAMES)
def test_layout_does_not_change_the_masks(name: str) -> None:
    digests = set()
    for layout in (torch.contiguous_format, torch.channels_last):
        model = network().to(memory_format=layout)  # type: ignore[call-overload]
        digests.add(init(build(name), model).digest())
    assert len(digests) == 1
