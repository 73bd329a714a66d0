"""Does a pruned network rank samples as the dense one would, and by which criterion? Beside it: another dense draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from sartor.comparison import load, stopped
from sartor.data.formats import Splits
from sartor.data.pool import Pool
from sartor.errors import ConfigError, check_choice, check_range
from sartor.randomness import derive, generator
from sartor.recipes.dense import Dense
from sartor.recipes.family import arm_folder
from sartor.recipes.forecast import seconds_per_sample
from sartor.recipes.forecaster import model_for
from sartor.recipes.fusing import IMPORTANCES, cut
from sartor.recipes.outcome import Result
from sartor.registry import MODELS, SELECTORS, STUDIES, parse
from sartor.report.wording import seconds
from sartor.scanning import scan
from sartor.studies.agreement import Ranking, agreement, ranking
from sartor.studies.findings import Findings
from sartor.studies.proxy_tables import DENSE, MEASURE, PLAIN, alike, findings, pruned
from sartor.studies.study import GridStudy, OnData

SUPPLIED = frozenset({"logits", "features", "labelled"})
"""What acquisitions can read here."""


@STUDIES.register("proxy-ranking")
@dataclass(frozen=True, kw_only=True)
class ProxyRankingStudy(OnData, GridStudy):
    """How alike pruned, dense and small networks rank what could be labelled, with two dense draws as the noise floor.

    All learn from the same random labels.
    """

    QUICK: ClassVar[Mapping[str, Any]] = {"model": "cnn(width=8)", "seeds": 2, "epochs": 20}

    out: Path = Path("runs/proxy-ranking")
    """Folder of all runs, tables and figures; the same command goes on where it stopped."""
    data: str = "digits"
    """Data set (sartor list datasets), such as few(of=fashion-mnist, samples=20000), or a folder or file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "cnn"
    """Dense network, with options: cnn(width=16)."""
    proxies: tuple[str, ...] = ()
    """Small networks of their own, thrown away after they have chosen; if none are given, those of the model's widths
    that have about as many parameters as a pruned one."""
    sparsities: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    """Shares of channels that pruned networks lack."""
    criteria: tuple[str, ...] = (PLAIN,)
    """What their channels are pruned by before training, within each layer; the first is the one that others stand
    beside. Those that read samples read labelled ones."""
    labels: tuple[float, ...] = (0.1, 0.3)
    """Shares of the training data that have labels, drawn at random; all others are ranked."""
    acquisitions: tuple[str, ...] = ("least-confidence", "entropy", "margin")
    """What ranks: selectors that need no labels."""
    tops: tuple[float, ...] = (0.02, 0.1, 0.3)
    """Shares of the ranked samples that are chosen."""
    seeds: int = 5
    """Number of seeds, 0, 1, ..."""
    epochs: int = 40
    """Epochs of every training."""
    batch_size: int = 32
    """Samples in a mini-batch."""
    lr: float = 0.05
    """Initial learning rate."""

    def check(self) -> None:
        """Raise ConfigError for what no study can be made of."""
        super().check()
        check_range("seeds", self.seeds, 1, math.inf, high_open=True)
        for option in ("sparsities", "labels", "tops"):
            for value in getattr(self, option):
                check_range(option, value, 0, 1, low_open=True, high_open=True)
        for option in ("sparsities", "criteria", "labels", "tops", "acquisitions"):
            if not getattr(self, option):
                raise ConfigError(f"{option} is empty; name at least one.")
        for criterion in self.criteria:
            check_choice("criteria", criterion, IMPORTANCES)
        for spec in self.acquisitions:
            lacking = sorted(SELECTORS.build(spec).needs - SUPPLIED)
            if lacking:
                raise ConfigError(f"{spec} needs {', '.join(lacking)}, which this study does not bring; leave it out.")
        for spec in (self.model, *self.proxies):
            MODELS[parse(spec)[0]]
        self.recipe(self.labels[0], 0)

    def recipe(self, labels: float, seed: int) -> Dense:
        """Make a training on labels that the seed has drawn, whatever the network."""
        options: dict[str, Any] = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "seed": seed}
        options |= {"sampler": "redraw(every=0)", "fraction": labels, "warmup": 0, "holdout": 0.0}
        return Dense(**options, evaluate_every=10**6, probe=0)

    def cells(self) -> list[Labelled]:
        """List every share of labels at every seed."""
        return [Labelled(self, labels, seed) for labels, seed in itertools.product(self.labels, range(self.seeds))]

    def forecast(self) -> str:
        """Say how many trainings there are and about how long they take; a few batches are timed."""
        splits, recipe = load(self.data, self.place), self.recipe(self.labels[0], 0)
        networks = self.cells()[0].networks(splits, splits.train)
        each = sum(seconds_per_sample(recipe, network, splits.train) for network in networks.values())
        passed = sum(self.labels) * len(splits.train) * self.epochs * self.seeds
        shown = seconds(each * passed / self.jobs)
        count = len(networks) * len(self.cells())
        return f"{count} trainings; {self.jobs} at a time about {shown}, passes over what is ranked apart"

    def tables(self, results: Sequence[Mapping[str, Any]]) -> Findings:
        """Tell correlations and overlaps, their distance to the noise floor and to proxies, and what follows."""
        return findings(results, self.acquisitions, self.tops, self.criteria)


@dataclass(frozen=True)
class Labelled:
    """All networks that learn from the same labels, and what they say of the other samples."""

    study: ProxyRankingStudy
    labels: float
    seed: int

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        return f"{self.labels:g} of the labels, seed {self.seed}"

    def run(self) -> dict[str, Any]:
        """Train every network (or read it back), rank with it, and return how alike the rankings are."""
        torch.set_num_threads(1)
        splits, study = load(self.study.data, self.study.place), self.study
        first = self.trained(DENSE, model_for(splits, study.model, self.seed), splits)
        networks = self.networks(splits, splits.train.only(first.subset.rows))
        results = {DENSE: first} | {n: self.trained(n, one, splits) for n, one in networks.items() if n != DENSE}
        ranked = {name: self.rankings(result, splits) for name, result in results.items()}
        rows = []
        for name, result in results.items():
            row: dict[str, Any] = {"network": name, "parameters": size(result.model), "accuracy": result.test_accuracy}
            for key, other in (("measure", MEASURE), ("own", DENSE)):
                row[key] = {spec: agreement(ranked[name][spec], ranked[other][spec]) for spec in study.acquisitions}
            rows.append(row)
        return {"labels": self.labels, "seed": self.seed, "networks": rows}

    def networks(self, splits: Splits, labelled: Pool) -> dict[str, nn.Module]:
        """Make all networks as they begin; the pruned ones are cut out of the dense one, by what has labels."""
        study, seed = self.study, self.seed
        dense = model_for(splits, study.model, seed)
        found = {DENSE: dense, MEASURE: model_for(splits, study.model, derive(seed, MEASURE))}
        for p, criterion in itertools.product(study.sparsities, study.criteria):
            source = generator(seed, "channels")
            made = cut(dense, labelled, p, importance=criterion, scope="local", generator=source)
            found[pruned(p, criterion)] = made.small
        sizes = [size(found[pruned(p, study.criteria[0])]) for p in study.sparsities]
        proxies = study.proxies or of_such_sizes(splits, study.model, sizes)
        return found | {proxy: model_for(splits, proxy, seed) for proxy in proxies}

    def trained(self, name: str, network: nn.Module, splits: Splits) -> Result:
        """Train a network on the labels of the seed, or read it back."""
        study = self.study
        return study.recipe(self.labels, self.seed).fit(
            network,
            splits.train,
            splits.test,
            out=study.out / f"labels-{self.labels:g}" / arm_folder(name) / f"seed-{self.seed}",
            device="cpu",
            augment=splits.augment,
            labels={"arm": name, "data": study.data, "model": study.model},
            stopping=stopped,
        )

    def rankings(self, result: Result, splits: Splits) -> dict[str, Ranking]:
        """Let every acquisition rank all samples that have no label; their labels are not looked at."""
        pool, known = splits.train, result.subset.rows
        selectors = {spec: SELECTORS.build(spec) for spec in self.study.acquisitions}
        needs = frozenset[str]().union(*(selector.needs for selector in selectors.values()))
        rest = pool.only(pool.rows[~torch.isin(pool.rows, known)])
        seen = scan(result.model, rest, needs=needs, labelled=pool.only(known), precision="fp32")
        return {spec: ranking(selector, seen, self.study.tops, self.seed) for spec, selector in selectors.items()}


def size(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def of_such_sizes(splits: Splits, model: str, sizes: Sequence[int]) -> list[str]:
    """Name the network's smaller widths that come nearest to some numbers of parameters, where one is `alike`."""
    name, options = parse(model)
    width = options.get("width", MODELS.options(name).get("width"))
    specs = [written(name, {**options, "width": less}) for less in range(1, width)] if isinstance(width, int) else []
    counts = {spec: size(model_for(splits, spec)) for spec in specs}
    nearest = [min(counts, key=lambda spec: abs(math.log(counts[spec] / wanted))) for wanted in sizes if counts]
    found = [spec for spec, wanted in zip(nearest, sizes) if alike(counts[spec], wanted)]
    return list(dict.fromkeys(found))


def written(name: str, options: Mapping[str, Any]) -> str:
    """Write a name with its options, as `parse` reads it."""
    return f"{name}({', '.join(f'{option}={value!r}' for option, value in options.items())})"
