"""History: what became of every sample while a network trained."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError

WINDOW = 10
"""Visits to a sample whose probabilities make one window (Cho et al. 2025: J)."""


class History:
    """Records of each sample of a pool, rows ascending: one visit adds to the sums, nothing grows with time.

    A visit is one look at a sample, with the logits of that moment: those of the mini-batch that it was trained in, or
    of an evaluation after the epoch. The tables are kept on the CPU, 89 bytes a sample.
    Raises: SelectionError: for rows that are none, or not distinct.
    """

    def __init__(self, rows: Int64[Tensor, "n"]) -> None:
        self.rows = _distinct(rows)
        n = len(self.rows)
        self.visits = torch.zeros(n, dtype=torch.int32)
        """How often each sample was looked at."""
        self.forgotten = torch.zeros(n, dtype=torch.int32)
        """Forgetting events: right at one visit and wrong at the next (Toneva et al. 2019, Sec. 3)."""
        self.times_right = torch.zeros(n, dtype=torch.int32)
        """Visits at which the sample was right; 0 for one that was never learnt."""
        self.right = torch.zeros(n, dtype=torch.bool)
        """Whether its last visit found the label's logit above all others; a draw with another one is wrong."""
        self.loss = torch.full((n,), torch.nan)
        """Cross-entropy at the last visit; nan before the first."""
        self.margin_sum = torch.zeros(n, dtype=torch.float64)
        """Sum over the visits of the label's logit minus the largest other one."""
        self.probability_sum = torch.zeros(n, dtype=torch.float64)
        """Sum over the visits of the probability of the label."""
        self.window = torch.zeros(n, WINDOW)
        """Probabilities of the label at the last visits, as a ring."""
        self.window_scores = torch.zeros(n, dtype=torch.float64)
        """Sum over the full windows of standard deviation (n - 1) x (1 - mean) of the probability (DUAL)."""

    def __len__(self) -> int:
        return len(self.rows)

    def visit(self, rows: Int64[Tensor, "b"], logits: Float[Tensor, "b c"], targets: Int64[Tensor, "b"]) -> None:
        """Add a look at some samples, in any order, each at most once; the tensors may be on any device.

        Raises: SelectionError: for a row that is not recorded or is there twice, or logits that are not finite.
        """
        rows, logits, targets = rows.detach().cpu(), logits.detach().float().cpu(), targets.detach().cpu().long()
        at = self.positions(rows)
        own = logits.gather(1, targets[:, None]).squeeze(1)
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
        margin = own.double() - others
        _check_visit(rows, at, margin)
        log_probability = own - logits.logsumexp(1)
        probability, right = log_probability.exp(), margin > 0
        self.forgotten[at] += self.right[at] & ~right
        self.times_right[at] += right
        self.right[at] = right
        self.loss[at] = -log_probability
        self.margin_sum[at] += margin
        self.probability_sum[at] += probability
        self.window[at, (self.visits[at] % WINDOW).long()] = probability
        self.visits[at] += 1
        if len(full := at[self.visits[at] >= WINDOW]):
            windows = self.window[full].double()
            self.window_scores[full] += windows.std(1) * (1 - windows.mean(1))

    @property
    def margins(self) -> Float64[Tensor, "n"]:
        """Mean margin of the visits, the area under the margin (Pleiss et al. 2020, Eq. 2); nan before the first."""
        return self.margin_sum / self.visits

    @property
    def probabilities(self) -> Float64[Tensor, "n"]:
        """Mean probability of the label over the visits; nan before the first."""
        return self.probability_sum / self.visits

    @property
    def windows(self) -> Int64[Tensor, "n"]:
        """How many windows of WINDOW visits, each beginning one visit later than the last, are in `window_scores`."""
        return (self.visits.long() - WINDOW + 1).clamp(min=0)

    @property
    def seen(self) -> Bool[Tensor, "n"]:
        """Which samples were looked at."""
        return self.visits > 0

    def of(self, rows: Int64[Tensor, "m"]) -> History:
        """Return the records of some rows, ascending. Raises: SelectionError: for a row that is not recorded."""
        if torch.equal(rows, self.rows):
            return self
        part = History(rows)
        at = self.positions(part.rows)
        part.load_state_dict({name: value[at] for name, value in self.state_dict().items()})
        return part

    def positions(self, rows: Int64[Tensor, "m"]) -> Int64[Tensor, "m"]:
        """Return the places of rows. Raises: SelectionError: for a row that is not recorded."""
        at = torch.searchsorted(self.rows, rows).clamp(max=len(self) - 1)
        missing = rows[self.rows[at] != rows]
        if len(missing):
            raise SelectionError(
                f"the history has no records of row {int(missing[0])}; make it of all rows: History(pool.rows)."
            )
        return at

    def state_dict(self) -> dict[str, Any]:
        """Return the tables themselves, by name: copy or save them before the next visit."""
        return vars(self).copy()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take copies of tables. Raises: ConfigError: where they are not those of a history."""
        mine, n = vars(self), len(state.get("rows", ()))
        if state.keys() != mine.keys() or any(
            table.shape != (n, *mine[name].shape[1:]) or table.dtype != mine[name].dtype
            for name, table in state.items()
        ):
            raise ConfigError("these are not the tables of a history; give those that state_dict returned.")
        for name, table in state.items():
            setattr(self, name, table.clone())

    @classmethod
    def from_tables(cls, tables: dict[str, Tensor]) -> Self:
        """Make a history of the tables that `state_dict` returned, read back from a file say."""
        history = cls(tables.get("rows", torch.zeros(1, dtype=torch.int64)))
        history.load_state_dict(tables)
        return history


def _distinct(rows: Tensor) -> Tensor:
    """Return a sorted copy of rows. Raises: SelectionError: for rows that are none, or not distinct."""
    found = torch.as_tensor(rows, dtype=torch.int64).detach().cpu().unique()
    if len(found) == 0 or len(found) < len(rows):
        raise SelectionError(
            f"{len(rows)} rows are given, {len(found)} of them different; give distinct ones, 1 or more."
        )
    return found


def _check_visit(rows: Tensor, at: Tensor, margin: Tensor) -> None:
    """Raise SelectionError for a row that is visited twice at once, or whose logits are not finite."""
    bad = rows[~margin.isfinite()]
    if len(bad):
        raise SelectionError(f"the logits of row {int(bad[0])} are not finite; the network has diverged.")
    ordered = at.sort().values
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        row = int(rows[at == twice[0]][0])
        raise SelectionError(f"row {row} is visited twice in one call; give each visit a call of its own.")
