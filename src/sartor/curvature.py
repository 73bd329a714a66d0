"""The slope and the curvature of a training loss at the weights of a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sartor.errors import SelectionError
from sartor.memory import shortage
from sartor.scanning import forward
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

PROBE = 3
"""What a slope with its curvature costs, in trainings on the same samples: forward 1, backward 2, backward again 6."""


def flat_weights(model: nn.Module) -> Float32[Tensor, "p"]:
    """Return a copy of all weights that train, one after the other, on the CPU."""
    return torch.cat([weight.detach().flatten().float().cpu() for weight in _trained(model)])


def slope_and_curvature(
    model: nn.Module,
    inputs: Inputs,
    targets: Int64[Tensor, "b"],
    weights: Float[Tensor, "b"],
    *,
    generator: torch.Generator,
) -> tuple[Float32[Tensor, "p"], Float32[Tensor, "p"]]:
    """Return the gradient of mean(weights x cross-entropy) and an estimate of its Hessian's diagonal, on the CPU.

    The estimate is z * (H z) with one z of random signs: unbiased, and exact where H is diagonal (Hutchinson 1989; for
    the diagonal: Bekas et al. 2007). In eval mode; the model and its gradients are left as they were.
    Raises: SelectionError: for a model without weights that train, or one that cannot be differentiated twice.
    """
    trained = _trained(model)
    sizes = [weight.numel() for weight in trained]
    drawn = 2.0 * torch.randint(2, (sum(sizes),), generator=generator) - 1
    signs = [part.view_as(weight).to(weight.device) for part, weight in zip(drawn.split(sizes), trained)]
    try:
        with undisturbed(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            losses = F.cross_entropy(forward(model, inputs).float(), targets, reduction="none")
            loss = (losses * weights.to(losses)).mean()
            slope = torch.autograd.grad(loss, trained, create_graph=True, materialize_grads=True)
            along = sum((gradient * sign).sum() for gradient, sign in zip(slope, signs))
            turned = torch.autograd.grad(along, trained, materialize_grads=True)
    except RuntimeError as error:
        if shortage(error) is not None:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise SelectionError(f"{type(model).__name__} cannot be differentiated twice ({reason}).") from error
    return _flat(slope), drawn * _flat(turned)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    found = [weight for weight in model.parameters() if weight.requires_grad]
    if not found:
        raise SelectionError("no weight of the network trains, so its loss has no slope; set requires_grad.")
    return found


def _flat(parts: tuple[Tensor, ...]) -> Float32[Tensor, "p"]:
    return torch.cat([part.detach().flatten().float().cpu() for part in parts])
