"""The file of a plan: JSON with a sum of its own, so that a damaged one is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sartor.errors import PruningError, SartorError
from sartor.files import read_object, sha256
from sartor.prune.channels.coupling import Coupling

FORMAT = 1
"""What a file says of its own form; a later one that reads otherwise counts up."""


def written(coupling: Coupling, units: Tensor, attributes: Mapping[str, Any], about: Sequence[Any]) -> str:
    """Return the text of a plan's file; equal index lists are written once."""
    lists: dict[bytes, int] = {}
    texts, axes = [], []
    for (name, dim), places in coupling.axes.items():
        key = places.numpy().tobytes()
        if key not in lists:
            lists[key] = len(lists)
            texts.append(places.tolist())
        axis = (name, dim)
        axes.append([name, dim, lists[key], axis in coupling.read, axis in coupling.made])
    content = {
        "format": FORMAT,
        "about": [dict(step) for step in about],
        "groups": [[name, size] for name, size in zip(coupling.names, coupling.sizes, strict=True)],
        "kept": units.tolist(),
        "attributes": {name: dict(values) for name, values in attributes.items()},
        "shapes": coupling.shapes,
        "axes": axes,
        "units": texts,
    }
    return json.dumps({"sha256": _sum(content), **content}, allow_nan=False) + "\n"


def read(path: Path) -> tuple[Coupling, Tensor, dict[str, dict[str, int]], tuple[dict[str, Any], ...]]:
    """Return what a plan's file holds. Raises: PruningError: for a file that is missing, damaged, or no plan."""
    if not path.is_file():
        raise PruningError(f"there is no plan {str(path)!r}; plan.save(path) writes one.")
    try:
        content = read_object(path)
    except SartorError as error:
        raise PruningError(
            f"{path} is no plan, or a damaged one ({error.__cause__ or error}); save it anew."
        ) from error
    if content.get("format") != FORMAT:
        found = content.get("format", "none")
        raise PruningError(f"{path} is no plan of format {FORMAT} (its format: {found}); save it anew.")
    if content.pop("sha256", None) != _sum(content):
        raise PruningError(f"{path} was changed since it was saved, or damaged; save it anew.")
    names, sizes = zip(*content["groups"], strict=True)
    units = [torch.tensor(places) for places in content["units"]]
    coupling = Coupling(
        {name: tuple(shape) for name, shape in content["shapes"].items()},
        {(name, dim): units[number] for name, dim, number, _, _ in content["axes"]},
        frozenset((name, dim) for name, dim, _, reads, _ in content["axes"] if reads),
        frozenset((name, dim) for name, dim, _, _, makes in content["axes"] if makes),
        tuple(sizes),
        tuple(names),
    )
    return coupling, torch.tensor(content["kept"]), content["attributes"], tuple(content["about"])


def _sum(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps({key: value for key, value in content.items() if key != "sha256"}, sort_keys=True))
