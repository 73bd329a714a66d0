"""DUAL: the samples that early training is undecided about, and how hard they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sartor.errors import ConfigError, check_range
from sartor.history import WINDOW
from sartor.ranking import top_indices
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget, draw, share_out
from sartor.select.ranked import keep_top
from sartor.select.visits import visited
from sartor.types import Subset

SHARPNESS = 16.0
"""Sum of the two parameters of the beta distribution."""
ANCHORS = 10
"""How many of the highest scores set where the beta distribution lies."""


def beta_parameters(
    scores: Float[Tensor, "n"], probabilities: Float[Tensor, "n"], kept: float, c_d: float
) -> tuple[float, float]:
    """Return a and b of the beta distribution for a share `kept` of the samples (Cho et al. 2025, Sec. 3.3).

    b = 15 (1 - mu) (1 - (1 - kept)^c_d), a = 16 - b; mu is the mean probability of the 10 highest scores. The smaller
    the share, the nearer to 1 the distribution's mean: the easier the samples.
    """
    mean = float(probabilities[top_indices(scores, min(ANCHORS, len(scores)))].mean())
    b = (SHARPNESS - 1) * (1 - mean) * (1 - (1 - kept) ** c_d)
    return SHARPNESS - b, b


def log_weights(
    scores: Float[Tensor, "n"], probabilities: Float[Tensor, "n"], a: float, b: float
) -> Float64[Tensor, "n"]:
    """Return log(score x beta density of the probability), up to a constant; -inf for a score of 0."""
    inside = probabilities.double().clamp(1e-12, 1 - 1e-12)
    return scores.double().log() + (a - 1) * inside.log() + (b - 1) * (-inside).log1p()


def draw_weighted(
    logs: Float64[Tensor, "n"], k: int, members: Int64[Tensor, "m"], *, generator: torch.Generator
) -> Int64[Tensor, "k"]:
    """Return k of the members, drawn one after the other in proportion to exp(logs), without replacement.

    All at once, as the k largest of log weight + Gumbel noise. Members without weight come after all others.
    """
    positive = members[logs[members] > -torch.inf]
    if k > len(positive):
        others = members[logs[members] == -torch.inf]
        return torch.cat([positive, draw(others, k - len(positive), generator=generator)])
    noise = -torch.empty(len(positive), dtype=torch.float64).exponential_(generator=generator).log()
    return positive[top_indices(logs[positive] + noise, k)]


@SELECTORS.register("dual")
@dataclass(frozen=True)
class DUAL:
    """Samples that early training is undecided about (Cho et al. 2025), without weights; reads the history.

    The score is the mean, over all windows of 10 visits, of std(p) (1 - mean(p)), p the probability of the label. With
    `beta` k samples are drawn in proportion to the score and a beta distribution of the mean p, which moves to easy
    samples as k shrinks, the later the larger `c_d`; without it the k highest scores are kept. `balanced` does either
    within each class. Needs 10 visits of every sample.
    """

    least_visits: ClassVar[int] = WINDOW

    beta: bool = True
    c_d: float = 4.0
    balanced: bool = False

    def __post_init__(self) -> None:
        check_range("c_d", self.c_d, 0, float("inf"), low_open=True, high_open=True)
        if not self.beta and self.c_d != DUAL.c_d:
            raise ConfigError("c_d is for beta=True and has no effect with beta=False; leave it out.")

    @property
    def needs(self) -> frozenset[str]:
        """The history, and the targets where classes keep their shares."""
        return frozenset({"history"} | ({"targets"} if self.balanced else set()))

    def scores(self, scan: Scan) -> Float64[Tensor, "n"]:
        """Return the DUAL scores, in [0, 0.35); higher is worth more: undecided, and not easy.

        Raises: SelectionError: for samples that were looked at fewer than 10 times.
        """
        history = visited(scan, WINDOW)
        return history.window_scores / history.windows

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return k rows. Raises: SelectionError: for a k out of reach, samples looked at fewer than 10 times."""
        check_budget(scan, k)
        scores, flops = self.scores(scan), self.arithmetic(len(scan), k, classes=0, features=0)
        if not self.beta:
            targets = scan.targets if self.balanced else None
            return Subset.of(scan.rows[keep_top(scores, k, largest=True, targets=targets)], flops=flops)
        probabilities = scan.history.probabilities
        logs = log_weights(scores, probabilities, *beta_parameters(scores, probabilities, k / len(scan), self.c_d))
        if not self.balanced:
            chosen = draw_weighted(logs, k, torch.arange(len(scan)), generator=generator)
        else:
            chosen = share_out(
                scan.targets, k, lambda members, budget: draw_weighted(logs, budget, members, generator=generator)
            )
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the mean, and of the weights and keys of the draw, 2 per multiply-add."""
        return n * (7.0 if self.beta else 1.0)
