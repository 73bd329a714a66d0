"""Lets `from sartor.fuse import fuse` work, while `sartor.fuse` is the function itself however it is imported."""

from __future__ import annotations

import sys

from sartor.prune.channels.fusing import fuse

vars(fuse)["fuse"] = fuse
sys.modules[__name__] = fuse  # type: ignore[assignment]  # else this file, once imported, would hide the function
