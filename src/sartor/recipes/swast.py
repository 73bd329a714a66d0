"""SWaST: every R epochs select a coreset; in between train on it under an online pruner, held by stored logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar, Literal

from torch import nn

from sartor.errors import ConfigError, SelectionError, check_choice, check_range
from sartor.losses import PRESERVED, REDUCTIONS, preserved
from sartor.ranking import size_of
from sartor.recipes.classifier import check_classifier
from sartor.recipes.masking import check_masks
from sartor.recipes.outcome import Watch
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import Data
from sartor.recipes.state import Coreset, all_of, check_subset
from sartor.recipes.supplies import Snapshots, check_supplies, follow_snapshots, look, looks_of, parts_scanned
from sartor.recipes.timetable import TIMINGS, Looks, Slot, default_warmup, everything, subsets
from sartor.registry import PRUNERS, RECIPES, SELECTORS, parse
from sartor.scanning import FORWARD_PARTS
from sartor.train import Preserved, Trainer
from sartor.types import Pruner, Selector, Subset

NONE = "none"


@RECIPES.register("swast")
@dataclass(frozen=True, kw_only=True)
class SWaST(Recipe):
    """Select while training sparse (Wan et al. 2025, Alg. 1), and its controls by leaving a part out.

    `pruner="none"` is coreset-only, `selector="none"` is prune-only (all data, every epoch).
    Differs: the first selection is at the end of the warm-up, not at the next multiple of R (`selection_timing`);
    stored logits enter as a mean over the mini-batch, not as a sum over the coreset (`preserve_reduction`).
    """

    name: ClassVar[str] = "swast"

    fraction: float = 0.1
    """Share of the training data in a coreset, alpha."""
    every: int = 20
    """Epochs between two selections, R; 0 selects once."""
    warmup: int | None = None
    """Epochs on all data before the first selection, T_w; ceil(epochs * fraction / 2), if not given."""
    selection_timing: Literal["at-warmup-end", "literal", "skip"] = "at-warmup-end"
    """When coresets are selected: from the end of the warm-up, as Alg. 1 prints it, or as CORDS does."""
    selector: str = "gradmatch"
    """What selects, such as moderate(center=mean); none for all data."""
    head: str | None = None
    """Name of the classifier, the Linear that makes the logits; if not given, the last Linear. For a selector that only
    reads features any module that takes them in will do."""
    pruner: str = "rigl"
    """What prunes, such as rigl(every=10); none for a dense network."""
    variant: Literal["cut", "trim", "whole"] = "cut"
    """cut prunes the backbone at `sparsity` and the classifier at `classifier_sparsity`; trim only the classifier, at
    `sparsity`; whole all layers at `sparsity`."""
    sparsity: float | None = None
    """Share of weights removed, p; 0.7 if not given, 0.9 for trim."""
    classifier_sparsity: float = 0.9
    """Share of the classifier's weights removed by cut."""
    preserve: Literal["auto", "none", "selective", "confident", "half", "complete"] = "auto"
    """State preservation: of the whole coreset, of the samples that were right when stored, of the more confident half
    or a random one, or none; auto is complete for cut and none otherwise."""
    preserve_weight: float = 0.1
    """Weight of the preservation loss, lambda."""
    preserve_reduction: Literal["mean", "sum"] = "mean"
    """Whether the preservation loss is a mean or a sum over the mini-batch."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("fraction", self.fraction, 0, 1, low_open=True)
        check_range("every", self.every, 0, float("inf"), high_open=True)
        check_range("preserve_weight", self.preserve_weight, 0, float("inf"), high_open=True)
        check_choice("selection_timing", self.selection_timing, TIMINGS)
        check_choice("variant", self.variant, ("cut", "trim", "whole"))
        check_choice("preserve", self.preserve, ("auto", NONE, *PRESERVED))
        check_choice("preserve_reduction", self.preserve_reduction, REDUCTIONS)
        self.check_scope()
        self.check_selection()
        if self.preserves == NONE and self.preserve_weight != SWaST.preserve_weight:
            raise ConfigError("preserve_weight has no effect where nothing is preserved; give --preserve complete.")
        if self.warmup is not None:
            check_range("warmup", self.warmup, 0, self.epochs - 1)
        if self.make_selector() is not None and self.epochs < self.fewest_epochs:
            raise ConfigError(
                f"epochs is {self.epochs}; no coreset would be selected in fewer than {self.fewest_epochs} "
                f"with selection_timing {self.selection_timing}. Use more epochs, or a smaller --every."
            )
        self.make_pruner()

    def check_scope(self) -> None:
        """Raise ConfigError for options of the scope that contradict the pruner."""
        scope = {"variant": self.variant, "sparsity": self.sparsity, "classifier_sparsity": self.classifier_sparsity}
        given = ", ".join(name for name, value in scope.items() if value != getattr(SWaST, name))
        if given and self.pruner == NONE:
            raise ConfigError(f"{given}: without effect with pruner none; leave it out or name a pruner.")
        if given and "sparsity" in parse(self.pruner)[1]:
            raise ConfigError(f"{given}: the pruner has a sparsity of its own in brackets; give it once.")
        if self.variant != "cut" and self.classifier_sparsity != SWaST.classifier_sparsity:
            raise ConfigError(f"classifier_sparsity is for variant cut; {self.variant} prunes at sparsity.")

    def check_selection(self) -> None:
        """Raise ConfigError for options of the selection where nothing is selected and nothing stored."""
        names = ("fraction", "every", "warmup", "selection_timing")
        given = ", ".join(name for name in names if getattr(self, name) != getattr(SWaST, name))
        if given and self.selector == NONE and self.preserves == NONE:
            raise ConfigError(f"{given}: without effect with selector none; leave it out or name a selector.")

    @property
    def fewest_epochs(self) -> int:
        """The smallest number of epochs in which a coreset is selected."""
        return next(epochs for epochs in count(1) if any(slot.draws for slot in self.coreset_slots(2, 1, epochs)))

    def make_selector(self) -> Selector | None:
        """Make the selector; None for all data."""
        return None if self.selector == NONE else SELECTORS.build(self.selector)

    def make_pruner(self) -> Pruner | None:
        """Make the pruner for the scope that the variant names; None for a dense network."""
        if self.pruner == NONE:
            return None
        if "sparsity" in parse(self.pruner)[1]:
            return PRUNERS.build(self.pruner)
        head = self.head or "classifier"
        if self.variant == "trim":
            scope: float | dict[str, float] = {head: 0.9 if self.sparsity is None else self.sparsity}
        elif self.variant == "cut":
            scope = {head: self.classifier_sparsity, "all": 0.7 if self.sparsity is None else self.sparsity}
        else:
            scope = 0.7 if self.sparsity is None else self.sparsity
        return PRUNERS.build(self.pruner, sparsity=scope)

    @property
    def preserves(self) -> str:
        """The kind of state preservation: none, or whose states are held."""
        if self.preserve == "auto":
            return "complete" if self.variant == "cut" and self.pruner != NONE else NONE
        return self.preserve

    def timetable(self, n: int) -> list[Slot]:
        """A warm-up and then coresets; without a selector all data, its logits stored every R epochs if preserved."""
        selector = self.make_selector()
        if selector is None and self.preserves == NONE:
            return everything(n, self.epochs)
        return self.coreset_slots(n, n if selector is None else size_of(self.fraction, n), self.epochs)

    def coreset_slots(self, n: int, k: int, epochs: int) -> list[Slot]:
        """Return the slots of a warm-up on n samples and then coresets of k, for a number of epochs."""
        warmup = default_warmup(epochs, self.fraction) if self.warmup is None else self.warmup
        return subsets(n, k, epochs=epochs, warmup=warmup, every=self.every, timing=self.selection_timing)

    def looks(self, n: int, *, held: int, size: int, done: int) -> Looks:
        """What the selector needs; and the subset where it is preserved but its logits do not come with that."""
        selector = self.make_selector()
        looks = Looks() if selector is None else looks_of(selector, n, held=held, done=done)
        brought = selector is not None and bool(parts_scanned(selector) & FORWARD_PARTS)
        return looks if brought or self.preserves == NONE else replace(looks, subset=size)

    @property
    def recording(self) -> str:
        """By mini-batches, where the selector reads the history and nothing else is asked for."""
        selector = self.make_selector() if self.record == NONE else None
        return "batch" if selector is not None and "history" in selector.needs else self.record

    def purpose_of(self, slot: Slot, started: bool) -> str:
        """Epochs on all data before the first selection are the warm-up."""
        return "train" if started or self.selector == NONE else "warmup"

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse what a selection or the pruner would refuse after the warm-up."""
        super().check_data(model, data)
        selector, pruner = self.make_selector(), self.make_pruner()
        if selector is not None:
            k, classes = size_of(self.fraction, len(data.train)), int((data.train.class_counts() > 0).sum())
            check_subset(k, self.fraction, len(data.train))
            if k < getattr(selector, "least_per_class", 0) * classes:
                raise SelectionError(
                    f"fraction {self.fraction:g} of {len(data.train)} samples is k = {k}, but {self.selector} needs a "
                    f"sample of each of the {classes} classes; use a larger --fraction."
                )
            slots = self.timetable(len(data.train))
            check_supplies(selector, self.selector, model, data, slots, head=self.head, scoring=self.scoring)
        if pruner is not None:
            if self.variant != "whole" and "sparsity" not in parse(self.pruner)[1]:
                check_classifier(model, data.train, head=self.head, variant=self.variant)
            check_masks(self, pruner, model)

    def program(self, trainer: Trainer, data: Data, watch: Watch) -> Subset:
        """Run Algorithm 1; the lines in comments are those of its box."""
        run, slots = trainer.run, self.timetable(len(data.train))
        snapshots = follow_snapshots(trainer, self.make_selector(), slots)
        state = watch.follow(Coreset(all_of(data.train)))  # l.2  X <- D, Z <- {}
        for epoch in run.epochs(len(slots), "train"):  # l.4
            slot = slots[epoch]
            trainer.set_lr(epoch)
            if slot.draws and state.drawn < epoch:  # l.5
                progress = (epoch + 1) / len(slots)
                self.select(trainer, data, state, snapshots, slot.size, epoch, progress=progress)  # l.6-8
                watch.selection(epoch, state.subset)
                run.save()
            trainer.meter.start(run.step)
            if slot.size:
                purpose = self.purpose_of(slot, state.drawn >= 0)
                trainer.train_epoch(state.subset, epoch, preserved=self.preserved(state), purpose=purpose)  # l.10-22
                if snapshots is not None:
                    snapshots.end(epoch, trainer)
            watch.epoch(epoch, len(slots), trainer.epoch_lr(epoch))
        return state.subset

    def select(
        self,
        trainer: Trainer,
        data: Data,
        state: Coreset,
        snapshots: Snapshots | None,
        k: int,
        epoch: int,
        *,
        progress: float,
    ) -> None:
        """Choose the coreset, X <- S(D, theta, alpha), and store its logits, Z <- f_theta(X)."""
        selector, pool, seen = self.make_selector(), data.train, None
        subset = all_of(pool)
        if selector is not None:
            stored = bool(parts_scanned(selector) & FORWARD_PARTS) and self.preserves != NONE
            also = frozenset({"logits"} if stored else ())
            seen = look(trainer, selector, data, snapshots, also=also, epoch=epoch, progress=progress, head=self.head)
            with trainer.ledger.timed("select"):
                subset = selector.select(seen, k, generator=trainer.run.generator("select", epoch))
            trainer.ledger.charge("select", flops=subset.flops)
        if self.preserves == NONE:
            state.replace(subset, epoch)
            return
        if seen is None or not seen.has("logits"):
            chosen = pool.only(subset.rows)
            seen = trainer.scan(chosen, frozenset({"logits"}), purpose="preserve", progress=progress)
        logits = seen.logits[seen.at(subset.rows)].clone()
        drawn = trainer.run.generator("preserve", epoch)
        keep = preserved(self.preserves, logits.cpu(), pool.targets_of(subset.rows), drawn)
        state.replace(subset, epoch, logits, keep)

    def preserved(self, state: Coreset) -> Preserved | None:
        """Return what holds the network to its stored state; None before the first selection."""
        if state.logits is None:
            return None
        return Preserved(state.logits, state.keep, self.preserve_weight, self.preserve_reduction)
