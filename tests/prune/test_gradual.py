from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reference.magnitude import LiteralRun, literal_cubic
from sartor.errors import ConfigError
from sartor.prune.distribution import kept_counts
from sartor.prune.gradual import Gradual
from sartor.prune.schedule import cubic


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    source = generator(seed)
    return torch.randn(8, 12, generator=source), torch.randint(4, (8,), generator=source)


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_schedule_is_the_literal_one_and_ends_at_its_goal(total: int, every: int, a: float, b: float) -> None:
    pruner = Gradual(every=every, start=min(a, b), stop=max(a, b))
    start, stop = int(pruner.start * total + 0.5), min(int(pruner.stop * total + 0.5), total - 1)
    reached = [pruner.reached(step, total) for step in range(total)]
    assert reached == pytest.approx(literal_cubic(total, start, stop, every))
    assert reached == sorted(reached)
    assert reached[-1] == 1
    assert pruner.reached(-1, total) == pruner.reached(-1, 1) == 0


def test_the_cubic_prunes_much_at_first_and_little_at_last() -> None:
    assert [cubic(share) for share in (0, 0.5, 1)] == [0, 0.875, 1]
    pruner = Gradual(every=10, start=0.1, stop=0.5)
    assert [step for step in range(100) if pruner.moves(step, 100)] == [20, 30, 40, 50]
    assert pruner.reached(35, 100) == cubic(0.5)


@pytest.mark.parametrize("kind", ["uniform", "erk"])
def test_training_equals_the_literal_run_mask_for_mask(kind: str) -> None:
    pruner, model, total = Gradual(sparsity=0.9, distribution=kind, every=3, start=0.1, stop=0.7), network(), 40
    masks = pruner.init(model, generator=generator())
    assert masks.density() == 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    masks.attach(optimizer)
    final = kept_counts({name: masks[name].shape for name in masks.names}, 0.9, kind)
    literal = LiteralRun(dict(model.named_parameters()), final)
    shares, digests = literal_cubic(total, 4, 28, 3), set()
    for step in range(total):
        inputs, targets = batch(step)

        def loss(p: dict[str, Tensor], inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            hidden = nn.functional.linear(inputs, p["0.weight"], p["0.bias"]).relu()
            return nn.functional.cross_entropy(nn.functional.linear(hidden, p["2.weight"], p["2.bias"]), targets)

        optimizer.zero_grad()
        loss(dict(model.named_parameters())).backward()
        dead = {name: ~masks[name] for name in masks.names}
        assert pruner.update(masks, step=step, total_steps=total)
        masks.apply_to_gradients()
        optimizer.step()
        literal.step(loss, shares[step], lr=0.05, momentum=0.9, decay=5e-4)
        for name in masks.names:
            assert torch.equal(masks[name], literal.masks[name]), f"{name} at step {step}"
            assert not bool((dead[name] & masks[name]).any()), "what is gone stays gone"
        digests.add(masks.digest())
    assert len(digests) == 8, "dense, seven cuts; the last ones take no weight more"
    assert masks.counts.kept == final
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, literal.parameters[name], rtol=1e-4, atol=1e-6)


def test_living_zeros_do_not_bring_dead_weights_back() -> None:
    """All weights are zero: of equal ones, dead places with a lower index must not be taken for the best."""
    model, pruner = network(), Gradual(sparsity=0.9, every=1, stop=0.9)
    masks = pruner.init(model, generator=generator())
    for step in range(10):
        with torch.no_grad():
            model[0].weight.zero_()[:, 6:].add_(masks["0.weight"][:, 6:])
        before = masks["0.weight"].clone()
        pruner.update(masks, step=step, total_steps=10)
        assert not bool((masks["0.weight"] & ~before).any())
    assert masks.kept("0.weight") == 12


def test_a_run_too_short_for_its_cuts_prunes_at_the_stop() -> None:
    pruner = Gradual(every=1000, start=0.2, stop=0.5)
    assert [pruner.reached(step, 10) for step in range(10)] == [0.0] * 5 + [1.0] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "global-raw"}, "must be one of erk, er, uniform"),
        ({"every": 0}, "every is 0"),
        ({"start": 0.6, "stop": 0.5}, "start is 0.6, after stop, 0.5"),
        ({"stop": 1.5}, "stop is 1.5"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gradual(**options)  # type: ignore[arg-type]
