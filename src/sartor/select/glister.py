"""GLISTER: the samples that a step on lowers the loss of the validation samples most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sartor.errors import ConfigError, SelectionError, check_choice, check_range
from sartor.ranking import top_indices
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.budget import check_budget
from sartor.select.greedy import check_eps, sample_size, stochastic_greedy
from sartor.types import Subset

GREEDY = ("greedy", "r-greedy", "stochastic")
R = 15
"""Rounds, unless told otherwise: as CORDS has them."""
EPS = 0.01
"""Default of `eps`: n / k * ln(100) samples are looked at at a time, as in CORDS."""
ROUNDING = 1e-10
"""Gains that differ by less than about this share of the largest possible one are equal."""
BLOCK = 1024
"""Samples that are looked at at once."""
SHARE = 9
"""Samples of the pool for each validation sample, where FLOPs are counted: as if a tenth were held out."""


class ValidationGradient:
    """The gradient of the mean validation loss in the last layer, after a step on the mean loss of those chosen.

    The step moves the logits of a validation sample v by -step * mean_i <[h_i; 1], [h_v; 1]> e_i, over the chosen i. So
    the layer itself need not be known, and what is kept is as large as the logits.
    """

    def __init__(self, validation: Scan, step: float, bias: bool) -> None:
        self.validation, self.step, self.bias = validation, step, bias
        self.pull: Float64[Tensor, "v c"] = torch.zeros(validation.logits.shape, dtype=torch.float64)
        """Of each validation sample, sum_i <[h_i; 1], [h_v; 1]> e_i."""
        self.chosen = 0

    def choose(self, errors: Float32[Tensor, "m c"], features: Float32[Tensor, "m d"]) -> None:
        """Let m more samples be chosen, in O(v m (c + d))."""
        size = float(features.abs().max()) or 1.0  # so that products in float32 do not overflow
        for block in self.validation.blocks(BLOCK):
            with torch.autocast("cpu", enabled=False):
                alike = self.validation.features_of(block) @ (features / size).T
            self.pull[block] += (alike.double() * size + self.bias) @ errors.double()
        self.chosen += len(errors)

    def now(self) -> Float64[Tensor, "c d"]:
        """Return the gradient, a column for each feature and, where there is a bias, one more, in O(v c d)."""
        gradient = torch.zeros(self.pull.shape[1], self.validation.features.shape[1] + self.bias, dtype=torch.float64)
        for block in self.validation.blocks(BLOCK):
            logits, labels = self.validation.logits_of(block), self.validation.targets[block, None]
            errors = torch.sub(logits, self.pull[block], alpha=self.step / max(self.chosen, 1)).softmax(1)
            errors.scatter_add_(1, labels, errors.new_full(labels.shape, -1.0))
            features = self.validation.features_of(block)
            with torch.autocast("cpu", enabled=False):
                gradient[:, : features.shape[1]] += errors.float().T @ features
            gradient[:, features.shape[1] :] += errors.sum(0)[:, None]
        return gradient / len(self.validation)


class TaylorGains:
    """The gains <g_i, g_val> of samples, read a block at a time; g_val moves as samples are chosen."""

    def __init__(self, scan: Scan, step: float) -> None:
        self.scan, self.bias = scan, scan.head_bias
        self.validation = ValidationGradient(scan.validation, step, self.bias)
        self.longest = max(self._longest(block) for block in scan.blocks(BLOCK))
        """The largest norm of a g_i."""

    def __len__(self) -> int:
        return len(self.scan)

    def gains(self, candidates: Int64[Tensor, "m"] | None = None) -> Float64[Tensor, "m"]:
        """Return the gains of some samples, or of all, in O((v + m) c d).

        They are whole numbers of the smallest difference that counts: those equal but for rounding are equal.
        """
        direction, found = self.validation.now(), []
        for index in self.scan.blocks(BLOCK) if candidates is None else candidates.split(BLOCK):
            features = self.scan.features_of(index).double()
            outputs = features @ direction[:, : features.shape[1]].T
            if self.bias:
                outputs += direction[:, -1]
            found.append(outputs.mul_(self.scan.errors(index)).sum(1))
        unit = ROUNDING * self.longest * float(direction.norm())
        return (torch.cat(found) / (unit or 1.0)).round_()

    def choose(self, picks: Int64[Tensor, "m"]) -> None:
        """Let samples be chosen."""
        self.validation.choose(self.scan.errors(picks), self.scan.features_of(picks))

    def add(self, pick: int) -> None:
        """Let a sample be chosen."""
        self.choose(torch.tensor([pick]))

    def _longest(self, block: slice) -> float:
        inputs = self.scan.features_of(block).double().square().sum(1) + self.bias
        return float((self.scan.errors(block).norm(dim=1).double() * inputs.sqrt()).max())


def by_rounds(function: TaylorGains, k: int, rounds: int) -> Int64[Tensor, "k"]:
    """Choose k samples in so many rounds of nearly equal size, or k, if that is fewer: each time those of largest gain.

    The gains are brought up to date after each round; of equal ones the lower position is chosen.
    """
    free, chosen, rounds = torch.ones(len(function), dtype=torch.bool), [], min(rounds, k)
    for place in range(rounds):
        gains = function.gains().masked_fill_(~free, -torch.inf)
        chosen.append(top_indices(gains, k * (place + 1) // rounds - k * place // rounds))
        free[chosen[-1]] = False
        function.choose(chosen[-1])
    return torch.cat(chosen)


@SELECTORS.register("glister")
@dataclass(frozen=True)
class GLISTER:
    """The samples whose gradient steps lower the validation loss most (Killamsetty et al. 2021, Alg. 1); no weights.

    The gain of sample i is <g_i, g_val>, of last-layer gradients: of its loss at the weights as they are, and of the
    mean validation loss after a step on the mean loss of those chosen so far, to first order what i adds.
    `greedy` is "r-greedy", which takes that step after each of `r` rounds, "greedy", which takes it after each sample,
    or "stochastic", which does too, but looks at no more than n / k * ln(1 / eps) samples, drawn at random, at a time.
    `step` is the step's size: "lr", the learning rate of the moment, or a number.
    Differs: a step on the mean, as training does, not on the sum, so that it does not grow with k.
    """

    needs_linear_head: ClassVar[bool] = True

    greedy: str = "r-greedy"
    r: int = R
    eps: float = EPS
    step: str | float = "lr"

    def __post_init__(self) -> None:
        check_choice("greedy", self.greedy, GREEDY)
        check_range("r", self.r, 1, float("inf"), high_open=True)
        check_eps(self.greedy, self.eps, EPS)
        if self.greedy != "r-greedy" and self.r != R:
            raise ConfigError(
                f"r is for greedy='r-greedy' and has no effect with greedy={self.greedy!r}; leave it out."
            )
        if isinstance(self.step, str | bool):
            check_choice("step", self.step, ["lr"])
        else:
            check_range("step", self.step, 0, float("inf"), low_open=True, high_open=True)

    @property
    def needs(self) -> frozenset[str]:
        """Logits, features and targets, a scan of validation samples with these, and the learning rate if it steps."""
        parts = {"logits", "features", "targets", "validation"}
        return frozenset(parts | ({"lr"} if self.step == "lr" else set()))

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the k rows. Raises: SelectionError: for a k out of reach, or a validation scan by another network."""
        check_budget(scan, k)
        _check_validation(scan)
        step = scan.lr if isinstance(self.step, str) else self.step
        function = TaylorGains(scan, step)
        if self.greedy == "stochastic":
            chosen = stochastic_greedy(function, k, eps=self.eps, generator=generator)
        else:
            chosen = by_rounds(function, k, self._rounds(k))
        flops = self.arithmetic(len(scan), k, classes=scan.logits.shape[1], features=scan.features.shape[1])
        return Subset.of(scan.rows[chosen], flops=flops)

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of a selection, 2 per multiply-add, as if there were n / 9 validation samples."""
        looked = k * sample_size(n, k, self.eps) if self.greedy == "stochastic" else n * self._rounds(k)
        gradients = 2.0 * (looked + n / SHARE * self._rounds(k)) * classes * features
        return gradients + 2.0 * n / SHARE * k * (classes + features)

    def _rounds(self, k: int) -> int:
        """Return how often the validation gradient is computed."""
        return min(self.r, k) if self.greedy == "r-greedy" else k


def _check_validation(scan: Scan) -> None:
    """Raise SelectionError where the validation samples have other numbers of classes or features than the pool."""
    for part in ("logits", "features"):
        found, own = getattr(scan.validation, part).shape[1], getattr(scan, part).shape[1]
        if found != own:
            raise SelectionError(
                f"the validation scan has {found} {part} for each sample, the pool {own}; scan both with one network."
            )
