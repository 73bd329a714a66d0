"""Which selectors work with a head that is no Linear is declared, so that the others are refused before training."""

from __future__ import annotations

import pytest
import torch

from sartor.errors import SelectionError
from sartor.head import needs_linear_head
from sartor.registry import SELECTORS
from sartor.seen import Scan


def seen(bias: bool | None) -> Scan:
    generator = torch.Generator().manual_seed(0)
    part = {
        "logits": torch.randn(24, 3, generator=generator),
        "features": torch.randn(24, 5, generator=generator),
        "targets": torch.arange(24) % 3,
        "head_bias": bias,
    }
    return Scan.from_arrays(**part, validation=Scan.from_arrays(**part), progress=0.5, lr=0.1)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_works_with_any_head_or_says_that_it_does_not(name: str) -> None:
    selector = SELECTORS.build(name)
    if selector.needs - {"logits", "features", "targets", "validation", "progress", "lr"}:
        pytest.skip(f"{name} needs more than a scan of one network")
    assert len(selector.select(seen(True), 6, generator=torch.Generator().manual_seed(0))) == 6
    if needs_linear_head(selector):
        with pytest.raises(SelectionError, match=r"works with any head: .*el2n"):
            selector.select(seen(None), 6, generator=torch.Generator().manual_seed(0))
    else:
        assert len(selector.select(seen(None), 6, generator=torch.Generator().manual_seed(0))) == 6
