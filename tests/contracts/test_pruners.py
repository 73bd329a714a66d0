"""What every pruner must keep to, whatever its method."""

from __future__ import annotations

import copy
import inspect
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sartor.errors import ConfigError
from sartor.prune.masks import Masks
from sartor.prune.scope import prunable
from sartor.registry import PRUNERS
from sartor.types import Pruner

NAMES = list(PRUNERS)
TOTAL = 12


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3)
        )


def batches() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 1, 6, 6, generator=source), torch.randint(3, (6,), generator=source)) for _ in range(TOTAL)]


def build(name: str) -> Pruner:
    options = {"every": 2} if "every" in PRUNERS.options(name) else {}
    return PRUNERS.build(name, **options)


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
        if answers[-1]:
            optimizer.step()
    return answers


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


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_no_global_random_state_and_update_answers_with_a_bool(name: str) -> None:
    pruner, model = build(name), network()
    state = torch.get_rng_state()
    masks = init(pruner, model)
    optimizer = sgd(model)
    answers = train(pruner, model, masks.attach(optimizer), optimizer, range(TOTAL))
    assert torch.equal(state, torch.get_rng_state())
    assert all(isinstance(answer, bool) for answer in answers)


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
    if isinstance(sparsity, float):
        assert masks.kept() == int((1 - sparsity) * masks.total() + 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_the_straight_one(name: str) -> None:
    pruner, model = build(name), network()
    masks, optimizer = init(pruner, model), sgd(model)
    train(pruner, model, masks.attach(optimizer), optimizer, range(5))
    saved = copy.deepcopy([part.state_dict() for part in (model, masks, optimizer)])
    train(pruner, model, masks, optimizer, range(5, TOTAL))

    pruner, fresh = build(name), network(3)
    other, again = init(pruner, fresh, seed=7), sgd(fresh)
    for part, state in zip((fresh, other, again), saved):
        part.load_state_dict(state)
    train(pruner, fresh, other.attach(again), again, range(5, TOTAL))
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
