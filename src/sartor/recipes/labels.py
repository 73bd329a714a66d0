"""Who has a label and who has not: what is asked for, round by round, and what of it a selector may see."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Int64
from torch import Tensor

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.ranking import size_of
from sartor.recipes.setup import Data


def read_budgets(text: str, n: int | None = None, option: str = "budgets") -> list[int] | list[float]:
    """Read `0.02,0.1,0.2` (shares of the pool) or `100,500` (samples): how many labels there are, round by round.

    With the size n of the pool, shares become numbers, floor(share n + 1/2), and all are held against it. `option` is
    what errors call them.
    Raises: ConfigError: for what is no such list, does not grow, starts with none, or is more than the pool has.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    shares = all(0 < value <= 1 for value in values) and any("." in word for word in words)
    counts = all(value >= 1 and value.is_integer() for value in values) and not shares
    if not values or not (shares or counts):
        raise ConfigError(
            f"{option} are {text!r}; give shares of the pool in (0, 1], such as 0.02,0.1,0.2, or whole numbers of "
            "labels, such as 100,500,1000."
        )
    given = values if shares else [int(value) for value in values]
    found = given if n is None else [size_of(value, n) if shares else int(value) for value in given]
    if found[0] <= 0 or any(later <= before for before, later in pairwise(found)):
        of_pool = "" if n is None else f" (of {n} samples: {', '.join(map(str, found))})"
        raise ConfigError(
            f"{option} are {text!r}{of_pool}; each must be more than the one before, the first at least 1."
        )
    if n is not None and found[-1] > n:
        raise ConfigError(f"{option} ask for {found[-1]} labels; the pool has {n} samples. Ask for fewer.")
    return found


class Awaited(SelectionError):
    """Samples were chosen that have no label yet; `ids` are theirs."""

    def __init__(self, ids: list[str], asked: list[str]) -> None:
        super().__init__(f"{len(ids)} samples wait for a label, such as {ids[0]!r}; tell it, then go on.")
        self.ids, self.asked = ids, asked


class Labels:
    """The labels that are known so far. Of all others a view of the pool shows -1, whatever the pool itself holds."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.rows: Int64[Tensor, "k"] = data.train.rows[:0]
        self._shown = self._hidden()

    def tell(self, rows: Int64[Tensor, "m"]) -> None:
        """Add samples whose labels become known.

        Raises: DataError: for one that is known already. Awaited: where nobody has given their labels yet.
        """
        pool = self.data.train
        pool.check_rows(rows)
        missing = rows[pool.targets_of(rows) < 0]
        if len(missing):
            raise Awaited(pool.ids_of(missing), pool.ids_of(rows))
        self._shown.only(torch.cat([self.rows, rows]))  # refuses a row that comes twice
        self.rows = torch.cat([self.rows, rows]).sort().values
        self._shown = self._hidden()

    def known(self) -> Data:
        """Return the data with the labelled samples alone to train on."""
        return replace(self.data, train=self._shown.only(self.rows))

    def unknown(self) -> Data:
        """Return the data with the samples that have no label yet in the place of the training samples."""
        rows = self.data.train.rows
        return replace(self.data, train=self._shown.only(rows[~torch.isin(rows, self.rows)]))

    def _hidden(self) -> Pool:
        """Return the pool with the labels that are known, and -1 for all others."""
        pool = self.data.train
        targets = torch.full((len(pool.ids),), -1, dtype=torch.int64)
        targets[self.rows] = pool.targets_of(self.rows)
        return pool.relabelled(targets, pool.noise)
