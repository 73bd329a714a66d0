"""What a selector asks of the history of a training before it reads it."""

from __future__ import annotations

from sartor.errors import SelectionError
from sartor.history import History
from sartor.seen import Scan, as_rows, few


def visited(scan: Scan, least: int) -> History:
    """Return the history of a scan's samples.

    Raises: SelectionError: for samples that were looked at fewer than `least` times (names them): nothing is known of
        them, and to rank them at one end or the other would be a guess.
    """
    history = scan.history
    rare = history.visits < least
    if bool(rare.any()):
        found = int(history.visits[rare].min())
        raise SelectionError(
            f"{few(as_rows(history.rows[rare]))} were looked at fewer than {least} times (least: {found}); record "
            f"{least} whole epochs or more before the selection: a longer warm-up, or an evaluation after each epoch."
        )
    return history
