"""The terms of PruneFuse's error bound, by hand and inside a run; what a run under observation tells and costs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import sartor
from sartor.data.formats import Splits, digits
from sartor.data.pool import Pool
from sartor.models.build import build_model
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.prunefuse import Proxy
from sartor.studies import aligned
from sartor.studies.aligned import CHOICE, TARGET, Aligned
from sartor.studies.error_bound import distance, excess, losses, measure, slope, steepest

TINY: dict[str, Any] = {"epochs": 2, "batch_size": 64, "budgets": "60,120,200", "targets": "all"}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


@pytest.fixture
def pool() -> Pool:
    source = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (700,), generator=source)
    return Pool.from_arrays(torch.randn(700, 4, generator=source) + targets[:, None], targets)


def line(seed: int, scale: float = 1.0) -> nn.Module:
    linear = nn.Linear(4, 3)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=source))
    return linear


def test_the_distance_is_euclidean() -> None:
    one, other = line(0), line(1)
    flat = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in (one, other)]
    assert distance(one, other) == pytest.approx(float((flat[0] - flat[1]).norm()))
    assert distance(one, one) == 0


def test_the_slope_is_that_of_the_mean_loss_over_all_batches(pool: Pool) -> None:
    network = line(0)
    inputs, targets = pool.gather(pool.rows), pool.targets_of(pool.rows)
    gradients = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), targets), list(network.parameters()))
    wanted = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert slope(copy.deepcopy(network), pool) == pytest.approx(float(wanted), rel=1e-5)


def test_the_steepest_place_may_lie_between_the_networks(pool: Pool) -> None:
    start, end = line(0, 3.0), line(1, 3.0)
    ends = max(slope(copy.deepcopy(network), pool) for network in (start, end))
    assert steepest(start, end, [pool], points=2) == pytest.approx(ends)
    middle = copy.deepcopy(start)
    with torch.no_grad():
        for weight, other in zip(middle.parameters(), end.parameters()):
            weight.add_(other).div_(2)
    assert steepest(start, end, [pool], points=3) == pytest.approx(max(ends, slope(middle, pool)))
    part = pool.only(pool.rows[:50])
    assert steepest(start, end, [pool, part]) >= steepest(start, end, [pool])


@pytest.mark.parametrize("seed", range(5))
def test_of_convex_losses_the_bound_holds(pool: Pool, seed: int) -> None:
    """Along a segment a convex loss is steepest at one of the ends, so nothing is missed between the places."""
    dense, pruned = line(seed, 2.0), line(seed + 50, 2.0)
    before = copy.deepcopy(dense.state_dict())
    rows = pool.rows[torch.randperm(700, generator=torch.Generator().manual_seed(seed))[:30]]
    found = measure(dense, pruned, pool, rows)
    each = losses(dense, pool)
    assert found.gap == pytest.approx(abs(float(each[rows].mean() - each.mean())))
    assert found.gap <= found.total == found.delta + 2 * found.lipschitz * found.rho
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.parameters())


def test_the_excess_has_a_sign() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert excess(values, torch.tensor([False, False, False, True])) == 3.0
    assert excess(values, torch.tensor([True, False, False, False])) == -2.0


def fit(recipe: Aligned, splits: Splits) -> sartor.recipes.Result:
    model = build_model("fc(hidden=16)", classes=10, input_shape=(1, 8, 8), seed=0)
    return recipe.fit(model, splits.train, splits.test)


@pytest.mark.parametrize("t_sync", [0, 1])
def test_what_is_told_of_every_round(splits: Splits, t_sync: int, monkeypatch: pytest.MonkeyPatch) -> None:
    selectors: list[Proxy] = []
    looked: list[tuple[nn.Module, nn.Module, Pool, torch.Tensor]] = []
    new: list[int] = []

    class Watched(Aligned):
        def train_target(self, stages: Any, now: Any, labels: Any, selector: Proxy | None) -> Any:
            assert selector is not None
            selectors.append(selector)
            return super().train_target(stages, now, labels, selector)

    def looking(*given: Any) -> Any:
        looked.append(given)
        return measure(*given)

    def counting(values: torch.Tensor, chosen: torch.Tensor) -> float:
        new.append(int(chosen.sum()))
        return excess(values, chosen)

    monkeypatch.setattr(aligned, "measure", looking)
    monkeypatch.setattr(aligned, "excess", counting)
    metrics = fit(Watched(**TINY, t_sync=t_sync), splits).metrics
    told, choices = ([one for one in metrics if one["kind"] == kind] for kind in (TARGET, CHOICE))
    assert [one["labelled"] for one in told] == [60, 120, 200]
    assert [one["labelled"] for one in choices] == [120, 200]
    assert new == [60, 80], "only what is newly labelled counts as chosen"
    for number, (one, selector, (_, whole, pool, rows)) in enumerate(zip(told, selectors, looked)):
        assert (len(rows), len(pool)) == (one["labelled"], 1167)
        inputs = pool.gather(pool.rows[:50])
        torch.testing.assert_close(whole(inputs), selector.model(inputs), msg="zeros around it change nothing")
        assert one["bound"] == one["delta"] + 2 * one["lipschitz"] * one["rho"]
        assert one["selector"] == selector.outcome.accuracy
        if t_sync == 0 or number == 0:
            assert one["fresh"] == one["selector"]


def test_a_fresh_selector_is_the_one_of_a_run_without_synchronisation(splits: Splits) -> None:
    """Random draws are the same in both runs, so each fresh one learns from the same labels, from the same weights."""
    options = {**TINY, "acquisition": "random"}
    lines = [
        [one for one in fit(Aligned(**options, t_sync=t_sync), splits).metrics if one["kind"] == TARGET]
        for t_sync in (0, 1)
    ]
    assert [one["fresh"] for one in lines[1]] == [one["selector"] for one in lines[0]]
    assert [one["selector"] for one in lines[1]] != [one["selector"] for one in lines[0]]


@pytest.mark.parametrize("acquisition", ["random", "entropy"])
def test_the_forecast_knows_of_what_is_trained_beside(splits: Splits, acquisition: str) -> None:
    recipe = Aligned(**{**TINY, "targets": "120,200"}, acquisition=acquisition, t_sync=1)
    results = fit(recipe, splits).results
    assert results["flops"] == pytest.approx(Forecaster(splits, "fc(hidden=16)")(recipe).flops)
