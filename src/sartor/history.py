"""History: what became of every sample while a network trained."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError

WINDOW = 10
"""Visits to a sample whose probabilities make one window (DUAL)."""


class History:
    """Records of each sample of a pool, in the order of `rows`: one visit adds to the sums, nothing grows with time.

    A visit is one look at a sample, with the logits of that moment: those of the mini-batch that it was trained in, or
    of an evaluation after the epoch. All numbers are kept on the CPU: 4 (11 + WINDOW) bytes a sample.
    """

    def __init__(self, rows: Int64[Tensor, "n"]) -> None:
        n = len(rows)
        self.rows = rows.clone()
        self.visits = torch.zeros(n, dtype=torch.int32)
        """How often each sample was looked at."""
        self.forgotten = torch.zeros(n, dtype=torch.int32)
        """Forgetting events: right at one visit and wrong at the next (Toneva et al. 2019, Sec. 3)."""
        self.times_right = torch.zeros(n, dtype=torch.int32)
        """Visits at which the sample was right; 0 for one that was never learnt."""
        self.right = torch.zeros(n, dtype=torch.bool)
        """Whether it was right at its last visit."""
        self.loss = torch.full((n,), torch.nan)
        """Cross-entropy at the last visit; nan before the first."""
        self.margin_sum = torch.zeros(n)
        """Sum over the visits of the label's logit minus the largest other one."""
        self.probability_sum = torch.zeros(n)
        """Sum over the visits of the probability of the label."""
        self.window = torch.zeros(n, WINDOW)
        """Probabilities of the label at the last visits, as a ring."""
        self.window_scores = torch.zeros(n)
        """Sum over the full windows of standard deviation x (1 - mean) of the probability (DUAL)."""

    def __len__(self) -> int:
        return len(self.rows)

    def visit(self, rows: Int64[Tensor, "b"], logits: Float32[Tensor, "b c"], targets: Int64[Tensor, "b"]) -> None:
        """Add a look at some samples, each at most once. Raises: SelectionError: for a row that is not recorded."""
        at = self.positions(rows.cpu())
        logits, targets = logits.detach().float().cpu(), targets.cpu()
        own = logits.gather(1, targets[:, None]).squeeze(1)
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
        log_probability = own - logits.logsumexp(1)
        probability, right = log_probability.exp(), own > others
        self.forgotten[at] += (self.right[at] & ~right).int()
        self.times_right[at] += right.int()
        self.right[at] = right
        self.loss[at] = -log_probability
        self.margin_sum[at] += own - others
        self.probability_sum[at] += probability
        self.window[at, (self.visits[at] % WINDOW).long()] = probability
        self.visits[at] += 1
        if bool((self.visits[at] >= WINDOW).any()):
            full = at[self.visits[at] >= WINDOW]
            windows = self.window[full]
            self.window_scores[full] += windows.std(dim=1, correction=0) * (1 - windows.mean(1))

    @property
    def margins(self) -> Float32[Tensor, "n"]:
        """Mean margin of the visits, the area under the margin (Pleiss et al. 2020, Eq. 2); nan before the first."""
        return self.margin_sum / self.visits

    @property
    def probabilities(self) -> Float32[Tensor, "n"]:
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
        """Return the records of some rows. Raises: SelectionError: for a row that is not recorded."""
        if torch.equal(rows, self.rows):
            return self
        at = self.positions(rows)
        part = History(rows)
        part.load_state_dict({name: value[at] for name, value in self.state_dict().items()})
        return part

    def positions(self, rows: Int64[Tensor, "m"]) -> Int64[Tensor, "m"]:
        """Return the places of rows. Raises: SelectionError: for a row that is not recorded."""
        at = torch.searchsorted(self.rows, rows).clamp(max=len(self) - 1)
        missing = rows[self.rows[at] != rows]
        if len(missing):
            raise SelectionError(f"the history has no records of row {int(missing[0])}; it was made of another pool.")
        return at

    def state_dict(self) -> dict[str, Any]:
        """Return the tables."""
        return vars(self).copy()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the tables back. Raises: ConfigError: where they are not those of a history."""
        if state.keys() != vars(self).keys() or len({len(table) for table in state.values()}) != 1:
            raise ConfigError("these are not the tables of a history; give those that state_dict returned.")
        for name, table in state.items():
            setattr(self, name, table.clone())

    @classmethod
    def from_tables(cls, tables: dict[str, Tensor]) -> Self:
        """Make a history of the tables that `state_dict` returned, read back from a file say."""
        history = cls(tables.get("rows", torch.zeros(0, dtype=torch.int64)))
        history.load_state_dict(tables)
        return history
