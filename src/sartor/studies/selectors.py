"""Which selectors beat a random draw, where, and at what cost: one choice each, the same training for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file, save
from torch import nn

from sartor.comparison import Work, fit_fresh, load
from sartor.errors import ConfigError, check_range
from sartor.files import make_folder, read_object, to_json, write_atomic
from sartor.recipes.choosing import choose
from sartor.recipes.dense import Dense
from sartor.recipes.family import arm_folder
from sartor.recipes.finished import read_finished
from sartor.recipes.forecaster import Forecaster, model_for, training_size
from sartor.recipes.outcome import Result
from sartor.recipes.sources import Trained
from sartor.registry import SELECTORS, STUDIES, parse
from sartor.select.coreset_file import as_csv
from sartor.select.from_file import share_for
from sartor.studies.selector_table import as_markdown, lines_as_csv, lines_of
from sartor.studies.study import Files, OnData, Outcomes, Study

DRAWS = {"random": "redraw(every=0)", "redrawn": "redraw(every=1)"}
"""The controls: drawn once, and drawn anew for every epoch."""
SNAPSHOTS = 5
"""How many of the scoring network's last epochs are kept, for selectors that ask several networks."""


@STUDIES.register("selectors")
@dataclass(frozen=True, kw_only=True)
class SelectorStudy(OnData, Study):
    """Every selector chooses once, by one network trained for a few epochs; fresh networks train on the choices."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "model": "cnn(width=4)",
        "seeds": 2,
        "scorer_epochs": 4,
        "fractions": (0.1,),
        "sample_steps": 4000,
    }

    data: str = "digits"
    """Data set (sartor list datasets), or a folder of pictures, a .csv, .jsonl or .npz file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "cnn"
    """Network, with options: cnn(width=16)."""
    out: Path = Path("runs/selectors")
    """Folder of all runs and tables; the same command goes on where it stopped."""
    selectors: tuple[str, ...] = ("el2n", "moderate", "gradmatch")
    """What chooses; random (drawn once) and redrawn are always there."""
    fractions: tuple[float, ...] = (0.1, 0.3)
    """Shares of the training data that are chosen."""
    few: tuple[str, ...] = ()
    """Selectors that are also tried at few_fractions."""
    few_fractions: tuple[float, ...] = (0.01, 0.05)
    """Small shares, for the selectors of `few` and the controls."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong, each a table of its own."""
    seeds: int = 3
    """Number of seeds, 0, 1, ..."""
    scorer_epochs: int = 10
    """Epochs on all data of the network by which selectors choose; its cost is charged to every choice."""
    sample_steps: int = 150_000
    """Samples that every network is trained on, counted with repetition."""
    batch_size: int = 128
    """Samples in a mini-batch."""
    lr: float = 0.05
    """Initial learning rate."""
    holdout: float = 0.1
    """Share of the training data held out, for selectors that look at a validation set."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        for option in ("seeds", "scorer_epochs", "sample_steps", "batch_size", "jobs"):
            check_range(option, getattr(self, option), 1, float("inf"), high_open=True)
        for option in ("fractions", "few_fractions"):
            for value in getattr(self, option):
                check_range(option, value, 0, 1, low_open=True)
        for spec in (*self.selectors, *self.few):
            needs = SELECTORS.build(spec).needs & {"gradients", "labelled"}
            if needs:
                missing = ", ".join(sorted(needs))
                raise ConfigError(f"{spec} needs {missing}, which a study does not bring; leave it out.")
        if parse(self.data)[0] == "" or not self.selectors:
            raise ConfigError("name data and at least one selector.")

    def cells(self) -> list[Cell]:
        """List the runs, those of the largest choices first."""
        plan = [(f, (*DRAWS, *self.selectors)) for f in self.fractions]
        plan += [(f, (*DRAWS, *self.few)) for f in self.few_fractions if self.few]
        return [
            Cell(self, spec, fraction, noise, seed)
            for fraction, specs in sorted(plan, reverse=True)
            for spec in dict.fromkeys(specs)
            for noise in self.noise
            for seed in range(self.seeds)
        ]

    def scorers(self) -> list[Scorer]:
        """List the trainings of the networks that selectors look at."""
        return [Scorer(self, noise, seed) for noise in self.noise for seed in range(self.seeds)]

    def stages(self) -> Mapping[str, Sequence[Work]]:
        """Return the networks to choose by, then the choices with the trainings on them."""
        return {"networks to choose by": self.scorers(), "choices": self.cells()}

    def files(self, outcomes: Outcomes) -> Files:
        """Return every run, and the table as numbers and as text."""
        looked, results = outcomes["networks to choose by"], outcomes["choices"]
        by_place = {(scorer.noise, scorer.seed): found for scorer, found in zip(self.scorers(), looked)}
        lines = lines_of(results, by_place)
        kept = {"format": 1, "options": self.options(), "cells": list(results)}
        return {"results.json": to_json(kept), "results.csv": lines_as_csv(lines), "table.md": as_markdown(lines)}

    def forecast(self) -> str:
        """Say how many runs there are and about how long they take; a few batches are timed."""
        splits = load(self.data, self.place)
        recipe = self.dense(0.0, 0, epochs=self.scorer_epochs)
        seconds = Forecaster(splits, self.model).seconds_per_sample(recipe)
        n, scorers, cells = training_size(splits, recipe), len(self.scorers()), len(self.cells())
        trained = scorers * self.scorer_epochs * n + cells * self.sample_steps
        return (
            f"{scorers} networks to choose by, {cells} trainings; {self.jobs} at a time about "
            f"{seconds * trained / self.jobs:.0f} s, and the choices besides"
        )

    def dense(self, noise: float, seed: int, **options: Any) -> Dense:
        """Make a training; evaluated only at its end."""
        common: dict[str, Any] = {"batch_size": self.batch_size, "lr": self.lr, "holdout": self.holdout, "probe": 0}
        return Dense(**common, noise=noise, seed=seed, evaluate_every=10**6, **options)

    def fit(self, recipe: Dense, folder: Path, **options: Any) -> Result:
        """Train a fresh network in a folder."""
        labels = {"data": self.data, "model": self.model}
        return fit_fresh(recipe, self.data, self.place, self.model, folder, labels=labels, **options)

    def folder_of(self, noise: float, seed: int) -> Path:
        """Return the folder of one noise level and seed."""
        return self.out / f"noise-{noise:g}" / f"seed-{seed}"


@dataclass(frozen=True)
class Scorer:
    """The network by which selectors choose: a few epochs on all data, with the history of every sample."""

    study: SelectorStudy
    noise: float
    seed: int

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.study.folder_of(self.noise, self.seed) / "scorer"

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"network to choose by, noise {self.noise:g}, seed {self.seed}"

    def run(self) -> dict[str, Any]:
        """Train it (or read it back), keeping its last epochs."""
        recipe = self.study.dense(self.noise, self.seed, epochs=self.study.scorer_epochs, record="batch")
        return self.study.fit(recipe, self.folder, listener=self.keep).results

    def keep(self, network: nn.Module, line: dict[str, Any]) -> None:
        """Keep the network at the end of an epoch."""
        if line["kind"] == "epoch" and line["epoch"] >= self.study.scorer_epochs - SNAPSHOTS:
            make_folder(self.folder.parent / "snapshots")
            state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
            write_atomic(self.snapshot(line["epoch"]), save(state))

    def snapshot(self, epoch: int) -> Path:
        """Return the file of the network after an epoch."""
        return self.folder.parent / "snapshots" / f"epoch-{epoch:04d}.safetensors"

    def source(self, spec: str) -> Trained:
        """Return what a selector chooses from."""
        study = self.study
        found = read_finished(self.folder, data=study.data, root=study.place)
        epochs = range(max(0, study.scorer_epochs - SNAPSHOTS), study.scorer_epochs)
        networks = []
        if "members" in SELECTORS.build(spec).needs:
            splits = load(study.data, study.place)
            for epoch in epochs:
                networks.append(model_for(splits, study.model))
                networks[-1].load_state_dict(load_file(self.snapshot(epoch)))
        return Trained(
            found.pools.train,
            {"run": str(self.folder)},
            found.model,
            validation=found.pools.validation,
            history=found.history,
            lr=study.lr,
            progress=1.0,
            committee=tuple(networks),
        )


@dataclass(frozen=True)
class Cell:
    """One choice and the training on it."""

    study: SelectorStudy
    selector: str
    fraction: float
    noise: float
    seed: int

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"{self.selector}, {self.fraction:g} of the data, noise {self.noise:g}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        place = self.study.folder_of(self.noise, self.seed)
        return place / f"fraction-{self.fraction:g}" / arm_folder(self.selector)

    def run(self) -> dict[str, Any]:
        """Choose, train, and return accuracy and costs."""
        costs = {"choose_seconds": 0.0, "choose_flops": 0.0}
        sampler, share = DRAWS.get(self.selector), self.fraction
        if sampler is None:
            costs, k, n = self.choose()
            share = float(share_for(k, n))
            sampler = f"file(path={str(self.folder / 'coreset.csv')!r})"
        steps = round(self.study.sample_steps / self.study.batch_size)
        recipe = self.study.dense(self.noise, self.seed, sampler=sampler, fraction=share, warmup=0, steps=steps)
        results = self.study.fit(recipe, self.folder / "run").results
        told = {name: results[name] for name in ("test_accuracy", "flops", "seconds", "steps", "noise_ratio")}
        return (
            {"selector": self.selector, "fraction": self.fraction, "noise": self.noise, "seed": self.seed}
            | told
            | costs
        )

    def choose(self) -> tuple[dict[str, float], int, int]:
        """Choose the coreset and keep it as a file, or read back what was chosen; return its costs, k and n."""
        csv, described = self.folder / "coreset.csv", self.folder / "choice.json"
        if not (csv.exists() and described.exists()):
            source = Scorer(self.study, self.noise, self.seed).source(self.selector)
            choice = choose(self.selector, source, k=None, fraction=self.fraction, seed=self.seed, heard=lambda _: None)
            make_folder(self.folder)
            write_atomic(
                csv, as_csv(choice.subset, [source.ids[p] for p in choice.chosen.nonzero().squeeze(1).tolist()])
            )
            costs = {"choose_seconds": choice.ledger.seconds(), "choose_flops": choice.ledger.flops()}
            write_atomic(described, to_json(costs | {"k": len(choice.subset), "n": len(choice.rows)}))
        found = read_object(described)
        return {name: float(found[name]) for name in ("choose_seconds", "choose_flops")}, found["k"], found["n"]
