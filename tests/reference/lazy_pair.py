"""A lazy pair, word for word: a small network marks the hardest of each mini-batch, a large one learns from those."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def sgd(model, lr, momentum, weight_decay):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, nesterov=True, weight_decay=weight_decay)


def go_ahead(small, batches, keep, every, **training):
    """`batches`: all mini-batches of all epochs, (inputs, targets). Returns the marks of each."""
    optimizer, marks = sgd(small, **training), []
    small.train()
    for step, (inputs, targets) in enumerate(batches):
        losses = F.cross_entropy(small(inputs), targets, reduction="none")
        ranked = sorted(range(len(targets)), key=lambda i: -losses[i].item())
        hardest = sorted(ranked[: int(keep * len(targets) + 0.5)])
        marks.append(hardest)
        if step % every == 0:
            optimizer.zero_grad()
            losses[hardest].mean().backward()
            optimizer.step()
    return marks


def follow(large, batches, marks, **training):
    optimizer = sgd(large, **training)
    large.train()
    for (inputs, targets), hardest in zip(batches, marks, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(large(inputs[hardest]), targets[hardest]).backward()
        optimizer.step()
