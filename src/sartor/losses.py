"""The losses of the recipes: weighted cross-entropy, state preservation, distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

WEIGHTINGS = ("mean", "batch", "none")
REDUCTIONS = ("mean", "sum")
PRESERVED = ("complete", "selective", "confident", "half")
"""Samples of a coreset whose stored states are held: all, those that were right, the more certain half, any half."""


def weighted_mean(
    losses: Float[Tensor, "b"], weights: Float[Tensor, "b"], weighting: str, *, whole: Float[Tensor, "m"] | None = None
) -> Float[Tensor, ""]:
    """Average per-sample losses under the subset's weights.

    `mean` is (w*l).mean(), unbiased because the weights have mean 1 over the subset; `batch` is sum(w*l)/sum(w)
    within the mini-batch (the form of CORDS); `none` ignores the weights. Where the samples are a part of a mini-batch,
    `whole` are the weights of all of it: what the parts come to adds up to the average.
    """
    whole = weights if whole is None else whole
    if weighting == "none":
        return losses.sum() / whole.numel()
    total = (weights * losses).sum()
    return total / (whole.sum() if weighting == "batch" else whole.numel())


def state_preservation(
    logits: Float[Tensor, "b c"],
    stored: Float[Tensor, "b c"],
    keep: Bool[Tensor, "b"] | None = None,
    *,
    reduction: str = "mean",
    size: int | None = None,
) -> Float[Tensor, ""]:
    """KL( softmax(stored) || softmax(logits) ), the stored distribution first (SWaST, Eq. 3, temperature 1); >= 0.

    `keep` marks the samples that are preserved (all, if None); the others count as 0.
    Differs: Eq. 3 sums over the coreset. `sum` sums over the mini-batch; `mean`, the default, divides by its size, so
    that the balance with the mean cross-entropy does not depend on the batch size. `size` is that of the mini-batch
    where the samples are a part of it.
    """
    divergence = F.kl_div(logits.log_softmax(1), stored.log_softmax(1), reduction="none", log_target=True).sum(1)
    if keep is not None:
        divergence = divergence * keep
    return divergence.sum() if reduction == "sum" else divergence.sum() / (size or divergence.numel())


def distillation(
    losses: Float[Tensor, "b"],
    logits: Float[Tensor, "b c"],
    taught: Float[Tensor, "b c"],
    *,
    weight: float,
    temperature: float,
) -> Float[Tensor, "b"]:
    """Return lambda l + (1 - lambda) T^2 KL( softmax(taught / T) || softmax(logits / T) ) of each sample.

    `losses` are those by the labels, `weight` is their lambda: 1 leaves the teacher out, 0 the labels. T^2 keeps the
    size of the gradients at any temperature T. Source: Hinton et al. 2015, section 2; PruneFuse 2026, section 4.4.
    Differs: PruneFuse names neither T nor the factor.
    """
    told = (taught / temperature).log_softmax(1)
    apart = F.kl_div((logits / temperature).log_softmax(1), told, reduction="none", log_target=True).sum(1)
    return weight * losses + (1 - weight) * temperature**2 * apart


def preserved(
    which: str, logits: Float[Tensor, "k c"], targets: Int64[Tensor, "k"], generator: torch.Generator
) -> Bool[Tensor, "k"] | None:
    """Tell which samples of a coreset hold the network to their stored logits; None for all of them.

    `which` is one of `PRESERVED`; halves are floor(k / 2) samples, the more confident by their highest probability, or
    drawn. Source: SWaST (2025), section 3.3, for complete and selective; the halves are controls of the latter.
    """
    if which == "complete":
        return None
    if which == "selective":
        return correct(logits, targets)
    n = len(logits)
    certain = logits.log_softmax(1).amax(1)
    order = certain.argsort(descending=True, stable=True) if which == "confident" else None
    order = torch.randperm(n, generator=generator) if order is None else order
    return torch.zeros(n, dtype=torch.bool).index_fill_(0, order[: n // 2], True)


def correct(logits: Float[Tensor, "b c"], targets: Int64[Tensor, "b"]) -> Bool[Tensor, "b"]:
    """Tell which samples the logits classify as their targets say."""
    return logits.argmax(1) == targets
