"""The track of one run of double-loss: what it dropped together, beside what the next seed's run dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.comparison import load
from sartor.files import read_object, to_json, write_atomic
from sartor.recipes.forecaster import model_for
from sartor.studies.tracking import Trail, losses_together, returns
from sartor.studies.trainings import Cell, check_finished

if TYPE_CHECKING:
    from sartor.studies.double_loss import DoubleLossStudy


@dataclass(frozen=True)
class Track:
    """The samples and weights that one run dropped, held against the same of the next seed's run."""

    study: DoubleLossStudy
    cell: Cell

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"track of {self.cell.title}"

    def run(self) -> dict[str, Any]:
        """Look at what was dropped together (or read it back)."""
        study, cell, next_one = self.study, self.cell, self.study.source(self.cell, swapped=True)
        check_finished((cell, next_one))
        file = cell.folder / f"held-by-seed-{next_one.recipe.seed}-probe-{study.probe}.json"
        if file.exists():
            return read_object(file)
        splits = load(study.data, study.place)
        own, other = (Trail(place, splits.train) for place in (cell.folder, next_one.folder))
        network = model_for(splits, cell.model, cell.recipe.seed)
        found = losses_together(own, other, network, probe=study.probe, seed=cell.recipe.seed) | returns(own)
        write_atomic(file, to_json(found))
        return found
