"""A network in training, as something that chooses samples may look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from sartor.curvature import flat_weights, slope_and_curvature
from sartor.data.pool import Pool
from sartor.dist import World
from sartor.scanning import scan
from sartor.seen import Scan


@dataclass(frozen=True, eq=False)
class NetworkView:
    """A network and the pool that it trains on; it is looked at in eval mode and left as it was.

    `look(pool, needs)` makes the scans; `probed` is told how many samples a slope and its curvature were taken of.
    """

    model: nn.Module
    pool: Pool
    look: Callable[[Pool, frozenset[str]], Scan]
    probed: Callable[[int], None] = field(default=lambda samples: None)
    world: World = field(default_factory=World)

    @classmethod
    def of(cls, model: nn.Module, pool: Pool, *, head: str | None = None, precision: str = "auto") -> NetworkView:
        """Look at a network where it is, outside of a recipe: nothing is charged."""

        def look(part: Pool, needs: frozenset[str]) -> Scan:
            return scan(model, part, needs=needs, head=head, precision=precision)

        return cls(model, pool, look)

    def scan(self, rows: Int64[Tensor, "m"], needs: Iterable[str]) -> Scan:
        """Scan some rows, ascending."""
        return self.look(self.pool.only(rows), frozenset(needs))

    def weights(self) -> Float32[Tensor, "p"]:
        """Return a copy of all weights that train, one after the other."""
        return flat_weights(self.model)

    def slope_and_curvature(
        self, rows: Int64[Tensor, "b"], weights: Float[Tensor, "b"], *, generator: torch.Generator
    ) -> tuple[Float32[Tensor, "p"], Float32[Tensor, "p"]]:
        """Return gradient and estimated Hessian diagonal of the mean weighted loss of some rows; see `curvature`."""
        device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
        inputs, targets = self.pool.gather(rows, device=device), self.pool.targets_of(rows).to(device)
        found = slope_and_curvature(self.model, inputs, targets, weights, generator=generator)
        self.probed(len(rows))
        slope, curvature = self.world.broadcast(list(found))
        return slope, curvature
