"""How much each channel is worth: norms of its weights, LAMP, chance, or scores of single weights summed up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from sartor.errors import ConfigError, PruningError, check_choice, nearest
from sartor.prune.channels.coupling import Axis, Coupling

KINDS = ("l2", "group-norm", "lamp", "random")


def worth(
    model: nn.Module,
    coupling: Coupling,
    importance: str | Mapping[str, Tensor],
    generator: torch.Generator | None,
) -> Float64[Tensor, "u"]:
    """Return the importance of each unit; higher means that it rather stays.

    `l2`: the L2 norm of the weights that make it, over all layers that do. `group-norm`: the squares of all weights
    that it would take along, biases excepted, summed in each dimension and averaged over dimensions. `lamp`:
    group-norm over the sum of it and all larger ones of its group. `random`: uniform. A mapping from parameter names
    to scores of their single weights: summed over all that the unit would take along.
    Raises: ConfigError: for an unknown kind, chance without a generator, scores that do not fit or are not finite.
    Source: Li et al. 2017, section 3.1; Fang et al. 2023 (DepGraph), section 3.3; Lee et al. 2021 (LAMP), equation 5.
    Differs: LAMP is of channels, as in structured pruning libraries; the paper scores single weights.
    """
    if isinstance(importance, Mapping):
        return _summed(coupling, importance)
    check_choice("importance", importance, KINDS)
    if importance == "random":
        if generator is None:
            raise ConfigError("importance is 'random', but there is no generator; give generator=torch.Generator().")
        return torch.rand(coupling.units, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    if importance == "l2":
        axes = [axis for axis in coupling.axes if axis in coupling.made]
        return _finite(_mean(coupling, axes, weights)).sqrt()
    axes = [axis for axis in coupling.axes if axis[0] in weights and axis[0].rpartition(".")[2] != "bias"]
    squares = _finite(_mean(coupling, axes, weights))
    return squares if importance == "group-norm" else _over_larger(coupling, squares)


def _mean(coupling: Coupling, axes: list[Axis], weights: Mapping[str, Tensor]) -> Float64[Tensor, "u"]:
    """Return the sum of squares of each unit's weights along each of `axes`, averaged over those that it is on."""
    total, count = torch.zeros(coupling.units, dtype=torch.float64), torch.zeros(coupling.units)
    for axis in axes:
        units = coupling.axes[axis]
        _add(total, units, _along(weights[axis[0]].double().square(), axis[1]))
        count[units[units >= 0].unique()] += 1
    return total / count.clamp(min=1)


def _summed(coupling: Coupling, scores: Mapping[str, Tensor]) -> Float64[Tensor, "u"]:
    total, given = torch.zeros(coupling.units, dtype=torch.float64), torch.zeros(coupling.units, dtype=torch.bool)
    for name, score in scores.items():
        shape = coupling.shapes.get(name)
        if shape is None:
            raise ConfigError(f"there are scores for {name!r}, which is no parameter.{nearest(name, coupling.shapes)}")
        if tuple(score.shape) != shape:
            raise ConfigError(f"the scores for {name!r} have shape {tuple(score.shape)}; they must have {shape}.")
    for axis, units in coupling.axes.items():
        if axis[0] in scores:
            _add(total, units, _along(scores[axis[0]].detach().double(), axis[1]))
            given[units[units >= 0]] = True
    without = [name for name, where in coupling.groups() if not bool(given[where].all())]
    if without:
        raise ConfigError(f"there are no scores for the channels of {without[0]!r}; give those of its weight.")
    return _finite(total)


def _over_larger(coupling: Coupling, squares: Float64[Tensor, "u"]) -> Float64[Tensor, "u"]:
    """Divide each unit's squares by their sum over itself and all larger ones of its group."""
    found = torch.empty_like(squares)
    for _, where in coupling.groups():
        ranked, order = squares[where].sort(stable=True)
        found[where.start + order] = ranked / ranked.flip(0).cumsum(0).flip(0).clamp(min=torch.finfo(ranked.dtype).tiny)
    return found


def _along(tensor: Tensor, dim: int) -> Float64[Tensor, "n"]:
    others = [other for other in range(tensor.ndim) if other != dim]
    return (tensor.sum(others) if others else tensor).cpu()


def _add(total: Tensor, units: Tensor, values: Tensor) -> None:
    total.index_add_(0, units[units >= 0], values[units >= 0])


def _finite(worths: Float64[Tensor, "u"]) -> Float64[Tensor, "u"]:
    if not bool(worths.isfinite().all()):
        raise PruningError("the importance of a channel is not finite; look for nan or infinity in weights or scores.")
    return worths
