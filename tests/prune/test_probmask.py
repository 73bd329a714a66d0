from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from reference.probmask import LiteralProbMask, soft_mask
from sartor.errors import ConfigError, PruningError
from sartor.prune.drawn import DrawnMasks
from sartor.prune.masks import Masks
from sartor.prune.probmask import ProbMask, relaxed
from sartor.prune.rigl import RigL
from sartor.randomness import derive
from sartor.registry import PRUNERS

TOTAL = 20


def network(seed: int = 0, *, norm: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle: nn.Module = nn.BatchNorm2d(6) if norm else nn.Identity()
        layers = [nn.Conv2d(2, 6, 3, bias=False), middle, nn.ReLU(), nn.Flatten(), nn.Linear(96, 10), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(10, 3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    source = generator(1000 + seed)
    return torch.randn(8, 2, 6, 6, generator=source), torch.randint(3, (8,), generator=source)


def sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def start(pruner: ProbMask, model: nn.Module, seed: int = 0) -> DrawnMasks:
    return pruner.init(model, generator=generator(seed))


def loss_of(model: nn.Module, step: int) -> Tensor:
    inputs, targets = batch(step)
    return nn.functional.cross_entropy(model(inputs.to(next(model.parameters()).dtype)).float(), targets)


def passes(pruner: ProbMask, model: nn.Module, masks: Masks, step: int) -> list[float]:
    losses = []
    for _ in range(pruner.passes):
        with pruner.forward(model, masks):
            loss = loss_of(model, step)
            (loss / pruner.passes).backward()
        losses.append(float(loss.detach()))
    return losses


def train(pruner: ProbMask, model: nn.Module, masks: Masks, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        passes(pruner, model, masks, step)
        assert pruner.update(masks, step=step, total_steps=TOTAL)
        masks.apply_to_gradients()
        optimizer.step()


def trained(pruner: ProbMask, steps: int = TOTAL) -> tuple[nn.Module, DrawnMasks, Optimizer]:
    model = network()
    masks, optimizer = start(pruner, model), sgd(model)
    masks.attach(optimizer)
    train(pruner, model, masks, optimizer, range(steps))
    return model, masks, optimizer


def state_of(*parts: Any) -> list[Any]:
    return copy.deepcopy([part.state_dict() for part in parts])


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=8), st.integers(0, 99), st.floats(0.03, 1))
@settings(deadline=None)
def test_a_soft_mask_and_its_slope_are_those_of_autograd(values: list[float], seed: int, temperature: float) -> None:
    uniform = torch.rand(len(values), generator=generator(seed)).clamp(0.01, 0.99)
    mask, slope = relaxed(torch.tensor(values), uniform, 1 / temperature)
    scores = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    literal = soft_mask(scores, uniform.double().logit(), temperature)
    literal.sum().backward()
    assert mask.tolist() == pytest.approx(literal.tolist(), abs=2e-5)
    assert slope.tolist() == pytest.approx(scores.grad.tolist(), rel=2e-3, abs=2e-5 / temperature)


def test_one_uniform_draw_makes_the_noise_of_the_originals_two() -> None:
    n, source = 200_000, generator()
    first, second = (torch.rand(n, generator=source, dtype=torch.float64) for _ in range(2))
    two = -torch.log(torch.log(first) / torch.log(second))
    one = torch.rand(n, generator=source, dtype=torch.float64).logit()
    shares = torch.linspace(0.01, 0.99, 50).double()
    assert float((two.quantile(shares) - one.quantile(shares)).abs().max()) < 0.1


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.03])
def test_cold_draws_are_the_weights_themselves_with_their_probabilities(temperature: float) -> None:
    scores = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).repeat_interleave(20_000)
    mask, slope = relaxed(scores, torch.rand(len(scores), generator=generator()), 1 / temperature)
    assert bool(mask.isfinite().all() & slope.isfinite().all())
    assert bool((slope >= 0).all())
    halves = (mask > 0.5).float().view(5, -1).mean(1)
    assert halves.tolist() == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.015)
    assert float(mask[:20_000].max()) < 1e-8
    assert bool((mask[-20_000:] == 1).all())
    assert float(slope[-20_000:].abs().max()) == 0, "at 1 only the projection moves a score"


def test_half_precision_does_not_lose_the_smallest_number() -> None:
    """1e-20 is 0 in float16, and the logarithm of 0 makes masks that are no numbers."""
    assert float(torch.tensor(1e-20).half()) == 0
    for scores in (torch.tensor([0.0, 1.0]).half(), torch.tensor([0.0, 1.0]).bfloat16()):
        mask, slope = relaxed(scores, torch.tensor([0.0, 0.999999]), 5.0)
        assert mask.dtype == slope.dtype == torch.float32
        assert mask.tolist() == pytest.approx([0, 1])
        assert bool(slope.isfinite().all())


def uniform_of(masks: DrawnMasks, step: int, number: int) -> dict[str, Tensor]:
    source = generator(derive(masks.seed, f"pass {number}", step))
    return masks.by_name(torch.rand(masks.total(), generator=source).clamp_min(2**-25))


def loss_with(model: nn.Module, step: int, parameters: dict[str, Tensor]) -> Tensor:
    inputs, targets = batch(step)
    return nn.functional.cross_entropy(functional_call(model, parameters, inputs), targets)


def test_a_run_is_that_of_the_literal_version() -> None:
    model, total = network(norm=False), 50
    pruner = ProbMask(sparsity=0.8, lr=6e-3)
    masks, optimizer = start(pruner, model), sgd(model)
    masks.attach(optimizer)
    literal = LiteralProbMask(dict(model.named_parameters()), masks.names, 0.8, total)
    densities = []
    for step in range(total):
        draws = [uniform_of(masks, step, number) for number in range(2)]
        literal.step(partial(loss_with, model, step), draws, step, lr=0.05)
        optimizer.zero_grad()
        passes(pruner, model, masks, step)
        pruner.update(masks, step=step, total_steps=total)
        optimizer.step()
        densities.append(masks.density())
        scores = masks.by_name(masks.scores.detach())
        for name in masks.names:
            torch.testing.assert_close(scores[name], literal.scores[name].detach(), rtol=0, atol=2e-4)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter, literal.parameters[name], rtol=0, atol=2e-4)
    assert densities[8] == 1.0
    assert densities[-1] == pytest.approx(0.2, abs=1e-3)
    assert float(masks.scores.detach().std()) > 0.01, "the scores must have gone apart"


def test_the_budget_falls_by_the_cubic() -> None:
    pruner = ProbMask(sparsity=0.9)
    assert [pruner.remaining(share) for share in (0, 0.16, 0.6, 1)] == [1, 1, 0, 0]
    assert pruner.remaining(0.38) == pytest.approx(0.125)
    assert ProbMask(start=0.5, stop=0.5).remaining(0.5) == 0


@pytest.mark.parametrize("seed", [0, 1, 8])
def test_the_budget_is_met_after_every_step_and_spent_if_the_scores_would_exceed_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a bound: scores that fall below it by themselves, once it rests, are only kept within 0 and 1."""
    pruner, model = ProbMask(sparsity=0.9), network(seed)
    masks, optimizer = start(pruner, model, seed), sgd(model)
    final = sum(masks.counts.goal.values()) / masks.total()
    wanted: list[float] = []
    original = DrawnMasks.spend

    def spend(self: DrawnMasks, remaining: float) -> None:
        wanted.append(float(self.scores.detach().double().clamp(0, 1).mean()))
        original(self, remaining)

    monkeypatch.setattr(DrawnMasks, "spend", spend)
    bound = []
    for step in range(TOTAL):
        train(pruner, model, masks, optimizer, range(step, step + 1))
        budget = final + (1 - final) * pruner.remaining(step / TOTAL)
        assert masks.density() == pytest.approx(min(wanted[-1], budget), abs=1e-6)
        assert bool(((masks.scores >= 0) & (masks.scores <= 1)).all())
        bound.append(wanted[-1] > budget)
    falling = [step for step in range(TOTAL) if 0.16 * TOTAL < step <= 0.6 * TOTAL]
    assert all(bound[step] for step in falling), "while the budget falls, it falls faster than any score"


def test_temperature_falls_by_a_line() -> None:
    assert [ProbMask().sharpness(share) for share in (0, 0.5, 1)] == pytest.approx([1, 1 / 0.515, 1 / 0.03])
    assert ProbMask(temperature=1.0).sharpness(0.7) == 1


def test_a_pass_leaves_the_weights_and_adds_up_gradients_of_its_own_draw() -> None:
    pruner, model = ProbMask(sparsity=0.5, clip=0.0), network(norm=False)
    masks = start(pruner, model)
    with torch.no_grad():
        masks.scores.copy_(torch.rand(masks.total(), generator=generator(5)))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    pointers = [p.data_ptr() for p in model.parameters()]
    losses = passes(pruner, model, masks, 0)
    assert losses[0] != losses[1], "each pass draws its own mask"
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())

    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    scores = masks.scores.detach().clone().requires_grad_()
    for number in range(2):
        noise = torch.cat([u.reshape(-1).logit() for u in uniform_of(masks, 0, number).values()])
        soft = masks.by_name(soft_mask(scores, noise, 1.0))
        used = {name: leaf * soft[name] if name in soft else leaf for name, leaf in leaves.items()}
        (loss_with(model, 0, used) / 2).backward()
    torch.testing.assert_close(masks.scores.grad, scores.grad, rtol=1e-3, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_over_weights_and_scores_together() -> None:
    norms = {}
    for clip in (0.0, 1e-3):
        pruner, model = ProbMask(clip=clip, stop=0.5), network()
        masks = start(pruner, model)
        passes(pruner, model, masks, 0)
        pruner.update(masks, step=15, total_steps=TOTAL)
        passes(pruner, model, masks, 1)
        held = masks.scores.grad.clone()
        pruner.update(masks, step=16, total_steps=TOTAL)
        norms[clip] = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm(), held.norm()
    weights, scores = norms[0.0]
    whole = math.hypot(float(weights), float(scores))
    assert float(scores) > 0
    assert float(norms[1e-3][0]) < 1e-3
    assert float(norms[1e-3][0]) / 1e-3 <= float(weights) / whole * 1.1


def test_masks_hold_every_weight_until_they_are_settled_with_exact_counts() -> None:
    pruner = ProbMask(sparsity={"6": 0.5, "all": 0.9})
    model, masks, optimizer = trained(pruner)
    assert masks.kept() == masks.total()
    assert masks.densities() == dict.fromkeys(masks.names, 1.0)
    assert all(bool((masks.parameter(name) != 0).all()) for name in masks.names)
    pruner.finish(model, masks)
    assert masks.kept("6.weight") == 15
    rest = [name for name in masks.names if name != "6.weight"]
    assert sum(masks.kept(name) for name in rest) == round(0.1 * sum(masks[name].numel() for name in rest))
    assert masks.density() == masks.kept() / masks.total()
    for name in masks.names:
        assert bool((masks.parameter(name)[~masks[name]] == 0).all())
        assert bool((optimizer.state[masks.parameter(name)]["momentum_buffer"][~masks[name]] == 0).all())
    digest = masks.digest()
    pruner.finish(model, masks)
    train(pruner, model, masks, optimizer, range(3))
    assert masks.digest() == digest == Masks(model, masks.state_dict()).digest()
    assert all(bool((masks.parameter(name)[~masks[name]] == 0).all()) for name in masks.names)
    assert masks.learned == ()


def test_the_trial_with_the_lowest_loss_stays() -> None:
    pruner = ProbMask(sparsity=0.7, trials=6)
    model, masks, _ = trained(pruner, 8)
    buffers, before = copy.deepcopy(dict(model.named_buffers())), [p.detach().clone() for p in model.parameters()]
    told, nets = iter([0.5, float("nan"), 0.3, 0.3, 0.9, 0.4]), []

    def measure() -> float:
        with pruner.look(model, masks):  # a look inside of a trial is a look at that trial
            nets.append([masks.parameter(name) != 0 for name in masks.names])
        return next(told)

    pruner.finish(model, masks, measure=measure)
    assert len(nets) == 6
    kept = [sum(int(mask.sum()) for mask in net) for net in nets]
    assert kept == [round(0.3 * masks.total())] * 6, "each has the exact count when it is tried"
    assert all(torch.equal(masks[name], mask) for name, mask in zip(masks.names, nets[2]))
    assert not all(torch.equal(a, b) for a, b in zip(nets[2], nets[3]))
    assert equal(dict(model.named_buffers()), buffers)
    assert model.training, "no trial turns a mode"
    for name, parameter, old in zip(dict(model.named_parameters()), model.parameters(), before):
        living = masks[name] if name in masks.names else torch.ones_like(old, dtype=torch.bool)
        assert torch.equal(parameter[living], old[living])


def test_without_a_loss_the_most_probable_mask_stays_and_ties_go_by_index() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False))
    for pruner, measure in ((ProbMask(sparsity=0.5), None), (ProbMask(sparsity=0.5, trials=0), lambda: 1 / 0)):
        masks = start(pruner, model)
        with torch.no_grad():
            masks.scores.copy_(torch.tensor([0.5, 0.9, 0.5, 0.5, 0.1, 0.0, 0.2, 0.5]))
        pruner.finish(model, masks, measure=measure)
        assert masks["0.weight"].int().tolist() == [[1, 1, 1, 0]]
        assert masks["1.weight"].int().tolist() == [[0, 0, 0, 1]], "a layer keeps its best weight"


@given(st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12), st.floats(0, 0.9), st.integers(0, 99))
@settings(deadline=None)
def test_an_exact_mask_differs_from_the_draw_as_little_as_it_can(
    values: list[float], sparsity: float, seed: int
) -> None:
    model = nn.Linear(12, 1)
    masks = start(ProbMask(sparsity=round(sparsity, 2)), model)
    with torch.no_grad():
        masks.scores.copy_(torch.tensor(values))
    draw = torch.rand(12, generator=generator(seed)) < masks.scores.detach()
    exact = masks.exact(draw)
    kept = max(1, math.floor(12 * (1 - round(sparsity, 2)) + 0.5 + 1e-9))
    assert int(exact.sum()) == kept
    assert int((exact ^ draw).sum()) == abs(int(draw.sum()) - kept)
    scores = masks.scores.detach()
    for changed, other in ((exact & ~draw, ~exact), (draw & ~exact, exact)):
        if changed.any() and other.any():
            if bool((exact & ~draw).any()):
                assert float(scores[changed].min()) >= float(
                    scores[other & ~draw].max() if (other & ~draw).any() else 0
                )
            else:
                assert float(scores[changed].max()) <= float(scores[other].min())


def test_a_look_sees_one_network_of_zeros_and_ones_a_step() -> None:
    pruner = ProbMask(sparsity=0.7)
    model, masks, optimizer = trained(pruner, 10)
    weights = {name: masks.parameter(name).detach().clone() for name in masks.names}

    def seen() -> dict[str, Tensor]:
        with pruner.look(model, masks):
            return {name: masks.parameter(name).detach().clone() for name in masks.names}

    first, second = seen(), seen()
    assert equal(first, second)
    assert all(bool(((first[n] == 0) | (first[n] == weights[n])).all()) for n in masks.names)
    share = sum(int((value != 0).sum()) for value in first.values()) / masks.total()
    assert share == pytest.approx(masks.density(), abs=0.06)
    assert all(torch.equal(masks.parameter(name), weights[name]) for name in masks.names)
    train(pruner, model, masks, optimizer, range(10, 11))
    assert not all(torch.equal(seen()[name] == 0, first[name] == 0) for name in masks.names)


def test_an_error_in_a_pass_brings_the_weights_back() -> None:
    pruner, model = ProbMask(), network()
    masks = start(pruner, model)
    before = state_of(model)
    for surround in (pruner.forward, pruner.look):
        with pytest.raises(ZeroDivisionError), surround(model, masks):
            1 / 0  # noqa: B018
        assert equal(state_of(model)[0], before[0])


@pytest.mark.parametrize("cut", [1, 7, 13])
def test_a_resumed_run_ends_bit_for_bit_where_the_straight_one_ends(cut: int) -> None:
    pruner = ProbMask(sparsity=0.8, trials=2)
    model, masks, optimizer = trained(pruner, cut)
    saved = state_of(model, masks, optimizer)
    train(pruner, model, masks, optimizer, range(cut, TOTAL))
    fresh = network(seed=4)
    other, again = start(pruner, fresh, seed=9), sgd(fresh)
    for part, state in zip((fresh, other, again), saved):
        part.load_state_dict(state)
    other.attach(again)
    assert other.density() == float(saved[1]["drawn: scores"].double().mean())
    train(pruner, fresh, other, again, range(cut, TOTAL))
    assert other.digest() == masks.digest()
    assert equal(other.state_dict(), masks.state_dict())
    assert equal(fresh.state_dict(), model.state_dict())
    for each, net in ((masks, model), (other, fresh)):
        pruner.finish(net, each, measure=iter([2.0, 1.0]).__next__)
    assert other.digest() == masks.digest()
    settled = start(pruner, network())
    settled.load_state_dict(masks.state_dict())
    assert settled.settled
    assert settled.digest() == masks.digest()


def test_states_of_other_weights_are_refused_and_change_nothing() -> None:
    masks = start(ProbMask(), network())
    before = masks.digest()
    with pytest.raises(PruningError, match="belong to other weights"):
        masks.load_state_dict(start(ProbMask(sparsity={"Linear": 0.5}), network()).state_dict())
    assert masks.digest() == before


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layouts_draw_alike(layout: torch.memory_format) -> None:
    pruner = ProbMask(sparsity=0.8)
    model, plain = network().to(memory_format=layout), network()  # type: ignore[call-overload]
    nets = []
    for net in (model, plain):
        masks, optimizer = start(pruner, net), sgd(net)
        train(pruner, net, masks, optimizer, range(6))
        strides = net[0].weight.stride()
        with pruner.look(net, masks):
            nets.append(net[0].weight.detach().clone())
            assert net[0].weight.stride() == strides
    torch.testing.assert_close(nets[0], nets[1], rtol=1e-3, atol=1e-4)


def test_mixed_precision_does_not_see_the_pass_before() -> None:
    """Autocast keeps its casts of weights; within one block, the second pass would have the first one's mask."""
    pruner, model = ProbMask(sparsity=0.5), network()
    masks = start(pruner, model)
    with torch.no_grad():
        masks.scores.fill_(0.5)
    losses = []
    with torch.autocast("cpu", torch.bfloat16):
        losses += passes(pruner, model, masks, 0)
    assert losses[0] != losses[1]
    apart = start(pruner, twin := network())
    with torch.no_grad():
        apart.scores.fill_(0.5)
    for loss in losses:
        with torch.autocast("cpu", torch.bfloat16), pruner.forward(twin, apart):
            found = loss_of(twin, 0)
            (found / 2).backward()
        assert float(found.detach()) == loss
    assert masks.scores.grad.dtype == torch.float32
    assert torch.equal(masks.scores.grad, apart.scores.grad)


def test_networks_in_bfloat16_train() -> None:
    pruner, model = ProbMask(sparsity=0.7), network().bfloat16()
    masks, optimizer = start(pruner, model), sgd(model)
    masks.attach(optimizer)
    train(pruner, model, masks, optimizer, range(TOTAL))
    assert masks.scores.dtype == torch.float32
    assert all(bool(p.isfinite().all()) for p in (*model.parameters(), masks.scores))
    pruner.finish(model, masks)
    assert masks.kept() == round(0.3 * masks.total())


def test_a_step_that_the_loss_scaler_skips_moves_nothing() -> None:
    pruner, model = ProbMask(sparsity=0.7, start=0.0), network()
    plain_pruner, plain_model = ProbMask(sparsity=0.7, start=0.0), network()
    masks, optimizer = start(pruner, model), sgd(model)
    plain, other = start(plain_pruner, plain_model), sgd(plain_model)
    masks.attach(optimizer)
    plain.attach(other)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(6):
        optimizer.zero_grad()
        for _ in range(pruner.passes):
            with pruner.forward(model, masks):
                scaler.scale(loss_of(model, step) / 2).backward()
        if step == 4:
            model[0].weight.grad[0, 0, 0, 0] = float("inf")  # type: ignore[union-attr, index]
        scaler.unscale_(optimizer)
        scaler.unscale_(masks.score_optimizer)
        before, digest = {n: v.clone() for n, v in model.named_parameters()}, masks.digest()
        pruner.update(masks, step=step, total_steps=TOTAL)
        masks.apply_to_gradients()
        scaler.step(optimizer)
        scaler.update()
        assert (masks.digest() == digest) == (step in (0, 4)), "at 1 scores wait for the budget to fall"
        assert all(torch.equal(v, before[n]) for n, v in model.named_parameters()) == (step == 4)
        if step < 4:
            train(plain_pruner, plain_model, plain, other, range(step, step + 1))
            torch.testing.assert_close(masks.scores, plain.scores, rtol=0, atol=1e-4)


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_settled_zeros_stay_zero_under_any_optimiser(kind: str) -> None:
    pruner, model = ProbMask(sparsity=0.7), network()
    masks, optimizer = start(pruner, model), OPTIMIZERS[kind](model)
    masks.attach(optimizer)
    train(pruner, model, masks, optimizer, range(6))
    pruner.finish(model, masks)
    train(pruner, model, masks, optimizer, range(6, 10))
    for name in masks.names:
        assert bool((masks.parameter(name)[~masks[name]] == 0).all())
        for slot in optimizer.state[masks.parameter(name)].values():
            assert slot.dim() == 0 or bool((slot[~masks[name]] == 0).all())


def test_misuse_names_the_cure() -> None:
    pruner, model = ProbMask(), network()
    masks = start(pruner, model)
    loss_of(model, 0).backward()
    with pytest.raises(PruningError, match=r"surround each pass by pruner\.forward"):
        pruner.update(masks, step=0, total_steps=10)
    with pytest.raises(PruningError, match="call backward inside"), pruner.forward(model, masks):
        loss_of(model, 0)
    foreign = RigL().init(network(), generator=generator())
    with pytest.raises(PruningError, match="that init of probmask returns"):
        pruner.update(foreign, step=0, total_steps=10)
    with pytest.raises(PruningError, match="each of the 3 layers needs one"):
        start(ProbMask(sparsity=0.999), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"passes": 0}, "passes is 0"),
        ({"start": 0.7}, "start is 0.7, after stop"),
        ({"stop": 1.5}, "stop is 1.5"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"clip": -1.0}, "clip is -1"),
        ({"trials": -1}, "trials is -1"),
        ({"finetune": -1}, "finetune is -1"),
        ({"finetune_lr": 0.0}, "finetune_lr is 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProbMask(**options)


def test_whatever_can_be_on_can_be_off() -> None:
    """The original's switches for annealing, schedule and fine-tuning are on whatever one says."""
    pruner = PRUNERS.build("probmask(temperature=1.0, start=0.0, stop=0.0, clip=0.0, trials=0, finetune=0, passes=1)")
    assert (pruner.sharpness(0.9), pruner.remaining(0.0), pruner.passes) == (1.0, 0.0, 1)
    model, masks, _ = trained(pruner, 2)
    assert masks.density() == pytest.approx(0.1, abs=0.002)
    pruner.finish(model, masks)
    assert masks.kept() == math.floor(0.1 * masks.total() + 0.5)


def test_only_convolutions_by_scope_as_in_the_original() -> None:
    model = network()
    masks = start(PRUNERS.build("probmask(sparsity={'Conv2d': 0.9})"), model)
    assert masks.names == ("0.weight",)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_scores_and_moments_follow_the_weights_to_a_gpu() -> None:
    pruner, model = ProbMask(sparsity=0.7), network()
    masks = start(pruner, model)
    train(pruner, model, masks, sgd(model), range(2))
    model.cuda()
    optimizer = sgd(model)
    masks.attach(optimizer)
    for step in range(2, 6):
        inputs, targets = (part.cuda() for part in batch(step))
        optimizer.zero_grad()
        for _ in range(pruner.passes):
            with pruner.forward(model, masks):
                (nn.functional.cross_entropy(model(inputs), targets) / 2).backward()
        pruner.update(masks, step=step, total_steps=TOTAL)
        optimizer.step()
    assert masks.scores.is_cuda
    pruner.finish(model, masks)
    assert masks.kept() == round(0.3 * masks.total())
