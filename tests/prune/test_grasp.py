from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from reference.magnitude import literal_best_of_all, literal_best_of_each
from reference.saliency import literal_grasp
from sartor.errors import ConfigError
from sartor.prune.distribution import kept_counts, kept_of
from sartor.prune.grasp import GraSP
from sartor.prune.masks import Masks

NAMES = ["0.weight", "3.weight"]


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=True), nn.Tanh(), nn.Linear(5, 3)
        ).double()


def samples(seed: int = 1, n: int = 10) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=source, dtype=torch.float64), torch.randint(3, (n,), generator=source)


def init(pruner: GraSP, model: nn.Module, *parts: tuple[Tensor, Tensor]) -> Masks:
    return pruner.init(model, generator=torch.Generator().manual_seed(0), batches=parts or [samples()])


@pytest.mark.parametrize("temperature", [1.0, 200.0])
@pytest.mark.parametrize("kind", ["global", "uniform"])
def test_masks_are_those_of_the_hessian_written_out(kind: str, temperature: float) -> None:
    model = network()
    scores = literal_grasp(copy.deepcopy(model), NAMES, *samples(), temperature)
    rows = {name: score.flatten().tolist() for name, score in scores.items()}
    masks = init(GraSP(sparsity=0.6, distribution=kind, temperature=temperature), model)
    if kind == "global":
        wanted = literal_best_of_all(rows, kept_of(0.6, 45))
    else:
        wanted = literal_best_of_each(rows, kept_counts({name: masks[name].shape for name in NAMES}, 0.6, kind))
    assert {name: masks[name].flatten().tolist() for name in NAMES} == wanted
    assert min(min(row) for row in rows.values()) < 0 < max(max(row) for row in rows.values())


def test_mini_batches_add_up_to_the_whole() -> None:
    """Without batch norm, which sees each mini-batch alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, targets = samples()
    whole = init(GraSP(sparsity=0.6), copy.deepcopy(model), (inputs, targets))
    cut = init(GraSP(sparsity=0.6), model, (inputs[:3], targets[:3]), (inputs[3:], targets[3:]))
    assert whole.digest() == cut.digest()


def test_attention_has_second_derivatives() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.attention(x, x, x, need_weights=False)
            return self.head(y.mean(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Attending()
    inputs = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    masks = init(GraSP(sparsity=0.5), model, (inputs, torch.arange(4) % 3))
    assert "head.weight" in masks.names


def test_options_that_cannot_be_meant() -> None:
    for options, message in (({"temperature": 0.0}, "temperature is 0"), ({"samples": -1}, "samples is -1")):
        with pytest.raises(ConfigError, match=message):
            GraSP(**options)  # type: ignore[arg-type]
