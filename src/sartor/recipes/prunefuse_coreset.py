"""The coreset task: a network that has seen all labels chooses once, and the target learns from what it chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import nn

from sartor.costs_paper import scoring_cost, training_cost
from sartor.errors import check_effects
from sartor.ranking import size_of
from sartor.recipes.by_proxy import ByProxy
from sartor.recipes.concluding import keep_labelled
from sartor.recipes.forecast import Choosing, Price, Tally
from sartor.recipes.fused_target import Proxy
from sartor.recipes.one_choice import check_k, check_looks, ending_in_choice
from sartor.recipes.outcome import HISTORY, Result, state_of
from sartor.recipes.setup import Data, Setting
from sartor.recipes.staged import Outcome, Stages
from sartor.recipes.state import check_subset
from sartor.recipes.supplies import check_supplies, looks_of
from sartor.recipes.timetable import Slot, everything
from sartor.registry import RECIPES, SELECTORS
from sartor.seen import Scan
from sartor.types import Selector, Subset


@RECIPES.register("prunefuse-coreset")
@dataclass(frozen=True, kw_only=True)
class PruneFuseCoreset(ByProxy):
    """Choose a coreset once, by a pruned network that has learnt from all labels; fuse it, learn from the coreset.

    The task of PruneFuse 2026, Table 4: any selector may choose, those that read labels or the history too. Its
    baseline is `proxy="dense", fusion=False, kd=False`. Fused weights and a teacher have seen all data, not the coreset
    alone: `selector="random"` with them is the control.
    """

    name: ClassVar[str] = "prunefuse-coreset"

    fraction: float = 0.25
    """Share of the training data in the coreset."""
    selector: str = "forgetting"
    """What chooses the coreset, options in brackets; one that looks at no network, such as random, needs none."""
    head: str | None = None
    """Name of the classifier, the Linear that makes the logits; if not given, it is found by its output."""
    proxy_epochs: int | None = None
    """Epochs on all data of the network that chooses; if not given, epochs."""
    target_epochs: int | None = None
    """Epochs of the target on the coreset; if not given, epochs."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        self.check_optional("proxy_epochs", "target_epochs", least=1)
        without = {
            "a network that goes ahead": (self.has_proxy, ("proxy_epochs",)),
            "a selector that looks at a network": (self.looks_at_network, ("head",)),
        }
        check_effects(self, without)

    def make_selector(self) -> Selector:
        """Make what chooses the coreset."""
        selector: Selector = SELECTORS.build(self.selector)
        return selector

    @property
    def looks_at_network(self) -> bool:
        """Whether the selector looks at a network, or at the history of its training."""
        return bool(self.make_selector().needs - {"targets"})

    @property
    def has_proxy(self) -> bool:
        """Whether the selector or the target needs a network that was trained before."""
        return self.looks_at_network or self.uses_selector

    @property
    def recording(self) -> str:
        """How the history is recorded: by mini-batches, where the selector reads it and nothing is asked."""
        reads = "history" in self.make_selector().needs
        return "batch" if self.record == "none" and reads else self.record

    @property
    def proxy_length(self) -> int:
        """Epochs on all data."""
        return self.proxy_epochs or self.epochs

    @property
    def target_length(self) -> int:
        """Epochs on the coreset."""
        return self.target_epochs or self.epochs

    def subset_size(self, n: int) -> int:
        """Return the size of the coreset of n samples."""
        return size_of(self.fraction, n)

    def timetable(self, n: int) -> list[Slot]:
        """All data for the network that chooses, then the coreset."""
        k, first = self.subset_size(n), everything(n, self.proxy_length if self.has_proxy else 0)
        return [*first, Slot(k, draws=True), *everything(k, self.target_length - 1)]

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse what the selection would refuse after the training."""
        n, selector = len(data.train), self.make_selector()
        check_subset(self.subset_size(n), self.fraction, n)
        super().check_data(model, data)
        check_k(selector, self.selector, data.train, self.subset_size(n), self.fraction)

    def check_chooser(self, network: nn.Module, data: Data) -> None:
        """Refuse a selector that would miss something of the network, or of its training."""
        if self.looks_at_network:
            selector, slots = self.make_selector(), self.timetable(len(data.train))
            check_looks(selector, self.selector, self.proxy_length, "proxy_epochs")
            check_supplies(selector, self.selector, network, data, slots, head=self.head, scoring=self.scoring)

    def carry_out(self, setting: Setting) -> Result:
        """Train on all data, choose, train on the coreset; a run that goes on reads finished trainings back."""
        run, model, pool = setting.run, setting.model, setting.data.train
        model.load_state_dict(run.once("start", lambda: state_of(model)))
        stages = Stages(setting)
        proxy = self.train_chooser(stages) if self.has_proxy else None
        subset = self.coreset(stages, proxy)
        keep_labelled(run, pool, 0, subset)
        last = self.train_target(stages, proxy, subset)
        history = None if proxy is None else proxy.outcome.result.history
        if history is not None:
            run.write(HISTORY, save(history.state_dict()))
        return replace(self.concluded(stages, last, subset, proxy, {}), history=history)

    def train_chooser(self, stages: Stages) -> Proxy:
        """Train what chooses on all data, and let it choose."""
        data, given = stages.setting.data, {}
        if self.looks_at_network:
            k = self.subset_size(len(data.train))
            given = ending_in_choice(self.make_selector(), self.selector, data, k, self.head)
        options = self.proxy_options(self.proxy_length)
        return self.train_proxy(stages, self.training("proxy", **options, record=self.recording), given)

    def coreset(self, stages: Stages, proxy: Proxy | None) -> Subset:
        """Return what was chosen; a selector that looks at no network chooses now."""
        setting, pool = stages.setting, stages.setting.data.train
        if self.looks_at_network and proxy is not None:
            found, places = proxy.outcome.found, {name: row for row, name in enumerate(pool.ids)}
            rows = torch.tensor([places[name] for name in found["ids"]])
            return Subset(rows, torch.tensor(found["weights"]), found["scale"])
        selector, generator = self.make_selector(), setting.run.generator("select")
        seen = Scan(pool.rows, {"targets": pool.targets_of(pool.rows)} if "targets" in selector.needs else {})
        with stages.ledger.timed("select"):
            subset = selector.select(seen, self.subset_size(len(pool)), generator=generator)
        stages.ledger.charge("select", flops=subset.flops)
        return subset

    def train_target(self, stages: Stages, proxy: Proxy | None, subset: Subset) -> Outcome:
        """Train the target on the coreset, from the fused weights or as it was."""
        setting = stages.setting
        chosen = replace(setting.data, train=setting.data.train.only(subset.rows))
        training = self.training("target", **self.target_options, epochs=self.target_length)
        given: dict[str, Any] = {"weights": subset.weights if bool((subset.weights != 1).any()) else None}
        generator = setting.run.generator("fuse")
        return self.train_fused(
            stages, "target", training, chosen, proxy, lambda: self.drawn(setting), generator, **given
        )

    def foresee(self, tally: Tally, n: int, held: int, target: float, proxy: float, choosing: Choosing) -> None:
        """Add up the training on all data, the choice, and the target's training on the coreset."""
        k, samples = self.subset_size(n), n * self.proxy_length
        if self.has_proxy:
            tally.charge("selector", 3 * samples * proxy, trained=samples)
            again = samples if self.recording == "epoch" else 0
            tally.charge("record", again * proxy, scanned=again)
        if self.looks_at_network:
            looks = looks_of(self.make_selector(), n, held=held, done=self.proxy_length)
            tally.charge_looks(looks, Price(proxy, 3 * proxy, 3 * proxy), [n * proxy] * looks.earlier, n)
        tally.charge("select", choosing(n, k))
        looked = k if self.fusion and self.statistics == "estimated" else 0
        tally.charge("fuse", looked * target, scanned=looked)
        taught, samples = self.taught_by(target, proxy), k * self.target_length
        tally.charge("train", 3 * samples * target, trained=samples)
        tally.charge("distill", samples * taught, scanned=samples if taught else 0)

    def paper_costs(self, proxy: int, target: int, inputs: int, n: int) -> dict[str, float]:
        """Return costs by the paper's convention, as of its rounds: one training on all samples, and what it scans."""
        chooser = training_cost(proxy, inputs, n, self.proxy_length) if self.has_proxy else 0.0
        if self.looks_at_network:
            looks = looks_of(self.make_selector(), n, held=0, done=self.proxy_length)
            chooser += scoring_cost(proxy, inputs, looks.forward + n * looks.earlier)
            chooser += training_cost(proxy, inputs, looks.backward, 1)
        last = training_cost(target, inputs, self.subset_size(n), self.target_length)
        return {"selector": chooser, "target": last, "total": chooser + last}
