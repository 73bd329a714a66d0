"""The best of many weights: masks that keep exactly so many of the highest scores, by layer or over all layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sartor.errors import PruningError
from sartor.prune.distribution import KINDS, kept_counts, kept_of
from sartor.prune.scope import Scope
from sartor.ranking import top_mask

Scores = Mapping[str, Float[Tensor, "..."]]


def kept_by_layer(scopes: Iterable[Scope], distribution: str) -> dict[str, int]:
    """Return how many weights each layer keeps, by a distribution of `KINDS`.

    Raises: PruningError: for a scope with fewer kept weights than layers.
    """
    kept: dict[str, int] = {}
    for _, weights, sparsity in scopes:
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        kept |= kept_counts(shapes, sparsity, distribution)
    return kept


def check_counts(scopes: Iterable[Scope], distribution: str) -> None:
    """Raise PruningError where `keep_best` would, for a scope with fewer kept weights than layers."""
    for scope in scopes:
        if distribution in KINDS:
            kept_by_layer([scope], distribution)
        else:
            kept_of(scope.sparsity, sum(w.numel() for w in scope.weights.values()), layers=len(scope.weights))


def keep_best(scopes: Iterable[Scope], scores: Scores, distribution: str) -> dict[str, Bool[Tensor, "..."]]:
    """Return masks that keep the highest scores, as many as the sparsity of each scope leaves.

    The distributions of `KINDS` give each layer its number; under any other name the layers of a scope are ranked
    together. Raises: PruningError: for scores that are not finite, or a scope with fewer kept weights than layers.
    """
    masks: dict[str, Tensor] = {}
    for scope in scopes:
        mine = {name: scores[name] for name in scope.weights}
        if distribution in KINDS:
            masks |= best_of_each(mine, kept_by_layer([scope], distribution))
        else:
            masks |= best_of_all(mine, scope.sparsity)
    return masks


def best_of_each(scores: Scores, kept: Mapping[str, int]) -> dict[str, Bool[Tensor, "..."]]:
    """Return masks that keep the `kept[name]` highest scores of each layer; of equals, the lower index (row-major)."""
    check_finite(scores)
    return {name: top_mask(score.reshape(-1), kept[name]).reshape(score.shape) for name, score in scores.items()}


def best_of_all(scores: Scores, sparsity: float) -> dict[str, Bool[Tensor, "..."]]:
    """Return masks that keep the highest scores of all layers together; of equals, the earlier layer and lower index.

    floor((1-S) N + 1/2) of all N weights live. The best weight of each layer is always among them, so that no layer is
    cut through. Raises: PruningError: if there are more layers than kept weights, or for scores that are not finite.
    """
    check_finite(scores)
    sizes = [score.numel() for score in scores.values()]
    total = kept_of(sparsity, sum(sizes), layers=len(sizes))
    ranks = torch.cat([score.detach().reshape(-1) for score in scores.values()])
    for part in ranks.split(sizes):
        part[top_mask(part, 1)] = torch.inf
    parts = top_mask(ranks, total).split(sizes)
    return {name: part.reshape(score.shape) for part, (name, score) in zip(parts, scores.items(), strict=True)}


def check_finite(scores: Scores) -> None:
    """Raise PruningError for a score that is infinite or NaN, and so has no rank."""
    for name, score in scores.items():
        if not bool(score.isfinite().all()):
            raise PruningError(
                f"{name!r} cannot be ranked, for its weights or their gradients are not finite; look at the network's "
                "initial weights, or at the samples it was given."
            )
