"""What one run chose, kept for another one: its coresets and its masks, and networks as they were at selections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sartor.comparison import load
from sartor.errors import ConfigError, SartorError, SelectionError
from sartor.files import make_folder, read_json, write_atomic
from sartor.prune.base import BasePruner
from sartor.prune.masks import Masks
from sartor.prune.rewiring import Rewiring
from sartor.randomness import generator as drawing
from sartor.recipes.outcome import state_of, subset_file
from sartor.registry import PRUNERS
from sartor.seen import Scan
from sartor.types import Subset

MOVES, SEEN = "moves", "seen"
"""Folders, within that of a run, of its masks from each move on, and of its network at each selection."""


class Following:
    """A pruner whose masks move (RigL, SET), but for what is said here: the same pruner."""

    def __init__(self, pruner: Rewiring, folder: str) -> None:
        self.pruner, self.folder = pruner, Path(folder)

    def __getattr__(self, name: str) -> Any:
        """Look up all else where it is."""
        return getattr(self.__dict__["pruner"], name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pruner!r}, {str(self.folder)!r})"

    def place(self, step: int) -> Path:
        """Return the file of the masks from a step on."""
        return self.folder / MOVES / f"step-{step:06d}.safetensors"


class Followed(Following):
    """Keeps its masks in a folder, as they are from the first step on and from every move on."""

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Move the masks as the pruner does, and keep them."""
        done = self.pruner.update(masks, step=step, total_steps=total_steps)
        if step == 0 or self.pruner.moves(step, total_steps):
            make_folder(self.place(step).parent)
            write_atomic(self.place(step), save({name: mask.contiguous() for name, mask in masks.state_dict().items()}))
        return done


class Replayed(Following):
    """Begins with the masks of another run, of seed `seed`, and moves them as they moved there."""

    needs_gradient: ClassVar[bool] = False

    def __init__(self, pruner: Rewiring, folder: str, seed: int) -> None:
        super().__init__(pruner, folder)
        self.seed = seed

    def init(self, model: nn.Module, **given: Any) -> Masks:
        """Draw the other run's first masks on this run's weights."""
        return self.pruner.init(model, **{**given, "generator": drawing(self.seed, "masks")})

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        """Take the other run's masks where it moved them. Raises: SartorError: for a move that it did not keep."""
        if not self.pruner.moves(step, total_steps):
            return True
        try:
            kept = load_file(self.place(step))
        except OSError as error:
            raise SartorError(
                f"{self.place(step)} cannot be read ({error}); delete {self.folder} and give the same command again."
            ) from error
        changed = [name for name in masks.names if not torch.equal(masks[name].cpu(), kept[name])]
        for name in changed:
            masks.move(name, kept[name])
        return self.pruner.step_after_update or not changed


def followed(*, of: str, folder: str, sparsity: float | Mapping[str, float]) -> Followed:
    """Make a pruner that keeps its masks; `of` names it."""
    return Followed(moving(of, sparsity), folder)


def replayed(*, of: str, folder: str, seed: int, sparsity: float | Mapping[str, float]) -> Replayed:
    """Make a pruner that takes the masks kept in a run's folder; `of` names the pruner that made them."""
    return Replayed(moving(of, sparsity), folder, seed)


@dataclass(frozen=True)
class Left(BasePruner):
    """The masks that another run has left in its folder, from the first step to the last."""

    folder: str

    def init(self, model: nn.Module, **given: Any) -> Masks:
        """Read the masks and set dead weights to zero."""
        masks = Masks(model, load_file(Path(self.folder) / "masks.safetensors"))
        masks.apply()
        return masks


def left(*, folder: str, sparsity: float | Mapping[str, float]) -> Left:
    """Make a pruner of the masks in a run's folder, which are as sparse as they are."""
    return Left(folder)


def moving(spec: str, sparsity: float | Mapping[str, float]) -> Rewiring:
    """Make a pruner. Raises: ConfigError: for one whose masks cannot be followed."""
    pruner = PRUNERS.build(spec, sparsity=sparsity)
    if not isinstance(pruner, Rewiring):
        raise ConfigError(
            f"pruner is {spec!r}; masks can be followed of rigl and set, for these move weight by weight."
        )
    return pruner


@dataclass(frozen=True)
class Coresets:
    """Selects what another run selected before the same epoch, weights included; `epochs` are those of both runs.

    `data` and `root` name the data, whose ids the other run's files hold. It looks at no sample.
    """

    folder: str
    epochs: int
    data: str
    root: str | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"progress"})

    def select(self, scan: Scan, k: int, *, generator: torch.Generator) -> Subset:
        """Return the other run's subset. Raises: SelectionError: where it has another size, or samples not here."""
        epoch = round(scan.progress * self.epochs) - 1
        file = Path(self.folder) / subset_file(epoch)
        if not file.exists():
            raise SelectionError(f"{file} is missing: {self.folder} chose nothing then; it must have the same epochs.")
        found = read_json(file)
        places = {name: row for row, name in enumerate(load(self.data, self.root).train.ids)}
        rows = torch.tensor([places.get(name, -1) for name in found["ids"]])
        strange = int((~torch.isin(rows, scan.rows)).sum())
        if len(rows) != k or strange:
            raise SelectionError(
                f"{file} has {len(rows)} samples, {strange} of them not among these {len(scan)}; wanted are {k} of "
                "these. Both runs need the same data, hold-out and fraction."
            )
        return Subset(rows, torch.tensor(found["weights"]), found["scale"])


def spec_of(factory: Callable[..., Any], **options: Any) -> str:
    """Name one of this file's methods with its options, as options of a recipe do."""
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"{factory.__module__}:{factory.__name__}({given})"


def keep_network(folder: Path, network: nn.Module, line: Mapping[str, Any]) -> None:
    """Keep a network as it is at a selection: what hears a run's metrics."""
    if line["kind"] == "selection":
        make_folder(folder / SEEN)
        write_atomic(folder / SEEN / f"epoch-{line['epoch']:04d}.safetensors", save(state_of(network)))


def masks_by_step(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Read a run's masks by the step from which they were in force, in order."""
    files = sorted((folder / MOVES).glob("step-*.safetensors"))
    return {int(file.stem.removeprefix("step-")): load_file(file) for file in files}


def network_at(folder: Path, epoch: int) -> dict[str, Tensor]:
    """Read a network as it was at the selection before an epoch."""
    return load_file(folder / SEEN / f"epoch-{epoch:04d}.safetensors")
