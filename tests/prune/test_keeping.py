from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reference.magnitude import literal_best_of_all, literal_best_of_each
from sartor.errors import PruningError
from sartor.prune.keeping import best_of_all, best_of_each, check_counts, keep_best, kept_by_layer
from sartor.prune.scope import resolve

LAYERS = st.lists(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12), min_size=1, max_size=4)


@given(LAYERS, st.data())
@settings(max_examples=100, deadline=None)
def test_the_best_are_those_of_the_literal_version_ties_included(
    layers: list[list[float]], data: st.DataObject
) -> None:
    rows = {f"layer{number}": row for number, row in enumerate(layers)}
    scores = {name: torch.tensor(row) for name, row in rows.items()}
    kept = {name: data.draw(st.integers(0, len(row))) for name, row in rows.items()}
    found = {name: mask.tolist() for name, mask in best_of_each(scores, kept).items()}
    assert found == literal_best_of_each(rows, kept)
    size = sum(len(row) for row in layers)
    total = data.draw(st.integers(len(layers), size))
    masks = best_of_all(scores, (size - total) / size)
    assert {name: mask.tolist() for name, mask in masks.items()} == literal_best_of_all(rows, total)


def test_equal_scores_leave_exact_counts_and_scores_stay_as_they_are() -> None:
    """Peers keep what is above a threshold, and so lose all weights that tie with it."""
    scores = {"a": torch.zeros(4, 5), "b": torch.zeros(10)}
    masks = best_of_all(scores, 0.5)
    assert [int(mask.sum()) for mask in masks.values()] == [14, 1]
    assert masks["a"].flatten().tolist() == [True] * 14 + [False] * 6
    assert all(bool((score == 0).all()) for score in scores.values())


def test_one_layer_may_have_all_but_one_of_the_others() -> None:
    scores = {"small": torch.tensor([1e-9, 2e-9, 3e-9]), "large": torch.arange(1.0, 8.0)}
    masks = best_of_all(scores, 0.2)
    assert masks["small"].tolist() == [False, False, True]
    assert masks["large"].tolist() == [True] * 7


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused_by_name(value: float) -> None:
    scores = {"fine": torch.ones(3), "spoilt": torch.tensor([1.0, value])}
    for call in (lambda: best_of_all(scores, 0.2), lambda: best_of_each(scores, {"fine": 1, "spoilt": 1})):
        with pytest.raises(PruningError, match="'spoilt' cannot be ranked"):
            call()


def test_each_scope_has_its_own_ranking_and_its_own_count() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 6), nn.Linear(6, 5))
    scopes = resolve(model, {"2": 0.5, "all": 0.9})
    scores = {f"{number}.weight": torch.full(model[number].weight.shape, float(number)) for number in range(3)}
    together = keep_best(scopes, scores, "global")
    assert {name: int(mask.sum()) for name, mask in together.items()} == {"2.weight": 15, "0.weight": 1, "1.weight": 12}
    apart = keep_best(scopes, scores, "uniform")
    assert {name: int(mask.sum()) for name, mask in apart.items()} == kept_by_layer(scopes, "uniform")


def test_too_few_weights_for_the_layers_are_found_without_scores() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 6))
    for kind in ("global", "erk"):
        check_counts(resolve(model, 0.98), kind)
        with pytest.raises(PruningError, match=r"keeps 1 of 128 weights, but each of the 2 layers needs one"):
            check_counts(resolve(model, 0.99), kind)
    check_counts(resolve(model, 0.999), "uniform")
