"""Gradients of single samples in all weights of a network, and their norms."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from sartor.errors import SelectionError
from sartor.memory import shortage
from sartor.types import Inputs

ROOM = 2**28
"""Bytes that the gradients of the samples at work may take: as many samples at once as fit, one at least."""
Weights = dict[str, Tensor]
Given = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""What a module is called with: positional and keyword arguments."""


def gradient_norms(model: nn.Module, inputs: Inputs, targets: Int64[Tensor, "b"]) -> Float32[Tensor, "b"]:
    """Return the Euclidean norm of each sample's cross-entropy gradient in all weights that train.

    See `sample_gradients`, which raises the same errors.
    Source: Paul et al. 2021, Definition 2.2 (one network).
    """
    norms = [torch.empty(0)]
    for gradients in sample_gradients(model, inputs, targets):
        lengths = [torch.linalg.vector_norm(g.flatten(1).float(), dim=1) for g in gradients.values()]
        norms.append(torch.linalg.vector_norm(torch.stack(lengths), dim=0).cpu())
    return torch.cat(norms)


def sample_gradients(model: nn.Module, inputs: Inputs, targets: Int64[Tensor, "b"]) -> Iterator[Weights]:
    """Yield each sample's cross-entropy gradient in all weights that train, some samples at a time: (some, *weight).

    The model is run as it is, so call it in eval mode. Its first sample is run once more, to see that it can be.
    Memory: about 256 MiB, or one gradient if that is more, and the activations.
    Raises: SelectionError: for a model without weights that train, one that returns no table of logits or too few of
        them for the labels, or one that cannot be differentiated sample by sample (torch.func).
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise SelectionError("no weight of the network trains, so it has no gradients; set requires_grad.")
    given: Given = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    size = max(1, ROOM // sum(p.numel() * p.element_size() for p in weights.values()))
    if len(targets):
        with torch.no_grad():
            _check_logits(_logits(model, weights, _part(given, slice(0, 1))), targets)
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        try:
            yield _gradients(model, weights, _part(given, part), targets[part])
        except RuntimeError as error:
            if shortage(error) is not None:
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise SelectionError(
                f"{type(model).__name__} cannot be differentiated sample by sample ({reason}); use grand(layers=last)."
            ) from error


def _gradients(model: nn.Module, weights: Weights, given: Given, targets: Tensor) -> Weights:
    """Return the gradients of each sample's loss, (samples, *weight) for each weight."""

    def loss(own: Weights, target: Tensor, one: Given) -> Tensor:
        return F.cross_entropy(_logits(model, own, _part(one, None)).float(), target[None])

    with warnings.catch_warnings():  # of layers that take longer than they might
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, targets, given)


def _logits(model: nn.Module, weights: Weights, given: Given) -> Any:
    """Call the model with weights in place of its own; what it writes into its buffers is lost."""
    rest = {name: p.detach() for name, p in model.named_parameters() if name not in weights}
    rest |= {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    return torch.func.functional_call(model, {**rest, **weights}, *given)


def _part(given: Given, part: slice | None) -> Given:
    """Return some of the samples; None makes a batch of a sample that has no dimension for it."""
    return tuple(argument[part] for argument in given[0]), {name: value[part] for name, value in given[1].items()}


def _check_logits(logits: Any, targets: Tensor) -> None:
    """Raise SelectionError unless one sample has one row of logits, with one for each label."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise SelectionError(f"the model returns {shape}; a scan needs a tensor of logits, (batch, classes).")
    for label in (int(targets.min()), int(targets.max())):
        if not 0 <= label < logits.shape[1]:
            raise SelectionError(f"a label is {label}; it must lie in [0, {logits.shape[1] - 1}], the model's classes.")
