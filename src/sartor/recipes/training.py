"""Named sets of training options: what `--training strong` and `SWaST.strong(...)` stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.errors import check_choice

TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "strong": {
        "schedule": "one-cycle",
        "lr": 0.4,
        "label_smoothing": 0.1,
        "augment": "auto+alternate",
    },
}
"""Options by name, for batches of 128 and 10 to 40 epochs; `paper` are the defaults, those of SWaST (Sec. 4.1).

They are values and no mode: options that are given replace them, and a run's configuration holds what came of it.
"""


def training_options(name: str) -> dict[str, Any]:
    """Return the options of a named training. Raises: ConfigError: for an unknown name, nearest one suggested."""
    check_choice("training", name, TRAININGS)
    return dict(TRAININGS[name])
