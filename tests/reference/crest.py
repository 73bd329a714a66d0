"""CREST, word for word: Hessians and gradients are built, averages are sums over all that came before."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from reference import craig


def hessian_diagonal_estimate(model, inputs, targets, weights, signs):
    """Return the gradient of the weighted loss and z * (H z), with the whole Hessian built."""
    names, sizes = zip(*((name, p.numel()) for name, p in model.named_parameters()))

    def loss(flat):
        parts = [
            part.view_as(p) for part, p in zip(flat.split(sizes), dict(model.named_parameters()).values(), strict=True)
        ]
        logits = torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (inputs,))
        return (weights * F.cross_entropy(logits, targets, reduction="none")).mean()

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    slope = torch.autograd.functional.jacobian(loss, flat)
    hessian = torch.autograd.functional.hessian(loss, flat)
    return slope, signs * (hessian @ signs), hessian.diagonal()


def averages(slopes, curvatures, first=0.9, second=0.999):
    """Return the averages of slopes, and the roots of the averages of squared curvatures, corrected for their start."""
    count = len(slopes)
    ages = range(count - 1, -1, -1)
    slope = sum((1 - first) * first**age * g for age, g in zip(ages, slopes)) / (1 - first**count)
    squares = sum((1 - second) * second**age * h**2 for age, h in zip(ages, curvatures)) / (1 - second**count)
    return slope, squares**0.5


def relative_error(loss, slope, curvature, before, after, found):
    """Return how far a quadratic is from the loss that is found, as a share of it."""
    step = np.asarray(after) - np.asarray(before)
    predicted = loss + sum(g * d for g, d in zip(slope, step))
    predicted += 0.5 * sum(d * h * d for h, d in zip(curvature, step))
    return abs(predicted - found) / found


def mini_batches(errors, features, order, candidates, sizes):
    """Return rows and cluster sizes of one mini-batch coreset after another.

    `order`: all samples in the order in which random subsets take them; each takes an even share of the first ones.
    """
    wanted = min(len(order), candidates * sum(sizes))
    share, more = divmod(wanted, len(sizes))
    ends = np.cumsum([share + (place < more) for place in range(len(sizes))])
    inputs = np.hstack([features, np.ones((len(features), 1))])
    gradients = np.einsum("ic,id->icd", errors, inputs).reshape(len(errors), -1)
    found = []
    for end, begin, size in zip(ends, [0, *ends], sizes):
        members = list(order[begin:end])
        chosen, clusters = craig.medoids(gradients[members].astype(float), size)
        found.append([(members[place], clusters[number]) for number, place in enumerate(chosen)])
    return found


def left_out(losses_by_look, below):
    """Return who was looked at and never had a loss of `below` or more."""
    seen = {row for look in losses_by_look for row in look}
    return {row for row in seen if all(look.get(row, 0.0) < below for look in losses_by_look)}
