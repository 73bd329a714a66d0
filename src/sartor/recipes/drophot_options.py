"""The options of DropHot: what is chosen by, how it is pruned and tuned, and what goes together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import nn

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError, check_choice, check_effects, check_range
from sartor.randomness import generator
from sartor.ranking import size_of
from sartor.recipes.channel_scores import told_labels
from sartor.recipes.defects import read_defects
from sartor.recipes.fusing import IMPORTANCES, Cut, cut
from sartor.recipes.one_choice import check_k, check_looks
from sartor.recipes.one_shot import NORMALISERS, WAYS, OneShot, Pruned, shares_of
from sartor.recipes.recipe import Recipe
from sartor.recipes.sampled import drawn_epochs
from sartor.recipes.sampling import check_needs, check_network, is_free, names_sampler
from sartor.recipes.setup import Data
from sartor.recipes.state import check_subset
from sartor.recipes.supplies import check_supplies, members_of
from sartor.recipes.timetable import Slot, everything
from sartor.registry import SAMPLERS, SELECTORS
from sartor.types import EpochSampler, Selector

NONE = "none"


@dataclass(frozen=True, kw_only=True)
class DropHotOptions(Recipe):
    """What may be chosen, and what follows from it; the defaults of the training are those of the report."""

    epochs: int = 10
    """Epochs of each training that has no number of its own."""
    score_epochs: int | None = None
    """Epochs on all data of the network by which samples are chosen; if not given, epochs."""
    score_sparsity: float = 0.0
    """Share of the channels that the network which scores is without; at 0 it is the network itself."""
    coreset_epochs: int | None = None
    """Epochs on the coreset of a fresh network; if not given, epochs."""
    tune_epochs: int | None = None
    """Epochs on all data after the pruning; if not given, epochs."""
    batch_size: int = 64
    """Samples in a mini-batch; an epoch is cut evenly into round(k / batch_size) of them."""
    lr: float = 1e-3
    """Initial learning rate; for one-cycle, the highest."""
    schedule: Literal["cosine", "one-cycle", "constant", "steps"] = "constant"
    """How the learning rate moves, in each training anew."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    """Optimiser; it begins each training without memory."""
    weight_decay: float = 0.0
    """Weight decay."""
    augment: Literal["auto", "none", "crop", "flip", "crop+flip", "alternate", "crop+alternate", "auto+alternate"] = (
        "none"
    )
    """Augmentation while training; auto is the data set's own."""
    holdout: float = 0.0
    """Share of the training data cut off first, kept clean, and only watched (validation)."""
    fraction: float = 0.1
    """Share of the training data in the coreset."""
    selector: str = "forgetting"
    """What chooses the coreset, such as forgetting(keep=lowest) or random; none for all data, the baseline; a sampler,
    such as crest, draws others while the fresh network trains."""
    head: str | None = None
    """Name of the classifier, the Linear that makes the logits; if not given, it is found by its output."""
    match: str | None = None
    """Selector whose costs before the pruning this run has as well, by more steps; for none, random and the like."""
    sparsity: float = 0.8
    """Share of weights, or of channels, that are pruned."""
    pruning: Literal["layer", "global", "channels"] = "layer"
    """The smallest weights of each layer, those of all layers ranked together, or whole channels of each group."""
    normaliser: Literal["raw", "mean", "l2"] = "raw"
    """By what magnitudes are divided for global: nothing, the layer's mean, its L2 norm."""
    importance: str = "l2"
    """What a channel is worth, for channels and score_sparsity: l2, group-norm, lamp, random; by samples: snip, grasp,
    synflow."""
    tuning: Literal["masked", "regrow"] = "masked"
    """Whether pruned weights stay zero while the network is tuned, or begin at zero and grow again."""
    reinit: Literal["none", "initial", "fresh"] = "none"
    """Weights with which the tuning begins: what was learnt, those from before all training, or another draw."""
    iterations: int = 1
    """Prunings, each followed by a part of the tune_epochs; each takes the same share of what is left."""
    legacy_defects: str = NONE
    """Defects of the public code to have: scores, batchnorm, masks, with commas between."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        for option in ("score_epochs", "coreset_epochs", "tune_epochs"):
            if getattr(self, option) is not None:
                check_range(option, getattr(self, option), 1, float("inf"), high_open=True)
        check_range("fraction", self.fraction, 0, 1, low_open=True)
        check_range("sparsity", self.sparsity, 0, 1, high_open=True)
        check_range("score_sparsity", self.score_sparsity, 0, 1, high_open=True)
        check_range("iterations", self.iterations, 1, self.tuned)
        check_choice("pruning", self.pruning, WAYS)
        check_choice("normaliser", self.normaliser, NORMALISERS)
        check_choice("importance", self.importance, IMPORTANCES)
        check_choice("tuning", self.tuning, ("masked", "regrow"))
        check_choice("reinit", self.reinit, (NONE, "initial", "fresh"))
        self.check_sampler()
        self.check_defects()
        self.check_combinations()

    def check_sampler(self) -> None:
        """Raise ConfigError for a sampler that draws no coresets of a fraction."""
        sampler = self.make_sampler()
        check_needs(sampler, self.selector)
        if is_free(sampler):
            raise ConfigError(f"{self.selector} settles itself how many samples it takes; name one that takes a share.")

    def check_defects(self) -> None:
        """Raise ConfigError for a defect that there is not, or that has nothing to spoil."""
        spoilt = self.defects
        if "scores" in spoilt and (self.selector.partition("(")[0] != "forgetting" or self.record != NONE):
            raise ConfigError("legacy_defects scores is about selector forgetting, without record; leave it out.")
        if "batchnorm" in spoilt and self.selector != NONE and not self.is_scored:
            raise ConfigError(
                f"legacy_defects batchnorm has no effect: it spoils the baseline and the training that scores, and "
                f"{self.selector} needs none; leave it out."
            )
        if "masks" in spoilt and self.sparsity == 0:
            raise ConfigError("legacy_defects masks has no effect without a sparsity: it drops masks; leave it out.")
        if "masks" in spoilt and self.tuning == "regrow":
            raise ConfigError("legacy_defects masks is what tuning regrow is; give one of them.")

    def check_combinations(self) -> None:
        """Raise ConfigError for options that have no effect beside the others."""
        is_scored = self.is_scored
        if self.match is not None:
            if is_scored:
                raise ConfigError(
                    f"match is for what needs no training to choose; {self.selector} has costs of its own."
                )
            if not trains_to_choose(self.match):
                raise ConfigError(
                    f"match is {self.match!r}; name a selector that needs a training, such as forgetting."
                )
        scored = is_scored or self.match is not None
        without = {
            "a selector": (self.selector != NONE or self.match is not None, ("fraction",)),
            "a selector that needs a training": (scored, ("score_epochs", "score_sparsity", "record")),
            "a score training": (is_scored, ("head",)),
            "pruning global": (self.pruning == "global", ("normaliser",)),
            "pruning channels or score_sparsity": (
                self.pruning == "channels" or self.score_sparsity > 0,
                ("importance",),
            ),
            "a sparsity": (self.sparsity > 0, ("pruning", "tuning", "iterations")),
        }
        check_effects(self, without)
        if self.regrows and self.pruning == "channels":
            raise ConfigError(
                "channels that are pruned are gone and cannot regrow; use tuning masked, or other pruning."
            )

    @property
    def defects(self) -> frozenset[str]:
        """The defects that are on."""
        return read_defects(self.legacy_defects)

    @property
    def regrows(self) -> bool:
        """Whether pruned weights may grow again."""
        return self.tuning == "regrow" or "masks" in self.defects

    @property
    def scored(self) -> int:
        """Epochs of the training that scores."""
        return self.score_epochs or self.epochs

    @property
    def trained(self) -> int:
        """Epochs of the training before the pruning."""
        return self.coreset_epochs or self.epochs

    @property
    def tuned(self) -> int:
        """Epochs after the pruning."""
        return self.tune_epochs or self.epochs

    @property
    def shares(self) -> list[float]:
        """The sparsity after each pruning."""
        return shares_of(self.sparsity, self.iterations)

    @property
    def parts(self) -> list[tuple[int, int]]:
        """The epochs of the tuning that follow each pruning."""
        return list(pairwise(self.tuned * i // self.iterations for i in range(self.iterations + 1)))

    @property
    def one_shot(self) -> OneShot:
        """How weights are pruned."""
        return OneShot(self.pruning, self.normaliser, self.importance)

    def make_selector(self) -> Selector | None:
        """Make what chooses the coreset once; None for all data, or where a sampler draws coresets."""
        return one_choice(self.selector)

    def make_sampler(self) -> EpochSampler | None:
        """Make what draws coresets while the fresh network trains; None where there is but one, or none."""
        return SAMPLERS.build(self.selector) if self.selector != NONE and names_sampler(self.selector) else None

    @property
    def is_scored(self) -> bool:
        """Whether the selector needs a network that was trained, or the history of that training."""
        return trains_to_choose(self.selector)

    @property
    def matched_arm(self) -> Self:
        """The run whose costs before the pruning this one matches."""
        return self.with_options(selector=self.match or NONE, match=None, legacy_defects=NONE)

    @property
    def recording(self) -> str:
        """How the history of the score training is recorded: by mini-batches, where it is read and nothing is asked."""
        selector = self.make_selector()
        reads = selector is not None and "history" in selector.needs
        return "batch" if self.record == NONE and reads else self.record

    def subset_size(self, n: int) -> int:
        """Return how many of n samples the network trains on before the pruning."""
        return n if self.selector == NONE else size_of(self.fraction, n)

    def timetable(self, n: int) -> list[Slot]:
        """All data to score by, the coreset, all data again."""
        scoring = everything(n, self.scored if self.is_scored else 0)
        sampler, k = self.make_sampler(), self.subset_size(n)
        training = everything(k, self.trained) if sampler is None else drawn_epochs(sampler, k, self.trained)
        return [*scoring, *training, *everything(n, self.tuned)]

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse what the selection or the pruning would refuse after a training."""
        check_subset(self.subset_size(len(data.train)), self.fraction, len(data.train))
        super().check_data(model, data)
        if "batchnorm" in self.defects and not any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()
        ):
            raise ConfigError("legacy_defects batchnorm has no effect: the model has no batch norm; leave it out.")
        selector = self.make_selector()
        if selector is not None:
            self.check_selector(selector, model, data)
        check_network(self.make_sampler(), model, data.train)
        self.prunings(model, data.train)

    def check_selector(self, selector: Selector, model: nn.Module, data: Data) -> None:
        """Refuse a selector that would miss something."""
        n = len(data.train)
        k = size_of(self.fraction, n)
        if members_of(selector)[0] == "snapshots":
            raise SelectionError(
                f"{self.selector} needs snapshots of the training, which are not kept; choose another."
            )
        check_looks(selector, self.selector, self.scored, "score_epochs")
        check_k(selector, self.selector, data.train, k, self.fraction)
        if self.is_scored:
            slots, scorer = [*everything(n, self.scored), Slot(k, draws=True)], self.scorer(model, data.train)
            check_supplies(selector, self.selector, scorer, data, slots, head=self.head, scoring=self.scoring)

    def cut(self, model: nn.Module, pool: Pool, drawn: torch.Generator, ledger: Ledger | None = None) -> Cut:
        """Cut the network that scores out of an untrained one; samples that this reads are charged to `ledger`."""
        given: dict[str, Any] = {"importance": self.importance, "scope": "local", "ledger": ledger}
        return cut(model, pool, self.score_sparsity, generator=drawn, **given)

    def scorer(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return an untrained network such as the one that scores, for the counts and for what is refused."""
        if not self.score_sparsity:
            return model
        return self.cut(model, told_labels(pool), generator(self.seed, "scorer")).small

    def prunings(self, model: nn.Module, pool: Pool) -> list[Pruned]:
        """Prune a copy of an untrained network as the trained one will be, for the counts and for what is refused."""
        found: list[Pruned] = []
        for number, share in enumerate(self.shares):
            before = found[-1] if found else None
            given: dict[str, Any] = {
                "generator": generator(self.seed, "prune", number),
                "after": None if before is None else before.plan,
            }
            found.append(self.one_shot(model if before is None else before.model, pool, share, **given))
        return found


def one_choice(spec: str) -> Selector | None:
    """Make the selector that chooses once; None for all data, or where `spec` names a sampler."""
    return None if spec == NONE or names_sampler(spec) else SELECTORS.build(spec)


def trains_to_choose(spec: str) -> bool:
    """Tell whether a selector needs a network that was trained, or the history of that training."""
    selector = one_choice(spec)
    return selector is not None and bool(selector.needs - {"targets"})
