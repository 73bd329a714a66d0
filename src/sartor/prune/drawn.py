"""Masks that are drawn anew for each pass, from a probability to live for every weight, until they are settled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sartor.errors import PruningError
from sartor.prune.distribution import kept_of
from sartor.prune.keeping import best_of_all
from sartor.prune.masks import Masks
from sartor.prune.scope import Scope
from sartor.prune.simplex import project
from sartor.randomness import derive
from sartor.ranking import largest_remainder

OWN = "drawn: "
"""How the names of what `state_dict` holds besides the masks begin; no parameter's name begins so."""


class DrawnMasks(Masks):
    """Probabilities to live, `scores`, and their optimiser; until `settle` the masks themselves hold every weight.

    The scores stand in one row, float32, parameter by parameter (row-major), all 1 at first. Draws depend on `seed`,
    step and purpose alone, so that all processes draw alike. `state_dict` is all there is to know: masks, scores,
    Adam's moments, step, seed. Each scope has a budget; its `goal` by layer, which nobody knows, is told as even.
    Raises: PruningError: for a scope that would keep fewer weights than it has layers.
    """

    def __init__(self, model: nn.Module, scopes: Iterable[Scope], seed: int) -> None:
        self.scopes = [(tuple(scope.weights), scope.sparsity) for scope in scopes]
        weights = dict(model.named_parameters(remove_duplicate=False))
        goal: dict[str, int] = {}
        for names, sparsity in self.scopes:
            sizes = [weights[name].numel() for name in names]
            kept = largest_remainder(kept_of(sparsity, sum(sizes), layers=len(names)), torch.tensor(sizes))
            goal |= dict(zip(names, kept.tolist()))
        ones = {name: torch.ones_like(weights[name], dtype=torch.bool, requires_grad=False) for name in goal}
        super().__init__(model, ones, goal=goal)
        self.seed, self.step, self.total_steps, self.passed = seed, 0, 1, 0
        self.settled = self.worn = False
        self.scores = nn.Parameter(torch.ones(self.total(), device=self.parameter(self.names[0]).device))
        self.score_optimizer = torch.optim.Adam([self.scores])

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """The scores, until they are settled."""
        return () if self.settled else (self.scores,)

    @property
    def progress(self) -> float:
        """Share of the optimiser steps that are done."""
        return min(1.0, self.step / self.total_steps)

    def density(self) -> float:
        """Return the share of living weights; while masks are drawn, the expected one."""
        return super().density() if self.settled else float(self.scores.detach().mean(dtype=torch.float64))

    def digest(self) -> str:
        """Return the SHA-256 of the masks, and of the scores until they are settled."""
        sha = super().digest()
        if self.settled:
            return sha
        return hashlib.sha256(sha.encode() + self.scores.detach().cpu().numpy().tobytes()).hexdigest()

    def by_name(self, row: Tensor) -> dict[str, Tensor]:
        """Cut a row of numbers, one for each score, into the shapes of the parameters."""
        shapes = {name: self.parameter(name).shape for name in self.names}
        pieces = row.split([shape.numel() for shape in shapes.values()])
        return {name: piece.view(shape) for piece, (name, shape) in zip(pieces, shapes.items())}

    def uniform(self, purpose: str) -> Float[Tensor, "n"]:
        """Draw a number in [0, 1) for each score."""
        self._follow()
        source = torch.Generator(self.scores.device).manual_seed(derive(self.seed, purpose, self.step))
        return torch.rand(len(self.scores), generator=source, device=self.scores.device)

    def draw(self, purpose: str) -> Bool[Tensor, "n"]:
        """Draw a mask: each weight lives with its probability."""
        return self.uniform(purpose) < self.scores.detach()

    def exact(self, drawn: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """Return the mask with as many weights as the scopes keep: the likeliest are added, or the unlikeliest go.

        Of equal scores, the earlier one lives. The best weight of each layer always does.
        """
        ranks, kept = self.by_name(drawn.double() * 2 + self.scores.detach()), []
        for names, sparsity in self.scopes:
            best = best_of_all({name: ranks[name] for name in names}, sparsity)
            kept += [best[name].reshape(-1) for name in names]
        return torch.cat(kept)

    def spend(self, remaining: float) -> None:
        """Project the scores of each scope; `remaining` falls from 1, a budget for all weights, to 0, the final one."""
        row = self.scores.detach()
        for names, sparsity in self.scopes:
            size = sum(self.parameter(name).numel() for name in names)
            kept, part, row = kept_of(sparsity, size), row[:size], row[size:]
            project(part, kept + (size - kept) * remaining)

    @contextmanager
    def wear(self, sample: Float[Tensor, "n"] | Bool[Tensor, "n"]) -> Iterator[dict[str, Tensor]]:
        """Put w * m in the place of the weights w for as long as the block lasts; yields w by name."""
        weights = {name: self.parameter(name).data for name in self.names}
        self.worn = True
        try:
            for name, mask in self.by_name(sample).items():
                weight = weights[name]
                self.parameter(name).data = torch.mul(weight, mask.to(weight), out=torch.empty_like(weight))
            torch.clear_autocast_cache()  # which holds the weights of the pass before
            yield weights
        finally:
            for name, weight in weights.items():
                self.parameter(name).data = weight
            torch.clear_autocast_cache()
            self.worn = False

    def turn(self, weights: Mapping[str, Tensor], sample: Float[Tensor, "n"], slope: Float[Tensor, "n"]) -> None:
        """Turn the gradients of w * m, which are there now, into those of w; add the scores' own to theirs.

        `slope`, dm/ds, is used up. Raises: PruningError: if there are no gradients.
        """
        if all(self.parameter(name).grad is None for name in self.names):
            raise PruningError("no gradient came inside of pruner.forward; call backward inside of its block, too.")
        rises = self.by_name(slope)
        for name, mask in self.by_name(sample).items():
            gradient = self.parameter(name).grad
            if gradient is None:
                rises[name].zero_()
            else:
                rises[name].mul_(gradient.to(slope.device)).mul_(weights[name].to(slope.device))
                self.parameter(name).grad = gradient * mask.to(gradient)
        self.scores.grad = slope if self.scores.grad is None else self.scores.grad.add_(slope)

    def settle(self, mask: Bool[Tensor, "n"]) -> None:
        """Enforce a mask from now on, and let go of the scores."""
        for name, part in self.by_name(mask).items():
            self.move(name, part)
        self._let_go()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the masks and, until they are settled, what they are drawn from; all copies are on the CPU."""
        state = super().state_dict()
        if not self.settled:
            clock = torch.tensor([self.step, self.total_steps, self.seed])
            own = {"scores": self.scores, "clock": clock, **self.score_optimizer.state.get(self.scores, {})}
            state |= {OWN + name: value.detach().cpu().clone() for name, value in own.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned; masks alone are settled ones.

        Raises: PruningError: if names or shapes differ from the present ones; nothing is changed then.
        """
        super().load_state_dict({name: mask for name, mask in state.items() if not name.startswith(OWN)})
        own = {name.removeprefix(OWN): value.clone() for name, value in state.items() if name.startswith(OWN)}
        if not own:
            self._let_go()
            return
        self.settled = False
        self.step, self.total_steps, self.seed = own.pop("clock").tolist()
        self.scores.data = own.pop("scores")
        self.score_optimizer.state[self.scores] = own
        self._follow()

    def _let_go(self) -> None:
        self.settled = True
        self.scores.grad = None
        self.score_optimizer.state.clear()

    def _follow(self) -> None:
        """Bring scores and moments to the device of the weights."""
        device = self.parameter(self.names[0]).device
        if self.scores.device != device:
            self.scores.data = self.scores.data.to(device)
            slots = self.score_optimizer.state.get(self.scores, {})
            slots |= {name: value.to(device) for name, value in slots.items() if value.dim()}
