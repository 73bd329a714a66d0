"""Makes torchvision's networks importable beside a torch for which its compiled operators were not built."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import torch

_SCHEMAS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []
"""Definitions end with the object that made them, so it is kept."""


def prepare_torchvision() -> None:
    """Let `import torchvision`, and what imports it, succeed where its operators cannot be loaded.

    The default wheel is built for CUDA and cannot be loaded beside a torch for the CPU; it then fails at import, for
    it describes operators that are not there. Only in that case the two are declared, without a body, and a warning
    says so, once. A build that loads is left as it is, and nothing happens where torchvision is not installed.
    """
    found = None if "torchvision" in sys.modules else importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    reason = _why_not_loaded(Path(found.origin).parent)
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if reason is None or not missing:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(name + _SIGNATURE)
    _kept.append(library)
    warnings.warn(
        f"torchvision's compiled operators do not fit this torch ({reason}); its networks work, torchvision.ops and "
        "its image reader do not. Install the torchvision that belongs to your torch to have them all.",
        stacklevel=2,
    )


def _why_not_loaded(folder: Path) -> str | None:
    """Load the operators as torchvision does; return why that failed, or None."""
    libraries = sorted(path for path in folder.glob("_C*") if path.suffix in (".so", ".pyd", ".dylib"))
    if not libraries:
        return "there are none"
    try:
        torch.ops.load_library(libraries[0])
    except OSError as error:
        return str(error.__cause__ or error).splitlines()[0]
    return None
