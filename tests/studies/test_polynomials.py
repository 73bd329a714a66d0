"""Polynomial fits and the difficulty of coresets: hand-computed, against literal versions, and what always holds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigvals

from reference import polynomials as literal
from sartor.studies.polynomials import (
    BASES,
    FUNCTIONS,
    Sample,
    alike,
    difficulty,
    draw,
    error,
    fit,
    smallest,
    subset_cap,
    without,
)


def sample(x: list[float], y: list[float]) -> Sample:
    return Sample(np.array(x, dtype=float), np.array(y, dtype=float), np.zeros(len(x), dtype=bool))


def test_points_are_where_they_should_be() -> None:
    spaced = draw("runge", 10, 5, seed=0, purpose="a", spaced=True)
    assert spaced.x.tolist() == np.linspace(-1, 1, 10).tolist()
    assert np.flatnonzero(spaced.noisy).tolist() == [1, 3, 5, 7, 9]
    clean = spaced.only(~spaced.noisy)
    assert clean.y.tolist() == FUNCTIONS["runge"](clean.x).tolist()
    assert (spaced.y[spaced.noisy] != FUNCTIONS["runge"](spaced.x[spaced.noisy])).all()
    scattered = draw("runge", 400, 200, seed=0, purpose="a", spaced=False)
    assert (np.diff(scattered.x) >= 0).all()
    assert (scattered.x >= -1).all()
    assert (scattered.x <= 1).all()
    assert scattered.noisy.sum() == 200
    errors = scattered.y - FUNCTIONS["runge"](scattered.x)
    assert errors[scattered.noisy].std() == pytest.approx(0.1, rel=0.2)
    again = draw("runge", 400, 200, seed=0, purpose="a", spaced=False)
    assert again.y.tolist() == scattered.y.tolist()
    assert draw("runge", 400, 200, seed=1, purpose="a", spaced=False).x.tolist() != scattered.x.tolist()


def test_joined_points_keep_their_marks() -> None:
    left, right = sample([-1, 0.5], [1, 2]), Sample(np.array([0.0]), np.array([7.0]), np.array([True]))
    both = left.joined(right)
    assert (both.x.tolist(), both.y.tolist(), both.noisy.tolist()) == ([-1, 0, 0.5], [1, 7, 2], [False, True, False])


@pytest.mark.parametrize(("n", "degree"), [(3, 5), (6, 5), (9, 4), (5, 10)])
def test_fits_are_those_of_exact_fractions(n: int, degree: int) -> None:
    x = [Fraction(2 * i, n) - 1 for i in range(n)]
    y = [Fraction((i * i) % 5 - 2, 3) for i in range(n)]
    exact = [float(c) for c in literal.fit(x, y, degree)]
    assert fit(np.array(x, dtype=float), np.array(y, dtype=float), degree, "monomial") == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("basis", BASES)
def test_of_many_points_the_polynomial_is_the_same_in_every_basis(basis: str) -> None:
    points = draw("sine", 30, 30, seed=3, purpose="a", spaced=False)
    found = error(fit(points.x, points.y, 6, basis), "sine", basis)
    assert found == pytest.approx(error(fit(points.x, points.y, 6, "monomial"), "sine", "monomial"), rel=1e-6)


def test_which_coefficients_go() -> None:
    c = np.array([3.0, -1.0, 0.5, 1.0, -8.0, 0.0])
    assert smallest(c, 3) == [5, 2, 1], "of equal magnitudes the first"
    assert without(c, [5, 2, 1]).tolist() == [3, 0, 0, 1, -8, 0]
    assert c[1] == -1.0, "the coefficients themselves stay"
    assert alike(c, [1.0, 0.36, 0.36]) == [4, 0, 1], "each place once"
    assert alike(np.zeros(3), [0.0, 0.5]) == [0, 1]


def test_odd_coefficients_of_clean_spaced_points_are_free_to_prune() -> None:
    """Why `noise makes pruning hard` is a matter of symmetry there: nothing else differs."""
    points = draw("runge", 10, 0, seed=0, purpose="a", spaced=True)
    c = fit(points.x, points.y, 10, "monomial")
    assert set(smallest(c, 3)) <= {1, 3, 5, 7, 9}
    before, after = error(c, "runge", "monomial"), error(without(c, smallest(c, 3)), "runge", "monomial")
    assert before == pytest.approx(0.0292, abs=5e-5)
    assert after == pytest.approx(before, rel=1e-6)


def test_difficulty_by_hand() -> None:
    """L = ((t)^2 + (t - 2)^2) / 2, L^ = t^2: with u = t - 1, |L - L^| / L = 2 |u| / (u^2 + 1), at most 1."""
    assert difficulty(sample([-1, 1], [0, 2]), sample([-1], [0]), 0) == pytest.approx(1)
    assert difficulty(sample([-1, 1], [0, 2]), sample([0], [1]), 0) == pytest.approx(1), "L^ = u^2, L = u^2 + 1"
    assert difficulty(sample([0], [1]), sample([-1, 1], [0, 2]), 0) == math.inf, "L = u^2 vanishes, L^ does not"


def test_of_equal_sets_it_is_0_and_repeated_points_change_nothing() -> None:
    points = draw("runge", 12, 6, seed=1, purpose="a", spaced=False)
    assert difficulty(points, points, 5) == pytest.approx(0, abs=1e-9)
    assert difficulty(points, points.joined(points), 5) == pytest.approx(0, abs=1e-9)
    assert difficulty(points, points, 30) == pytest.approx(0, abs=1e-9), "where both vanish, they agree"


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_nothing_found_by_climbing_is_larger_and_the_top_is_found(degree: int) -> None:
    full, subset = (draw("runge", n, n, seed=5, purpose=f"{n}", spaced=False) for n in (9, 6))
    climbed = literal.difficulty((full.x, full.y), (subset.x, subset.y), degree)
    closed = difficulty(full, subset, degree)
    assert climbed <= closed * (1 + 1e-6)
    assert climbed >= closed * 0.98


@pytest.mark.parametrize("degree", [1, 4, 7])
def test_it_is_a_generalised_eigenvalue(degree: int) -> None:
    full, subset = (draw("runge", n, n, seed=2, purpose=f"{n}", spaced=False) for n in (50, 20))
    a, b = ((z.T @ z) / len(z) for z in (np.column_stack([np.vander(s.x, degree + 1), -s.y]) for s in (full, subset)))
    assert difficulty(full, subset, degree) == pytest.approx(np.abs(1 - eigvals(b, a).real).max(), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 20), degree=st.integers(0, 20), spaced=st.booleans())
def test_a_subset_never_exceeds_the_cap(seed: int, m: int, degree: int, spaced: bool) -> None:
    full = draw("runge", 20, 10, seed=seed, purpose="a", spaced=spaced)
    subset = full.only(np.arange(20) < m)
    assert difficulty(full, subset, degree) <= subset_cap(20, m) * (1 + 1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 10), degree=st.integers(0, 5))
def test_units_of_y_do_not_matter(seed: int, factor: float, degree: int) -> None:
    full, subset = (draw("runge", n, n, seed=seed, purpose=f"{n}", spaced=False) for n in (20, 10))
    scaled = [Sample(s.x, factor * s.y, s.noisy) for s in (full, subset)]
    assert difficulty(*scaled, degree) == pytest.approx(difficulty(full, subset, degree), rel=1e-5)


def test_caps() -> None:
    assert subset_cap(70, 20) == 2.5
    assert subset_cap(10, 8) == 1.0
