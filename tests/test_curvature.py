"""Slope and curvature of a loss: against the whole Hessian, and the network is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference import crest as literal
from sartor.costs import count_flops
from sartor.curvature import PROBE, flat_weights, slope_and_curvature
from sartor.errors import SelectionError


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


def samples(n: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = source(1)
    return torch.randn(n, 3, generator=draws), torch.arange(n) % 3, torch.rand(n, generator=draws) + 0.5


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_gradient_and_what_one_draw_of_signs_says_of_the_diagonal(seed: int) -> None:
    model, (x, y, w) = network(seed), samples()
    slope, curvature = slope_and_curvature(model, x, y, w, generator=source(seed))
    signs = 2.0 * torch.randint(2, (len(slope),), generator=source(seed)) - 1
    expected, estimate, _ = literal.hessian_diagonal_estimate(model, x, y, w, signs)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(curvature, estimate, rtol=1e-4, atol=1e-5)


def test_over_many_draws_the_estimate_is_the_diagonal() -> None:
    model, (x, y, w), stream = network(), samples(), source(5)
    found = torch.stack([slope_and_curvature(model, x, y, w, generator=stream)[1] for _ in range(400)])
    _, _, diagonal = literal.hessian_diagonal_estimate(model, x, y, w, torch.ones(found.shape[1]))
    deviation = (found.mean(0) - diagonal).abs() / (found.std(0) / 20 + 1e-6)
    assert float(deviation.max()) < 4.5, "in standard errors, of 31 weights"


def test_a_diagonal_hessian_is_found_by_any_draw() -> None:
    class Apart(nn.Module):
        """Each sample has a weight of its own, so no two weights meet in a loss."""

        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.tensor([0.3, -1.0, 2.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([(x * self.own).sum(1), torch.zeros(len(x))], 1)

    for seed in range(3):
        slope, curvature = slope_and_curvature(
            Apart(), torch.eye(3), torch.zeros(3, dtype=torch.int64), torch.ones(3), generator=source(seed)
        )
        p = torch.tensor([0.3, -1.0, 2.0]).sigmoid()
        torch.testing.assert_close(slope, (p - 1) / 3)
        torch.testing.assert_close(curvature, p * (1 - p) / 3)


def test_nothing_is_disturbed_and_what_does_not_train_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    model[0].weight.requires_grad_(False)
    model[3].bias.grad = torch.ones(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    x, y, w = samples()
    slope, curvature = slope_and_curvature(model, x, y, w, generator=source())
    assert len(slope) == len(curvature) == len(flat_weights(model)) == 4 + 8 + 15
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model[3].bias.grad.tolist() == [1, 1, 1]
    assert model[3].weight.grad is None


def test_inputs_by_name_and_a_weight_that_takes_no_part() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.idle = nn.Linear(3, 3), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.part(x)

    x, y, w = samples()
    slope, curvature = slope_and_curvature(Named(), {"x": x}, y, w, generator=source())
    assert float(slope[:12].abs().max()) > 0
    assert not slope[12:].any()
    assert not curvature[12:].any()


def test_what_cannot_be_differentiated_twice_is_refused() -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -torch.cdist(x, self.weight) + self.bias

    x, y, w = samples()
    with pytest.raises(SelectionError, match="Net cannot be differentiated twice"):
        slope_and_curvature(Net(3, 3), x, y, w, generator=source())
    with pytest.raises(SelectionError, match="no weight of the network trains"):
        flat_weights(nn.Linear(3, 3).requires_grad_(False))


def test_what_is_charged_is_no_less_than_what_is_computed() -> None:
    """Of matrix products: 3 trainings of 3 forward passes each, less what the first layer's inputs do not need."""
    from torch.utils.flop_counter import FlopCounterMode

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    x, y = torch.randn(10, 64), torch.arange(10)
    with FlopCounterMode(display=False) as counter:
        slope_and_curvature(model, x, y, torch.ones(10), generator=source())
    charged = PROBE * 3 * count_flops(model, x).forward * 10
    assert 0.6 * charged < counter.get_total_flops() <= charged
