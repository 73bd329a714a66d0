from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from reference.magnitude import literal_best_of_all
from reference.saliency import literal_snip
from sartor.errors import ConfigError, PruningError
from sartor.prune.distribution import kept_of
from sartor.prune.masks import Masks
from sartor.prune.saliency import gradients, mean_gradients
from sartor.prune.snip import SNIP


def network(*, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 3)
        ).double()


def samples(n: int = 12) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, 6, 6, generator=source, dtype=torch.float64), torch.randint(3, (n,), generator=source)


def init(pruner: SNIP, model: nn.Module, *parts: tuple[Tensor, Tensor], seed: int = 0) -> Masks:
    return pruner.init(model, generator=torch.Generator().manual_seed(seed), batches=parts or [samples()])


def test_masks_are_those_of_the_definition() -> None:
    model = network()
    inputs, targets = samples()
    scores = literal_snip(copy.deepcopy(model), ["0.weight", "5.weight"], inputs, targets)
    before = copy.deepcopy(model)
    masks = init(SNIP(sparsity=0.8), model)
    rows = {name: score.flatten().tolist() for name, score in scores.items()}
    wanted = literal_best_of_all(rows, kept_of(0.8, 36 + 192))
    assert {name: masks[name].flatten().tolist() for name in masks.names} == wanted
    for name in masks.names:
        living = masks[name]
        assert torch.equal(model.get_parameter(name)[living], before.get_parameter(name)[living])
        assert bool((model.get_parameter(name)[~living] == 0).all())


def test_mini_batches_of_any_size_add_up_to_the_mean_over_all_samples() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    inputs, targets = samples()
    weights = {"1.weight": model[1].weight}
    cut = [(inputs[:7], targets[:7]), (inputs[7:], targets[7:])]
    found = mean_gradients(model, weights, cut, nn.functional.cross_entropy)
    whole = gradients(nn.functional.cross_entropy(model(inputs), targets), weights)
    torch.testing.assert_close(found["1.weight"], whole["1.weight"], rtol=1e-12, atol=0)


def test_dropout_draws_from_the_generator() -> None:
    digests = [init(SNIP(sparsity=0.7), network(dropout=0.5), seed=seed).digest() for seed in (0, 0, 1, 2, 3)]
    assert digests[0] == digests[1]
    assert len(set(digests)) > 2


def test_inputs_may_be_tuples_and_dicts() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(6, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.body(left + right)

    left, right = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(8) % 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Two()
    digests = {
        SNIP().init(copy.deepcopy(model), generator=torch.Generator(), batches=[(inputs, targets)]).digest()
        for inputs in ((left, right), {"right": right, "left": left})
    }
    assert len(digests) == 1


def test_a_weight_that_the_loss_does_not_feel_has_no_score_but_its_layer_keeps_one() -> None:
    model = network()
    model[3].unused = nn.Linear(4, 4).double()
    masks = init(SNIP(sparsity=0.5), model)
    assert masks.kept("3.unused.weight") == 1
    assert masks.kept() == kept_of(0.5, 36 + 192 + 16)


def test_missing_samples_and_spoilt_ones_are_told() -> None:
    with pytest.raises(PruningError, match=r"SNIP looks at samples before it prunes; give batches="):
        SNIP().init(network(), generator=torch.Generator())
    inputs, targets = samples()
    inputs[3] = float("nan")
    before = network()
    with pytest.raises(PruningError, match=r"'0.weight' cannot be ranked"):
        init(SNIP(), before, (inputs, targets))
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), network().parameters()))


def test_what_init_would_refuse_is_refused_without_samples() -> None:
    SNIP(sparsity=0.9).check(network())
    with pytest.raises(PruningError, match="each of the 2 layers needs one"):
        SNIP(sparsity=0.995).check(network())
    with pytest.raises(PruningError, match="matches no weight"):
        SNIP(sparsity={"nothing": 0.5}).check(network())
    with pytest.raises(ConfigError, match="samples is 0"):
        SNIP(samples=0)
