"""Which weights are pruned, and how much of each group of them."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sartor.errors import ConfigError, PruningError, check_range, nearest

_KINDS = (nn.modules.conv._ConvNd, nn.Linear)


class Scope(NamedTuple):
    """Weights that share one sparsity, by parameter name."""

    name: str
    weights: dict[str, Tensor]
    sparsity: float


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the model's convolutions and Linear modules by full parameter name, in registration order.

    Never norms, biases or embeddings. A weight that several modules share appears once, under its first name; one that
    is shared with a module of another kind (a tied embedding) is left out, as are weights behind a parametrization.
    Raises: PruningError: for a lazy module that has not seen a batch.
    """
    return {name: weight for name, (_, weight) in _weights(model).items()}


def classifier_name(model: nn.Module) -> str:
    """Return the name of the classifier module: the last Linear in registration order.

    Raises: PruningError: if the model has no Linear.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise PruningError(
            "the model has no Linear module, so 'classifier' and 'backbone' mean nothing in it; "
            "say 'all', a module type such as 'Conv2d', or a pattern of names."
        )
    return names[-1]


def check_sparsity(sparsity: float | Mapping[str, float]) -> dict[str, float]:
    """Return the sparsity by key (a number alone is `{"all": number}`).

    Raises: ConfigError: unless there is at least one key and every value lies in [0, 1).
    """
    by_key = dict(sparsity) if isinstance(sparsity, Mapping) else {"all": sparsity}
    if not by_key:
        raise ConfigError("sparsity is an empty mapping; give a number or at least one key, such as {'backbone': 0.7}.")
    for key, value in by_key.items():
        option = f"sparsity of {key!r}" if isinstance(sparsity, Mapping) else "sparsity"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{option} is {value!r}; it must be a number in [0, 1).")
        check_range(option, value, 0, 1, high_open=True)
    return by_key


def resolve(model: nn.Module, sparsity: float | Mapping[str, float]) -> list[Scope]:
    """Return, for each key of `sparsity`, its weights and its share of weights to remove.

    Keys: `all`, `backbone` (all but the classifier), `classifier`, a module type (`Conv2d`, `Linear`), or a pattern
    (`layer1.*`) of a parameter's, its module's or an enclosing module's name. A weight belongs to the first key that
    matches it; weights that no key matches are not pruned. A number alone means `{"all": number}`.
    Raises: ConfigError: for a sparsity outside [0, 1). PruningError: for a key that gets no weight.
    """
    by_key = check_sparsity(sparsity)
    left = {name: found for name, found in _weights(model).items() if found[1].requires_grad}
    if not left:
        raise PruningError(
            "the model has no weights to prune; only those of convolutions and Linear modules count, "
            "and of those the ones that require a gradient."
        )
    everything, scopes = dict(left), []
    for key, share in by_key.items():
        matched = _matching(model, key, everything)
        mine = [name for name in matched if name in left]
        if not mine:
            raise PruningError(_no_weight(key, matched, everything))
        scopes.append(Scope(key, {name: left.pop(name)[1] for name in mine}, float(share)))
    return scopes


def normalised(model: nn.Module) -> set[str]:
    """Return the prunable weights whose output goes into a normalisation.

    It goes there if the next leaf module in registration order that has parameters or normalises is a norm: a module
    whose type or base type has `Norm` in its name. This follows the order in which the model lists its modules, which
    may differ from the order in which it calls them.
    """
    leaves = [(n, m) for n, m in model.named_modules() if not any(True for _ in m.children())]
    stages = [(n, m) for n, m in leaves if _is_norm(m) or any(True for _ in m.parameters())]
    followed = {name for (name, _), (_, after) in pairwise(stages) if _is_norm(after)}
    return {name for name in _weights(model) if name.rpartition(".")[0] in followed}


def _weights(model: nn.Module) -> dict[str, tuple[nn.Module, Tensor]]:
    others = [m for m in model.modules() if not isinstance(m, _KINDS)]
    seen = {id(parameter) for module in others for parameter in module.parameters(recurse=False)}
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for module_name, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, _KINDS) else None
        if weight is None or id(weight) in seen:
            continue
        name = f"{module_name}.weight" if module_name else "weight"
        if is_lazy(weight):
            raise PruningError(f"{name!r} has no shape yet; run one batch through the model before pruning it.")
        seen.add(id(weight))
        found[name] = (module, weight)
    return found


def _matching(model: nn.Module, key: str, weights: Mapping[str, tuple[nn.Module, Tensor]]) -> list[str]:
    if key == "all":
        return list(weights)
    if key in ("backbone", "classifier"):
        head = model.get_submodule(classifier_name(model)).weight
        return [name for name, (_, weight) in weights.items() if (weight is head) == (key == "classifier")]
    return [name for name, (module, _) in weights.items() if key in _types(module) or _name_fits(name, key)]


def _types(module: nn.Module) -> set[str]:
    return {kind.__name__ for kind in type(module).__mro__ if issubclass(kind, _KINDS)}


def _name_fits(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _is_norm(module: nn.Module) -> bool:
    return not isinstance(module, _KINDS) and any("Norm" in kind.__name__ for kind in type(module).__mro__)


def _no_weight(key: str, matched: list[str], weights: Mapping[str, tuple[nn.Module, Tensor]]) -> str:
    if key == "backbone" and not matched:
        return "sparsity key 'backbone' matches no weight: the classifier is the only layer; say 'classifier' or 'all'."
    if matched:
        return (
            f"sparsity key {key!r} gets no weight, since earlier keys took all that it matches; write it before them."
        )
    kinds = {type(module).__name__ for module, _ in weights.values()}
    names = [name.removesuffix(".weight") for name in weights]
    known = ["all", "backbone", "classifier", *sorted(kinds), *names]
    shown = ", ".join(known[:16]) + (f", ... ({len(known) - 16} more)" if len(known) > 16 else "")
    return f"sparsity key {key!r} matches no weight; allowed: {shown}.{nearest(key, known)}"
