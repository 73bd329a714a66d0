"""SWaST: every R epochs select a coreset; in between train on it under an online pruner, held by stored logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sartor.errors import ConfigError, check_choice, check_range
from sartor.losses import REDUCTIONS, correct
from sartor.recipes.dense import all_of
from sartor.recipes.outcome import Watch
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import Data
from sartor.recipes.state import Coreset, size_of
from sartor.recipes.timetable import TIMINGS, Slot, default_warmup, everything, subsets
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
    pruner: str = "rigl"
    """What prunes, such as rigl(every=10); none for a dense network."""
    variant: Literal["cut", "trim", "whole"] = "cut"
    """cut prunes the backbone at `sparsity` and the classifier at `classifier_sparsity`; trim only the classifier, at
    `sparsity`; whole all layers at `sparsity`."""
    sparsity: float | None = None
    """Share of weights removed, p; 0.7 if not given, 0.9 for trim."""
    classifier_sparsity: float = 0.9
    """Share of the classifier's weights removed by cut."""
    preserve: Literal["auto", "none", "selective", "complete"] = "auto"
    """State preservation: of the whole coreset, of the samples that were right when stored, or none; auto is
    complete for cut and none otherwise."""
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
        check_choice("preserve", self.preserve, ("auto", NONE, "selective", "complete"))
        check_choice("preserve_reduction", self.preserve_reduction, REDUCTIONS)
        if self.warmup is not None:
            check_range("warmup", self.warmup, 0, self.epochs - 1)
        if self.pruner == NONE and (self.sparsity is not None or self.variant != "cut"):
            raise ConfigError("sparsity and variant have no effect with pruner none; leave them out or name a pruner.")
        if self.variant != "cut" and self.classifier_sparsity != SWaST.classifier_sparsity:
            raise ConfigError(f"classifier_sparsity is for variant cut; {self.variant} prunes at sparsity.")
        if self.pruner != NONE and self.sparsity is not None and "sparsity" in parse(self.pruner)[1]:
            raise ConfigError("sparsity is given twice, as an option and inside pruner; give it once.")
        self.make_selector()
        self.make_pruner()

    @property
    def fewest_epochs(self) -> int:
        """The warm-up and one epoch more."""
        return 2 if self.warmup is None else self.warmup + 1

    def make_selector(self) -> Selector | None:
        """Make the selector; None for all data."""
        return None if self.selector == NONE else SELECTORS.build(self.selector)

    def make_pruner(self) -> Pruner | None:
        """Make the pruner for the scope that the variant names; None for a dense network."""
        if self.pruner == NONE:
            return None
        if "sparsity" in parse(self.pruner)[1]:
            return PRUNERS.build(self.pruner)
        if self.variant == "trim":
            scope: float | dict[str, float] = {"classifier": 0.9 if self.sparsity is None else self.sparsity}
        elif self.variant == "cut":
            scope = {"backbone": 0.7 if self.sparsity is None else self.sparsity}
            scope["classifier"] = self.classifier_sparsity
        else:
            scope = 0.7 if self.sparsity is None else self.sparsity
        return PRUNERS.build(self.pruner, sparsity=scope)

    @property
    def preserves(self) -> str:
        """The kind of state preservation: none, selective or complete."""
        if self.preserve == "auto":
            return "complete" if self.variant == "cut" and self.pruner != NONE else NONE
        return self.preserve

    def timetable(self, n: int) -> list[Slot]:
        """A warm-up and then coresets; without a selector all data, its logits stored every R epochs if preserved."""
        selector = self.make_selector()
        if selector is None and self.preserves == NONE:
            return everything(n, self.epochs)
        k = n if selector is None else size_of(self.fraction, n)
        warmup = default_warmup(self.epochs, self.fraction) if self.warmup is None else self.warmup
        return subsets(n, k, epochs=self.epochs, warmup=warmup, every=self.every, timing=self.selection_timing)

    def selection_passes(self) -> tuple[bool, bool]:
        """A scan of all data where the selector looks at the network; else of the subset where it is preserved."""
        selector = self.make_selector()
        over_all = selector is not None and bool(selector.needs & FORWARD_PARTS)
        return over_all, self.preserves != NONE and not over_all

    def purpose_of(self, slot: Slot, started: bool) -> str:
        """Epochs on all data before the first selection are the warm-up."""
        return "train" if started or self.selector == NONE else "warmup"

    def program(self, trainer: Trainer, data: Data, watch: Watch) -> Subset:
        """Run Algorithm 1; the lines in comments are those of its box."""
        run, slots = trainer.run, self.timetable(len(data.train))
        state = run.track("coreset", Coreset(all_of(data.train)))  # l.2  X <- D, Z <- {}
        for epoch in run.epochs(len(slots), "train"):  # l.4
            slot = slots[epoch]
            lr = trainer.set_lr(self.lr_share(epoch, len(slots)))
            if slot.draws and state.drawn < epoch:  # l.5
                self.select(trainer, data, state, slot.size, epoch, progress=epoch / len(slots))  # l.6-8
                watch.selection(epoch, state.subset)
                run.save()
            trainer.meter.start(run.step)
            if slot.size:
                purpose = self.purpose_of(slot, state.drawn >= 0)
                trainer.train_epoch(state.subset, epoch, preserved=self.preserved(state), purpose=purpose)  # l.10-22
            watch.epoch(epoch, len(slots), lr)
        return state.subset

    def select(self, trainer: Trainer, data: Data, state: Coreset, k: int, epoch: int, *, progress: float) -> None:
        """Choose the coreset, X <- S(D, theta, alpha), and store its logits, Z <- f_theta(X)."""
        selector, pool, seen = self.make_selector(), data.train, None
        subset = all_of(pool)
        if selector is not None:
            stored = {"logits"} if selector.needs & FORWARD_PARTS and self.preserves != NONE else set()
            seen = trainer.scan(pool, selector.needs | stored, purpose="select", progress=progress)
            with trainer.ledger.timed("select"):
                subset = selector.select(seen, k, generator=trainer.run.generator("select", epoch))
        if self.preserves == NONE:
            state.replace(subset, epoch)
            return
        if seen is None or not seen.has("logits"):
            chosen = pool.only(subset.rows)
            seen = trainer.scan(chosen, frozenset({"logits"}), purpose="preserve", progress=progress)
        logits = seen.logits[seen.at(subset.rows)].clone()
        selective = self.preserves == "selective"
        keep = correct(logits.cpu(), pool.targets_of(subset.rows)) if selective else None
        state.replace(subset, epoch, logits, keep)

    def preserved(self, state: Coreset) -> Preserved | None:
        """Return what holds the network to its stored state; None before the first selection."""
        if state.logits is None:
            return None
        return Preserved(state.logits, state.keep, self.preserve_weight, self.preserve_reduction)
