from __future__ import annotations

import pytest
import torch
from torch import nn

from reference.magnitude import literal_best_of_all, literal_best_of_each, literal_normalised
from sartor.errors import ConfigError, PruningError
from sartor.prune.distribution import KINDS, kept_counts, kept_of
from sartor.prune.magnitude import Magnitude, magnitudes
from sartor.prune.masks import Masks


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
        model[2].weight.data.mul_(10)
        return model


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def init(pruner: Magnitude, model: nn.Module) -> Masks:
    return pruner.init(model, generator=generator())


def rows(model: nn.Module) -> dict[str, list[float]]:
    return {name: p.flatten().tolist() for name, p in model.named_parameters() if p.dim() > 1}


def plain(masks: Masks) -> dict[str, list[bool]]:
    return {name: masks[name].flatten().tolist() for name in masks.names}


@pytest.mark.parametrize("kind", [*KINDS, "raw", "mean", "l2"])
def test_masks_are_those_of_the_literal_version(kind: str) -> None:
    model = network().double()
    values, shapes = rows(model), {n: tuple(p.shape) for n, p in model.named_parameters() if p.dim() > 1}
    masks = init(Magnitude(sparsity=0.8, distribution=kind if kind in KINDS else f"global-{kind}"), model)
    if kind in KINDS:
        wanted = literal_best_of_each(literal_normalised(values, "raw"), kept_counts(shapes, 0.8, kind))
    else:
        wanted = literal_best_of_all(literal_normalised(values, kind), kept_of(0.8, sum(map(len, values.values()))))
    assert plain(masks) == wanted
    for name in masks.names:
        assert bool((masks.parameter(name)[~masks[name]] == 0).all())


def test_global_magnitude_is_not_one_thing() -> None:
    found = {}
    for kind in ("global-raw", "global-mean", "global-l2"):
        found[kind] = init(Magnitude(sparsity=0.8, distribution=kind), network()).densities()
    assert found["global-raw"]["2.weight"] > 1.5 * found["global-mean"]["2.weight"], "large weights take all"
    assert found["global-l2"]["4.weight"] > 1.3 * found["global-mean"]["4.weight"], "small layers take more"


def test_a_layer_of_zeros_keeps_one_weight_under_any_normaliser() -> None:
    for kind in ("global-raw", "global-mean", "global-l2"):
        model = network()
        model[4].weight.data.zero_()
        masks = init(Magnitude(sparsity=0.5, distribution=kind), model)
        assert masks.kept("4.weight") == 1
        assert masks.kept() == kept_of(0.5, masks.total())


def test_by_default_it_prunes_the_network_that_is_given_and_then_rests() -> None:
    model = network()
    pruner, before = Magnitude(sparsity=0.5), rows(model)
    masks = init(pruner, model)
    assert all(abs(masks.kept(name) - masks[name].numel() / 2) < 1 for name in masks.names)
    for name, after in rows(model).items():
        living = masks[name].flatten().tolist()
        assert [w for w, lives in zip(after, living) if lives] == [w for w, lives in zip(before[name], living) if lives]
        smallest = min(abs(w) for w, lives in zip(before[name], living) if lives)
        assert smallest >= max(abs(w) for w, lives in zip(before[name], living) if not lives)
    digest = masks.digest()
    for step in range(10):
        assert not pruner.moves(step, 10)
        assert pruner.update(masks, step=step, total_steps=10)
    assert masks.digest() == digest


@pytest.mark.parametrize(("at", "total", "moment"), [(0.5, 10, 5), (0.1, 4, 0), (0.66, 10, 7), (1.0, 10, 9)])
def test_it_prunes_once_after_its_share_of_the_steps(at: float, total: int, moment: int) -> None:
    model, pruner = network(), Magnitude(sparsity=0.7, at=at, distribution="erk")
    masks = init(pruner, model)
    assert masks.density() == 1
    densities = []
    for step in range(total):
        with torch.no_grad():
            for name in masks.names:
                masks.parameter(name).add_(torch.randn(masks[name].shape, generator=generator().manual_seed(step)))
        expected = literal_best_of_each(literal_normalised(rows(model), "raw"), dict(masks.counts.goal))
        assert pruner.update(masks, step=step, total_steps=total)
        if step == moment:
            assert plain(masks) == expected
        densities.append(masks.density())
    assert [step for step in range(total) if pruner.moves(step, total)] == [moment]
    assert densities == [1.0] * moment + [kept_of(0.7, masks.total()) / masks.total()] * (total - moment)


def test_the_global_ranking_is_that_of_the_weights_when_it_prunes() -> None:
    model, pruner = network(), Magnitude(sparsity=0.7, at=0.5, distribution="global-l2")
    masks = init(pruner, model)
    with torch.no_grad():
        model[4].weight.mul_(100)[0, :3].zero_()
    wanted = literal_best_of_all(literal_normalised(rows(model), "l2"), kept_of(0.7, masks.total()))
    pruner.update(masks, step=5, total_steps=10)
    assert plain(masks) == wanted


def test_a_gradient_that_is_not_finite_puts_the_pruning_off_to_the_next_step() -> None:
    """A pruning that is due at one step only would never come, where a loss scaler skips just that step."""
    model, pruner = network(), Magnitude(sparsity=0.7, at=0.5)
    masks = init(pruner, model)
    model[4].bias.grad = torch.full((3,), float("inf"))
    pruner.update(masks, step=5, total_steps=10)
    assert masks.density() == 1
    model[4].bias.grad = torch.zeros(3)
    pruner.update(masks, step=6, total_steps=10)
    assert masks.density() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_and_layouts(dtype: torch.dtype) -> None:
    for kind in Magnitude.distributions:
        model, last = network().to(dtype), network().to(dtype).to(memory_format=torch.channels_last)
        first, second = (init(Magnitude(sparsity=0.75, distribution=kind), m) for m in (model, last))
        assert first.digest() == second.digest()


def test_magnitudes_are_divided_by_what_the_name_says() -> None:
    weight = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    assert magnitudes(weight).tolist() == [[3, 4], [0, 1]]
    assert torch.allclose(magnitudes(weight, "global-mean"), torch.tensor([[1.5, 2.0], [0.0, 0.5]]))
    assert torch.allclose(magnitudes(weight, "global-l2"), weight.abs() / 26**0.5)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = network()
    model[2].weight.data[0, 0] = float("nan")
    with pytest.raises(PruningError, match=r"'2.weight' cannot be ranked"):
        init(Magnitude(), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "global"}, "must be one of erk, er, uniform, global-raw, global-mean, global-l2"),
        ({"at": 1.5}, "at is 1.5"),
        ({"sparsity": {}}, "empty mapping"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Magnitude(**options)  # type: ignore[arg-type]


def test_the_masks_know_their_goal_from_the_beginning() -> None:
    masks = init(Magnitude(sparsity=0.8, at=0.5), network())
    counts = masks.counts
    assert counts.kept == counts.total
    assert counts.reached(0.0) == counts.total
    assert counts.reached(1.0) == counts.goal == kept_counts({n: masks[n].shape for n in masks.names}, 0.8, "uniform")
    assert counts.densities(counts.goal)["2.weight"] == pytest.approx(0.2, abs=0.01)
