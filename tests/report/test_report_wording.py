import math

import pytest

from sartor.report.statistics import Interval
from sartor.report.wording import (
    brief_percent,
    counted,
    flops,
    listed,
    percent,
    plus_minus,
    seconds,
    short,
    signed,
    span,
)


@pytest.mark.parametrize(
    ("points", "text"),
    [(12.04, "+12.0"), (-0.34, "−0.3"), (-0.034, "−0.03"), (0.001, "0.0"), (-0.001, "0.0"), (0.0, "0.0")],
)
def test_differences_never_read_as_zero_when_they_are_not(points: float, text: str) -> None:
    assert signed(points) == text


def test_intervals() -> None:
    assert span(Interval(0.1, -0.2, 0.4, 5)) == "−0.2 to +0.4"
    assert plus_minus(Interval(97.93, 97.6, 98.26, 5)) == "97.9 ± 0.3"
    assert plus_minus(Interval(97.93, math.nan, math.nan, 1)) == "97.9"
    assert (span(Interval(1, math.nan, math.nan, 1)), plus_minus(None)) == ("–", "–")


@pytest.mark.parametrize(
    ("count", "text"),
    [(24.4e9, "24.4 GFLOP"), (1e9, "1 GFLOP"), (999, "999 FLOP"), (1.234e15, "1.23 PFLOP"), (0, "0 FLOP")],
)
def test_flops(count: float, text: str) -> None:
    assert flops(count) == text


def test_flops_without_a_unit() -> None:
    assert (flops(5e10, ""), flops(0, "")) == ("50 G", "0")


@pytest.mark.parametrize(("duration", "text"), [(0.983, "0.98 s"), (43.2, "43 s"), (300, "5.0 min"), (9000, "2.5 h")])
def test_seconds(duration: float, text: str) -> None:
    assert seconds(duration) == text


def test_shares() -> None:
    assert [brief_percent(share) for share in (0.003, 0.32, 1.28, None)] == ["0.3 %", "32 %", "128 %", "–"]
    assert percent(math.nan) == "–"


def test_words() -> None:
    assert (counted(1, "seed"), counted(5, "seed")) == ("1 seed", "5 seeds")
    assert (listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b"], "or")) == ("a", "a, b and c", "a or b")


def test_names_in_figures_are_short() -> None:
    assert short("swast-cut") == "swast-cut"
    assert short("swast-cut(pruner='magnitude(at=0.3)')") == "swast-cut(pruner=magnitude(…))"
    assert short("swast-cut(pruner='probmask(lr=0.02, trials=5)')") == "swast-cut(pruner=probmask(…))"
    assert short("prunefuse(t_sync=1, sync_epochs=12, target_lr=0.01)") == "prunefuse(t_sync=1, sync_epochs…"
