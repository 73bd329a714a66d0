"""The convention is the one behind the paper's tables: every row that it explains, within two of the last digit."""

import pytest

from sartor.costs_paper import scoring_cost, selector_cost, training_cost

N, SIZES = 50_000, [1_000, 5_000, 10_000, 15_000, 20_000, 25_000]
RESNET56, RESNET56_100, RESNET20 = 855_770, 861_620, 272_474
TABLES = {
    "table 2, dense": (RESNET56, {}, [0.31, 1.76, 4.64, 8.94, 14.66]),
    "table 2, p .5": (RESNET56 * 0.5**2, {}, [0.08, 0.44, 1.16, 2.24, 3.67]),
    "table 2, p .6": (RESNET56 * 0.4**2, {}, [0.05, 0.28, 0.74, 1.43, 2.35]),
    "table 2, p .7": (RESNET56 * 0.3**2, {}, [0.03, 0.16, 0.42, 0.80, 1.32]),
    "table 2, p .8": (RESNET56 * 0.2**2, {}, [0.01, 0.07, 0.18, 0.36, 0.58]),
    "table 2, CIFAR-100, p .5": (RESNET56_100 * 0.5**2, {}, [0.08, 0.44, 1.17, 2.26, 3.70]),
    "table 2, CIFAR-100, p .6": (RESNET56_100 * 0.4**2, {}, [0.05, 0.28, 0.75, 1.44, 2.36]),
    "table 2, CIFAR-100, p .7": (RESNET56_100 * 0.3**2, {}, [0.03, 0.16, 0.42, 0.81, 1.34]),
    "table 2, CIFAR-100, p .8": (RESNET56_100 * 0.2**2, {}, [0.01, 0.07, 0.19, 0.37, 0.60]),
    "table 3, by proxy": (RESNET20, {}, [0.10, 0.56, 1.48, 2.85, 4.67]),
    "table 3, BALD": (RESNET56, {"passes": 2}, [0.34, 1.81, 4.71, 9.03, 14.77]),
    "table 3, ALSE": (RESNET56, {"passes": 5}, [0.41, 1.96, 4.92, 9.29, 15.08]),
    "table 3, T_sync 1": (
        RESNET56 * 0.5**2,
        {"dense": RESNET56, "synced": {1, 2, 3, 4, 5}, "sync_epochs": 110},
        [0.08, 1.17, 3.34, 6.60, 10.94],
    ),
    "table 3, T_sync 2": (
        RESNET56 * 0.5**2,
        {"dense": RESNET56, "synced": {1, 3, 5}, "sync_epochs": 110},
        [0.08, 1.17, 1.89, 5.14, 6.58],
    ),
}


@pytest.mark.parametrize("row", TABLES)
def test_it_reproduces_the_rows_of_the_tables(row: str) -> None:
    parameters, options, printed = TABLES[row]
    found = selector_cost(parameters, 3 * 32 * 32, N, SIZES, 181, **options)
    assert found[0] == 0
    assert [round(value / 1e16, 2) for value in found[1:]] == pytest.approx(printed, abs=0.0201)


def test_rounds_without_a_training_cost_nothing() -> None:
    found = selector_cost(10, 3, 100, [20, 40, 60], 2, trained={1})
    assert found == [0, 0, training_cost(10, 3, 40, 2) + scoring_cost(10, 3, 60)]
    assert selector_cost(10, 3, 100, [20, 40], 2, trained={0}) == selector_cost(10, 3, 100, [20, 40], 2)


@pytest.mark.parametrize(
    ("parameters", "n", "dense"),
    [
        (23_917_832, 100_000, [0.50, 2.73, 7.11, 13.64, 22.32]),
        (25_557_032, 1_281_167, [6.88, 37.34, 97.28, 186.7, 305.6]),
    ],
)
def test_large_images_are_costed_a_thousand_times_too_low(parameters: int, n: int, dense: list[float]) -> None:
    sizes = [round(n * share) for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5)]
    found = selector_cost(parameters, 3 * 224 * 224, n, sizes, 100)[1:]
    assert [value / 1e16 / 1000 for value in found] == pytest.approx(dense, rel=1e-3, abs=0.011)


def test_a_training_and_a_look() -> None:
    assert training_cost(10, 3, 7, 2) == 6 * 10 * 3 * 7 * 2
    assert scoring_cost(10, 3, 7) == 2 * 10 * 3 * 7
