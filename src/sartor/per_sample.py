"""Gradients of single samples in all weights of a network, of which only the norms are kept."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from sartor.errors import SelectionError
from sartor.types import Inputs

ROOM = 2**28
"""Bytes that the gradients of the samples at work may take: as many samples at once as fit, one at least."""


def gradient_norms(model: nn.Module, inputs: Inputs, targets: Int64[Tensor, "b"]) -> Float32[Tensor, "b"]:
    """Return the Euclidean norm of each sample's cross-entropy gradient in all weights that train.

    The model is run as it is, so call it in eval mode. Memory: about 256 MiB, or one gradient if that is more.
    Raises: SelectionError: for a model that cannot be differentiated sample by sample (torch.func).
    Source: Paul et al. 2021, Definition 2.2 (one network).
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise SelectionError("no weight of the network trains, so it has no gradients; set requires_grad.")
    rest = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    rest |= {name: buffer.detach() for name, buffer in model.named_buffers()}
    arguments, named = (inputs,) if isinstance(inputs, Tensor) else inputs, {}
    if isinstance(inputs, dict):
        arguments, named = (), inputs

    def loss(own: dict[str, Tensor], target: Tensor, args: Any, kwargs: Any) -> Tensor:
        one = [arg[None] for arg in args], {key: value[None] for key, value in kwargs.items()}
        logits = torch.func.functional_call(model, {**rest, **own}, tuple(one[0]), one[1])
        return F.cross_entropy(logits.float(), target[None])

    size = max(1, ROOM // (4 * sum(p.numel() for p in weights.values())))
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0), randomness="error")
    norms = torch.empty(len(targets))
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        args, kwargs = tuple(arg[part] for arg in arguments), {key: value[part] for key, value in named.items()}
        try:
            gradients = each(weights, targets[part], args, kwargs)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise SelectionError(
                f"{type(model).__name__} cannot be differentiated sample by sample ({reason}); use grand(layers=last)."
            ) from error
        squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
        norms[part] = torch.stack(squares).sum(0).sqrt().cpu()
    return norms
