"""The mean over DropHot's grid, by hand."""

from typing import Any

import pytest

from sartor.studies.drophot_overall import overall_table
from sartor.studies.findings import Effect


def run(arm: str, fraction: float, seed: int, trained: float, tuned: float, **more: Any) -> dict[str, Any]:
    where = {"arm": arm, "fraction": fraction, "sparsity": 0.5, "defects": "none", "noise": 0.0, "seed": seed, **more}
    return where | {"trained_accuracy": trained, "pruned_accuracy": 0.5, "test_accuracy": tuned}


def effect(value: Any) -> tuple[float, float, float, int]:
    assert isinstance(value, Effect)
    assert value.interval is not None
    return (value.interval.mean, value.interval.low, value.interval.high, value.interval.n)


def test_cells_are_averaged_within_each_seed_and_the_interval_is_over_seeds() -> None:
    runs = [run("baseline", 1.0, seed, 0.9, 0.95) for seed in (0, 1)]
    for fraction, gain in ((0.1, 0.04), (0.2, 0.0)):
        for seed in (0, 1):
            runs.append(run("highest", fraction, seed, 0.8 + gain, 0.9 + 0.01 * seed))
            runs.append(run("random", fraction, seed, 0.8, 0.9))
    rows = {row["arm"]: row for row in overall_table(runs).rows}
    assert effect(rows["highest"]["before pruning, minus random"]) == pytest.approx((2.0, 2.0, 2.0, 2))
    assert effect(rows["highest"]["before pruning, minus all data"])[0] == pytest.approx(-8.0)
    mean, low, high, n = effect(rows["highest"]["tuned, minus random"])
    assert (mean, n) == (pytest.approx(0.5), 2)
    assert high - mean == pytest.approx(0.5 * 12.7062, rel=1e-4)  # t of one degree of freedom: sd/sqrt(2) is 0.5
    assert mean - low == pytest.approx(high - mean)
    assert rows["random"]["tuned, minus random"] == Effect(None)
    assert effect(rows["baseline"]["tuned, minus random"])[0] == pytest.approx(5.0)


def test_a_seed_that_a_cell_lacks_is_in_no_mean_and_settings_are_apart() -> None:
    runs = [run(arm, f, seed, 0.5, 0.5) for arm in ("highest", "random") for f in (0.1, 0.2) for seed in (0, 1)]
    lost = [one for one in runs if (one["arm"], one["fraction"], one["seed"]) != ("random", 0.2, 1)]
    (row,) = [row for row in overall_table(lost).rows if row["arm"] == "highest"]
    assert effect(row["tuned, minus random"])[3] == 1
    assert row["tuned, minus all data"] == Effect(None)
    noisy = [run("highest", 0.1, seed, 0.4, 0.4, noise=0.2) for seed in (0, 1)]
    assert [row["noise"] for row in overall_table([*runs, *noisy]).rows] == [0.0, 0.0, 0.2]
