"""One thing that a report has found, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One sentence and what it is about; `tabled` where a table of differences says the same."""

    topic: str
    text: str
    tabled: bool = False
