"""What torchrun tells a process about its companions."""

from __future__ import annotations

import os

from sartor.errors import ConfigError


def launched() -> int:
    """Return how many processes were started together; 1 where torchrun started none."""
    told = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if told else 1


def speaks() -> bool:
    """Tell whether this process is the one that says what all would say."""
    return launched() == 1 or os.environ["RANK"] == "0"


def refuse_company(command: str, cure: str) -> None:
    """Raise ConfigError where torchrun started a command that works alone; the first process says so."""
    if launched() > 1:
        error = ConfigError(f"{command} cannot be started by torchrun; {cure}.")
        error.told = not speaks()
        raise error
