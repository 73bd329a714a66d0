"""GraNd: how long a sample's gradient is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from sartor.errors import check_choice
from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.ranked import Ranked

LAYERS = ("last", "all")


def last_layer_norms(scan: Scan, block: slice) -> Float32[Tensor, "b"]:
    """Return |e| sqrt(|h|^2 + 1) of a block: the norm of the gradient e (x) [h; 1], which is never built.

    The 1 only where the Linear has a bias.
    """
    squares = scan.features_of(block).square().sum(1)
    return scan.errors(block).norm(dim=1) * (squares + float(scan.head_bias)).sqrt()


@SELECTORS.register("grand")
@dataclass(frozen=True)
class GraNd(Ranked):
    """The samples with the longest (hardest) or shortest gradient (Paul et al. 2021, Def. 2.2), without weights.

    `layers="last"` is the gradient of the Linear that makes the logits, in closed form from one forward pass; "all"
    that of every weight, sample by sample. `balanced` ranks within each class.
    At initialisation the score does not find what the paper reported (Kirsch 2023): train for some epochs first.
    Differs: the paper averages over ten networks.
    """

    layers: str = "last"
    keep: str = "highest"
    balanced: bool = False

    def __post_init__(self) -> None:
        check_choice("layers", self.layers, LAYERS)
        check_choice("keep", self.keep, ("highest", "lowest"))

    @property
    def parts(self) -> frozenset[str]:  # type: ignore[override]
        """Logits, features and targets, or the norms that a scan computes."""
        return frozenset({"logits", "features", "targets"} if self.layers == "last" else {"gradient_norms"})

    @property
    def needs_linear_head(self) -> bool:
        """The closed form is that of a Linear."""
        return self.layers == "last"

    def scores(self, scan: Scan) -> Float32[Tensor, "n"]:
        """Return the norm of the gradient; higher is harder."""
        if self.layers == "all":
            return scan.gradient_norms
        return torch.cat([last_layer_norms(scan, block) for block in scan.blocks()])

    def arithmetic(self, n: int, k: int, *, classes: int, features: int) -> float:
        """Return the FLOPs of the norms, 2 per multiply-add; those of the gradients of all layers are the scan's."""
        return 2.0 * n * (classes + features) if self.layers == "last" else 0.0
