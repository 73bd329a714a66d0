"""GLISTER, word for word: the last layer is a layer, it is stepped, and autograd finds the validation gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy


def validation_gradient(weight, bias, features, targets):
    """Return the gradient of the mean loss in the layer, and in its bias as a last column if there is one."""
    layer = [part.clone().requires_grad_() for part in (weight, bias) if part is not None]
    loss = cross_entropy(features @ layer[0].T + (layer[1] if bias is not None else 0), targets)
    gradients = torch.autograd.grad(loss, layer)
    return torch.cat([part.reshape(len(weight), -1) for part in gradients], dim=1)


def stepped(weight, bias, gradients, step):
    """Return the layer after a step on the mean of some samples' gradients."""
    if len(gradients) == 0:
        return weight, bias
    mean = torch.as_tensor(gradients).mean(0).reshape(len(weight), -1)
    moved = weight - step * mean[:, : weight.shape[1]]
    return moved, None if bias is None else bias - step * mean[:, -1]


def choose(gradients, weight, bias, features, targets, *, step, sizes):
    """Return what is chosen in rounds of these sizes: the largest <g_i, g_val> at the layer stepped on those chosen."""
    chosen = []
    for size in sizes:
        layer = stepped(weight, bias, gradients[chosen], step)
        direction = validation_gradient(*layer, features, targets).numpy().ravel()
        gains = gradients @ direction
        unit = 1e-10 * np.linalg.norm(gradients, axis=1).max() * np.linalg.norm(direction)
        gains = np.round(gains / unit) if unit else gains
        free = [i for i in range(len(gradients)) if i not in chosen]
        chosen += sorted(free, key=lambda i: (-gains[i], i))[:size]
    return chosen
