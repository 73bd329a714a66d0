"""The optimiser of a recipe, with what normalisation layers may have of their own: learning rate and decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sartor.errors import ConfigError

if TYPE_CHECKING:
    from sartor.recipes.recipe import Recipe

NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalisation
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
FUSED = ("cpu", "cuda")
"""Where torch takes a step of Adam at once. Elsewhere torch chooses."""


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, bias_lr: float = 1.0, decay_norms: bool = True
) -> list[dict[str, Any]]:
    """Divide the trainable parameters into groups of equal learning rate and decay, each in the model's order.

    The shifts (`bias`) of normalisation layers learn at `lr * bias_lr`; their decay is divided by `bias_lr`, so that a
    step of sgd takes the same share from them as from all others. With `decay_norms=False` the shifts and scales of
    normalisation layers do not decay. `initial_lr` is what the schedule takes its shares of.
    """
    shifts, scales = norm_parameters(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        factor = bias_lr if id(parameter) in shifts else 1.0
        decays = decay_norms or id(parameter) not in shifts | scales
        groups.setdefault((lr * factor, weight_decay / factor if decays else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def norm_parameters(model: nn.Module) -> tuple[set[int], set[int]]:
    """Return the identities of the shifts (`bias`) and of the other parameters of all normalisation layers."""
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    shifts = {id(module.bias) for module in norms if getattr(module, "bias", None) is not None}
    return shifts, {id(parameter) for module in norms for parameter in module.parameters(recurse=False)} - shifts


def check_norms(recipe: Recipe, model: nn.Module) -> None:
    """Raise ConfigError for an option of normalisation layers where the model has none that it could reach."""
    shifts, scales = norm_parameters(model)
    if recipe.bias_lr != 1 and not shifts:
        raise ConfigError("bias_lr has no effect: no normalisation layer of the model has a shift; leave it out.")
    if not recipe.decay_norms and not shifts | scales:
        raise ConfigError("decay_norms has no effect: the model has no normalisation layer to learn; leave it out.")


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that the recipe names over all trainable parameters."""
    groups = parameter_groups(
        model,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        bias_lr=recipe.bias_lr,
        decay_norms=recipe.decay_norms,
    )
    if not groups:
        raise ConfigError("the model has no parameter that requires a gradient; there is nothing to train.")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(p.is_floating_point() and p.device.type in FUSED for p in parameters)  # one pass over memory, not ten
    return kind(groups, lr=recipe.lr, fused=fused or None)
