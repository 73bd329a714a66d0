"""SNIP, GraSP and SynFlow from their definitions: a multiplier of every weight, the whole Hessian, sums over paths."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def literal_snip(model: nn.Module, names: list[str], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """|dL / dc| at c = 1, where each weight is multiplied by its own c."""
    multipliers = {name: torch.ones_like(model.get_parameter(name)).requires_grad_() for name in names}
    weights = {name: model.get_parameter(name).detach() * c for name, c in multipliers.items()}
    logits = torch.func.functional_call(model, weights, inputs)
    found = torch.autograd.grad(nn.functional.cross_entropy(logits, targets), list(multipliers.values()))
    return {name: gradient.abs() for name, gradient in zip(names, found)}


def literal_grasp(
    model: nn.Module, names: list[str], inputs: Tensor, targets: Tensor, temperature: float
) -> dict[str, Tensor]:
    """w (H g), with the Hessian H written out in full."""
    shapes = [model.get_parameter(name).shape for name in names]
    row = torch.cat([model.get_parameter(name).detach().flatten() for name in names])

    def loss(values: Tensor) -> Tensor:
        parts = values.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes)}
        logits = torch.func.functional_call(model, weights, inputs)
        return nn.functional.cross_entropy(logits / temperature, targets)

    gradient = torch.autograd.functional.jacobian(loss, row)
    scores = row * (torch.autograd.functional.hessian(loss, row) @ gradient)
    parts = scores.split([shape.numel() for shape in shapes])
    return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes)}


def literal_flow(layers: list[tuple[list[list[float]], list[float]]]) -> list[list[list[float]]]:
    """The flow through each weight of a network of Linear layers with ReLU, and that of every bias along with it.

    What reaches a unit is the sum over what its inputs carry; what leaves it, the sum over all ways to the outputs.
    """
    reach = [[1.0] * len(layers[0][0][0])]
    for weight, bias in layers:
        reach.append([abs(b) + sum(abs(w) * a for w, a in zip(row, reach[-1])) for row, b in zip(weight, bias)])
    leave = [[1.0] * len(layers[-1][0])]
    for weight, _ in reversed(layers[1:]):
        leave.insert(0, [sum(abs(row[j]) * out for row, out in zip(weight, leave[0])) for j in range(len(weight[0]))])
    return [
        [[leave[number][i] * abs(w) * reach[number][j] for j, w in enumerate(row)] for i, row in enumerate(weight)]
        for number, (weight, _) in enumerate(layers)
    ]


def literal_synflow(
    layers: list[tuple[list[list[float]], list[float]]], density: float, rounds: int
) -> list[list[list[bool]]]:
    """Keep the highest flows of all layers together, fewer from round to round; the best of each layer stays."""
    total = sum(len(row) for weight, _ in layers for row in weight)
    layers = [([list(row) for row in weight], list(bias)) for weight, bias in layers]
    alive = [[[True] * len(row) for row in weight] for weight, _ in layers]
    for number in range(1, rounds + 1):
        kept = int((density ** (number / rounds)) * total + 0.5)
        flows = literal_flow(layers)
        ranked = sorted(
            (-flows[k][i][j], k, i, j)
            for k, (weight, _) in enumerate(layers)
            for i, row in enumerate(weight)
            for j in range(len(row))
            if alive[k][i][j]
        )
        first = [next(entry for entry in ranked if entry[1] == k) for k in range(len(layers))]
        chosen = set(first) | set([entry for entry in ranked if entry not in first][: kept - len(first)])
        for entry in ranked:
            if entry not in chosen:
                _, k, i, j = entry
                alive[k][i][j] = False
                layers[k][0][i][j] = 0.0
    return alive
