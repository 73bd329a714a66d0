"""Distributions: every sample is in a bar, the chosen ones are part of it, and odd values do no harm."""

import re

import pytest
import torch

from sartor.report.histogram import binned, by_rank, distribution, nice_ticks, visible_range


def test_every_sample_is_in_a_bin_and_outliers_in_the_last() -> None:
    values = torch.tensor([0.0, 0.1, 0.9, 1.0, 50.0, -3.0, torch.inf])
    found = binned(values, values > 0.5, 0.0, 1.0, 4)
    assert found.everything.tolist() == [3, 0, 0, 4]
    assert found.chosen.tolist() == [0, 0, 0, 4]
    assert found.beyond == 3


def test_one_outlier_of_many_does_not_hide_the_rest() -> None:
    values = torch.cat([torch.linspace(0, 1, 999), torch.tensor([1000.0])])
    assert visible_range(values)[1] < 1.1
    assert visible_range(torch.linspace(0, 1, 1000)) == (0.0, 1.0)


@pytest.mark.parametrize("values", [torch.zeros(5), torch.tensor([torch.inf]), torch.tensor([torch.nan, 1.0])])
def test_constant_and_infinite_values_are_drawn(values: torch.Tensor) -> None:
    chosen = torch.ones(len(values), dtype=torch.bool)
    svg, _, _ = distribution(values.double(), chosen, visible_range(values), "score")
    assert svg.count("<svg") == svg.count("</svg>") == 1
    assert "nan" not in svg
    assert "nan" not in by_rank(values.double(), chosen, "score")


def test_heights_are_roots_where_one_bin_outgrows_the_others() -> None:
    even, peaked = torch.linspace(0, 1, 600), torch.cat([torch.zeros(5000), torch.linspace(0, 1, 600)])
    for values, rooted in ((even, False), (peaked, True)):
        assert distribution(values, values > 0.5, (0.0, 1.0), "loss")[1] is rooted


def test_the_end_that_was_chosen_is_told_by_the_ranks() -> None:
    values = torch.arange(100.0)
    shares = re.findall(r": (\d+) % chosen", by_rank(values, values >= 90, "score"))
    assert [int(share) for share in shares] == [0] * 45 + [100] * 5


def test_ticks_are_round() -> None:
    assert nice_ticks(0.03, 1.38) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25])
    assert nice_ticks(-2, 2) == pytest.approx([-2, -1, 0, 1, 2])
    assert 3 <= len(nice_ticks(1e-7, 9e-7)) <= 9
