"""What a recipe leaves behind: metrics while it runs, results and files when it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sartor.costs import MONITOR, Ledger
from sartor.data.pool import LabelNoise, Pool
from sartor.digest import digest
from sartor.errors import ResumeError, TrainingError
from sartor.files import read_json, sha256
from sartor.history import History
from sartor.prune.masks import Masks
from sartor.prune.scope import prunable
from sartor.recipes.setup import Data
from sartor.recipes.state import Coreset
from sartor.run import Run
from sartor.train import Trainer
from sartor.types import Subset

HISTORY = "history.safetensors"
STANDS = ("epoch", "settled")
"""Kinds of lines that tell how the network stands; what a later one does not tell, it leaves as it was."""


@dataclass(frozen=True)
class Result:
    """A finished training: the network (the user's own module, in eval mode), its masks, the last subset, metrics."""

    model: nn.Module
    masks: Masks | None
    subset: Subset
    metrics: list[dict[str, Any]]
    results: dict[str, Any]
    history: History | None = None
    """What became of each sample; None where nothing recorded it."""

    @property
    def test_accuracy(self) -> float | None:
        """Share of test samples classified rightly after the last epoch; None without a test set."""
        return self.results["test_accuracy"]


class Watch:
    """Looks at a training without touching it: evaluations, a probe of training samples, the labels of coresets."""

    def __init__(self, trainer: Trainer, data: Data, *, every: int, probe: int) -> None:
        self.trainer = trainer
        self.data = data
        self.every = every
        rows = data.train.rows
        generator = trainer.run.generator("probe")
        drawn = rows[torch.randperm(len(rows), generator=generator)[:probe]].sort().values
        self.probe = data.train.only(drawn) if probe else None

    @property
    def noise(self) -> LabelNoise | None:
        """Which training labels are wrong; None where none were made wrong."""
        return self.data.train.noise

    def follow(self, coreset: Coreset) -> Coreset:
        """Track the coreset; where a run goes on, write its selection once more, for the file may have been damaged."""
        coreset = self.trainer.run.track("coreset", coreset)
        if coreset.drawn >= 0:
            write_subset(self.trainer.run, self.data.train, coreset.drawn, coreset.subset)
        return coreset

    def epoch(self, epoch: int, epochs: int, lr: float) -> None:
        """Log an epoch, with evaluations where they are due."""
        trainer = self.trainer
        measured: dict[str, Any] = {}
        if (epoch + 1) % self.every == 0 or epoch + 1 == epochs:
            measured = self.measure()
        masks = trainer.masks
        trainer.run.log(
            "epoch",
            epoch=epoch,
            lr=lr,
            steps=trainer.meter.steps,
            samples=trainer.meter.samples,
            train_loss=finite(trainer.meter.loss / max(1, trainer.meter.samples)),
            **measured,
            density=1.0 if masks is None else masks.density(),
            flops=trainer.ledger.flops(),
        )

    def settled(self, epochs: int) -> None:
        """Log what has become of the network, after so many epochs, by masks that were settled."""
        trainer = self.trainer
        density = 1.0 if trainer.masks is None else trainer.masks.density()
        trainer.run.log("settled", epoch=epochs - 1, **self.measure(), density=density, flops=trainer.ledger.flops())

    def measure(self) -> dict[str, Any]:
        """Evaluate on the test set, the hold-out and the probe."""
        measured: dict[str, Any] = {}
        for name, pool in (("test", self.data.test), ("validation", self.data.validation)):
            if pool is not None:
                losses, hits = self.trainer.evaluate(pool)
                measured[f"{name}_accuracy"] = float(hits.double().mean())
                measured[f"{name}_loss"] = finite(float(losses.double().mean()))
        if self.probe is not None:
            losses, _ = self.trainer.evaluate(self.probe)
            wrong = torch.zeros(len(losses), dtype=torch.bool)
            if self.noise is not None:
                wrong = self.noise.flags[self.probe.rows]
            measured["loss_clean"] = mean_or_none(losses[~wrong])
            measured["loss_noisy"] = mean_or_none(losses[wrong])
        return measured

    def selection(self, epoch: int, subset: Subset, **told: Any) -> None:
        """Log a selection, with what else is `told`, and write its ids and weights to `subsets/`.

        All processes must have made the same.
        """
        self.trainer.world.same("the subsets", lambda: digest(as_tensors(subset)))
        self.trainer.run.log("selection", **selection_line(self.data.train, epoch, subset), **told)
        write_subset(self.trainer.run, self.data.train, epoch, subset)

    def noise_ratio(self, subset: Subset) -> float | None:
        """Share of the subset's labels that are wrong; None where no label was made wrong."""
        return None if self.noise is None else self.noise.ratio(subset.rows)


def finite(value: float) -> float | None:
    """Return the value, or None where it is no finite number (JSON has no other)."""
    return value if math.isfinite(value) else None


def as_tensors(subset: Subset) -> dict[str, Tensor]:
    """Return what a subset is told by: rows and weights."""
    return {"rows": subset.rows, "weights": subset.weights}


def mean_or_none(values: Tensor) -> float | None:
    """Return the mean; None of an empty or non-finite set."""
    return finite(float(values.double().mean())) if len(values) else None


def density_by_layer(model: nn.Module, masks: Masks | None) -> dict[str, float]:
    """Share of kept weights of each convolution and linear layer, in the order of the network."""
    kept = {} if masks is None else masks.densities()
    return {name: kept.get(name, 1.0) for name in prunable(model)}


def conclude(
    run: Run,
    trainer: Trainer,
    data: Data,
    watch: Watch,
    subset: Subset,
    labels: dict[str, Any],
    beginning: str,
) -> Result:
    """Write the network, the masks, the ledger and, last of all, the results; `beginning`: digest of first weights."""
    model, masks, ledger = trainer.model, trainer.masks, trainer.ledger
    last = {name: value for line in run.metrics if line["kind"] in STANDS for name, value in line.items()}
    refuse_divergence(model, last)
    state = write_network(run, model, masks)
    history = None if trainer.recorder is None else trainer.recorder.history
    if history is not None:
        run.write(HISTORY, save(history.state_dict()))
    run.write("ledger.json", ledger.to_json())
    evaluated = [line for line in run.metrics if "test_accuracy" in line]
    parameters = sum(p.numel() for p in model.parameters())
    drawn = len(subset) < len(data.train)
    results = {
        **labels,
        "n": len(data.train),
        "epochs": last["epoch"] + 1,
        "k": len(subset),
        "steps": trainer.step,
        **{
            name: last.get(name)
            for name in ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss", "train_loss")
        },
        "best_test_accuracy": max((line["test_accuracy"] for line in evaluated), default=None),
        "noise_ratio": watch.noise_ratio(subset) if drawn else None,
        **costs_of(ledger, len(data.train)),
        "full_epoch_flops": 3 * trainer.flops.forward * len(data.train),
        "parameters": parameters,
        "kept_weights": parameters - (0 if masks is None else masks.total() - masks.kept()),
        "density_by_layer": density_by_layer(model, masks),
        "digest": digests(run.once("beginning", lambda: beginning, save=False), state, masks, subset),
    }
    results = run.world.broadcast(results)
    run.finish(results)
    return Result(model.eval(), masks, subset, run.metrics, results, history)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's state on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def write_network(run: Run, model: nn.Module, masks: Masks | None) -> dict[str, Tensor]:
    """Write a trained network and its masks; return its state."""
    state = state_of(model)
    run.write("model.safetensors", save(state))
    if masks is not None:
        run.write("masks.safetensors", save({name: masks[name].cpu().contiguous() for name in masks.names}))
    return state


def digests(beginning: str, state: dict[str, Tensor], masks: Masks | None, subset: Subset) -> dict[str, str | None]:
    """Return what tells whether two runs are the same: of the first weights, the last ones, masks and subset."""
    return {
        "beginning": beginning,
        "weights": digest(state),
        "masks": None if masks is None else masks.digest(),
        "subset": digest(as_tensors(subset)),
    }


def write_subset(run: Run, pool: Pool, epoch: int, subset: Subset) -> None:
    """Write the ids and weights of a selection to `subsets/`."""
    content = {
        "epoch": epoch,
        "scale": subset.scale,
        "ids": pool.ids_of(subset.rows),
        "weights": subset.weights.tolist(),
    }
    run.write(subset_file(epoch), content)


def selection_line(pool: Pool, epoch: int, subset: Subset) -> dict[str, Any]:
    """Return what metrics tell of a selection: its size, its wrong labels, its classes."""
    targets = pool.targets_of(subset.rows)
    return {
        "epoch": epoch,
        "k": len(subset),
        "noise_ratio": None if pool.noise is None else pool.noise.ratio(subset.rows),
        "class_counts": torch.bincount(targets, minlength=pool.classes or 0).tolist(),
    }


def costs_of(ledger: Ledger, n: int) -> dict[str, Any]:
    """Return what results tell of the costs of a run on n samples; what only watched is left out."""
    purposes = {name: costs for name, costs in ledger.by_purpose().items() if name != MONITOR}
    return {
        "flops": ledger.flops(),
        "flops_by_purpose": {name: costs["flops"] for name, costs in purposes.items()},
        "seconds": ledger.seconds(),
        "seconds_by_purpose": {name: costs["seconds"] for name, costs in purposes.items()},
        "samples": {
            name: {"trained": costs["trained"], "forward": costs["forward"]} for name, costs in purposes.items()
        },
        "epoch_equivalents": ledger.epoch_equivalents(n),
    }


def refuse_divergence(model: nn.Module, last: dict[str, Any]) -> None:
    """Raise TrainingError where the last step, whose own loss was finite, left the network useless."""
    bad = [name for name, parameter in model.named_parameters() if not bool(parameter.isfinite().all())]
    if bad:
        raise TrainingError(f"{bad[0]} is not finite after the last step; the training diverged. Lower --lr.")
    blind = [name for name in ("test_loss", "validation_loss") if name in last and last[name] is None]
    if blind:
        raise TrainingError(
            f"{blind[0]} is not finite after the last step, though all weights are: the training diverged, or a sample "
            "there is spoilt. Lower --lr, or look at the samples."
        )


def recall(folder: Path, run: Run, model: nn.Module, data: Data) -> Result:
    """Read a finished run back: the network into `model`, its masks, the subset of the last selection.

    Raises: ResumeError: where they are not those that its results tell.
    """
    selected = last_selection(run)
    nothing: ReadBack = ({}, None, None, None)
    state, kept, chosen, tables = run.world.broadcast(read_back(folder, selected) if run.world.first else nothing)
    model.load_state_dict(state)
    masks = None if kept is None else Masks(model, kept)
    subset = Subset.of(data.train.rows)
    if chosen is not None:
        places = {name: row for row, name in enumerate(data.train.ids)}
        rows = torch.tensor([places[name] for name in chosen["ids"]])
        subset = Subset(rows, torch.tensor(chosen["weights"]), chosen["scale"])
    assert run.results is not None
    found = {"weights": digest(state), "masks": masks and masks.digest(), "subset": digest(as_tensors(subset))}
    wrong = [name for name, value in found.items() if value != run.results["digest"][name]]
    if wrong:
        raise ResumeError(
            f"the {wrong[0]} in {folder} are not those of its results.json; restore them from a copy, or delete "
            "results.json to train again."
        )
    history = None if tables is None else History.from_tables(tables)
    return Result(model.eval(), masks, subset, run.metrics, run.results, history)


def last_selection(run: Run) -> int | None:
    """Return the epoch of the last selection; None where nothing was selected."""
    return next((line["epoch"] for line in reversed(run.metrics) if line["kind"] == "selection"), None)


def subset_file(epoch: int) -> str:
    """Name the file that holds a selection."""
    return f"subsets/epoch-{epoch:04d}.json"


ReadBack = tuple[dict[str, Tensor], dict[str, Tensor] | None, dict[str, Any] | None, dict[str, Tensor] | None]


def read_back(folder: Path, selected: int | None) -> ReadBack:
    """Read a finished run's weights, and, as far as there are such, its masks, its last selection, its history."""
    masks, history = folder / "masks.safetensors", folder / HISTORY
    return (
        load_file(folder / "model.safetensors"),
        load_file(masks) if masks.exists() else None,
        None if selected is None else read_json(folder / subset_file(selected)),
        load_file(history) if history.exists() else None,
    )


def model_summary(model: nn.Module) -> dict[str, str]:
    """Describe a network for a run's configuration: digests of its layers and of the shapes of its weights."""
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in model.state_dict().items()]
    digests = (sha256(repr(told))[:16] for told in (model, shapes))
    return dict(zip(("model", "model_layers", "model_shapes"), (type(model).__name__, *digests), strict=True))


def pool_summary(pool: Pool | None) -> dict[str, Any] | None:
    """Describe a pool for a run's configuration: its size and a fingerprint of its ids, inputs and targets."""
    return None if pool is None else {"size": len(pool), "fingerprint": pool.fingerprint()}
