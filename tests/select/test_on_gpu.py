"""A pool looked at on a GPU leads to the same choice as on the CPU, but for samples that sums in another order part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sartor.data.pool import Pool
from sartor.registry import SELECTORS
from sartor.scanning import scan
from sartor.seen import Scan

N, K = 600, 90
NEEDS = frozenset({"logits", "features", "targets", "validation", "lr"})
RANKED = ("least-confidence", "margin", "entropy", "el2n", "loss", "grand")
OTHERS = ("moderate", "k-center", "herding", "badge", "gradmatch", "craig", "glister", "facility-location", "graph-cut")


def looked(device: str) -> Scan:
    draws = torch.Generator().manual_seed(0)
    targets = torch.arange(N) % 5
    inputs = torch.randn(N, 12, generator=draws) + torch.eye(5, 12)[targets]
    layers = [nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 5)]
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    model = nn.Sequential(*layers).to(device)
    pool = Pool.from_arrays(inputs, targets)
    return scan(model, pool, needs=NEEDS, validation=pool, lr=0.1, precision="fp32")


def choice(spec: str, seen: Scan) -> Tensor:
    return SELECTORS.build(spec).select(seen, K, generator=torch.Generator().manual_seed(1)).rows


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [*RANKED, *OTHERS])
def test_the_choice_is_that_of_the_cpu(spec: str) -> None:
    here, there = looked("cpu"), looked("cuda")
    torch.testing.assert_close(there.logits, here.logits, rtol=1e-4, atol=1e-4)
    one, other = choice(spec, here), choice(spec, there)
    if spec in RANKED:
        scores = SELECTORS.build(spec).scores(here)
        lowest = scores[torch.isin(here.rows, one)].min()
        assert float(scores[torch.isin(here.rows, other)].min()) >= float(lowest) - 1e-4
    assert len(set(one.tolist()) & set(other.tolist())) >= 0.95 * K
