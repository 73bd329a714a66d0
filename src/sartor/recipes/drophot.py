"""DropHot: a coreset by forgetting, a fresh network that learns from it, pruned at once and tuned on all data."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import nn

from sartor.costs import count_flops
from sartor.randomness import derive, generator
from sartor.recipes.choosing import choose
from sartor.recipes.concluding import conclude_stages, keep_labelled, keep_plan, tell_once
from sartor.recipes.defects import ChangesByPosition, chosen_by_position, held_at_rest
from sartor.recipes.drawing import redrawn
from sartor.recipes.drophot_options import NONE, DropHotOptions
from sartor.recipes.forecast_drophot import Scoring, matched_steps
from sartor.recipes.one_shot import Pruned
from sartor.recipes.outcome import HISTORY, Result, state_of
from sartor.recipes.sampled import Drawing, Sampled
from sartor.recipes.setup import Setting
from sartor.recipes.sources import Trained
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.recipes.state import all_of
from sartor.recipes.telling import accuracy_of, curve, score_report
from sartor.registry import RECIPES
from sartor.types import Subset

SCORER = "channels that the scorer is without"


@RECIPES.register("drophot")
@dataclass(frozen=True, kw_only=True)
class DropHot(DropHotOptions):
    """Train on a coreset of forgotten samples, prune at once, fine-tune on all data (Gupta et al. 2024, Sec. 3).

    `selector="none"` is the baseline, all data in the coreset's place; with `match="forgetting"` it takes as many steps
    before the pruning as scoring, selection and coreset training cost. `selector="random"` is the control.
    Differs: forgetting is counted (the public code counts something else, see `legacy_defects`); pruned weights stay
    zero while the network is tuned, unless `tuning="regrow"`.
    """

    name: ClassVar[str] = "drophot"

    def carry_out(self, setting: Setting) -> Result:
        """Score, choose, train, prune, tune; a run that goes on reads finished trainings back."""
        run, model = setting.run, setting.model
        model.load_state_dict(run.once("start", lambda: state_of(model)))
        stages = Stages(setting)
        scored = self.score(stages) if self.is_scored else None
        if self.make_sampler() is None:
            subset = self.coreset(stages, scored)
            last = first = self.train(stages, subset)
        else:
            last = first = self.train_drawn(stages)
            subset = first.result.subset
            keep_labelled(run, setting.data.train, 0, subset)
        tunings: list[Outcome] = []
        pruned: Pruned | None = None
        reports = []
        for number, share in enumerate(self.shares):
            pruned, accuracy = self.pruned(stages, last, number, pruned)
            before, last = last, self.tune(stages, pruned, number)
            tunings.append(last)
            told = {"accuracy": before.accuracy, "pruned_accuracy": accuracy, "tuned_accuracy": last.accuracy}
            reports.append({"sparsity": share, **told})
            tell_once(run, f"told {number}", "pruned", reports[-1])
        assert pruned is not None
        return self.concluded(stages, pruned, subset, scored, first, tunings, reports)

    def training(self, role: str, epochs: int, **options: Any) -> Training:
        """Return the options of a training; its draws depend on the seed and its role alone."""
        return Training.like(self, **{**self.of_role(role, epochs), **options})

    def of_role(self, role: str, epochs: int) -> dict[str, Any]:
        """Return the options of a training that its role decides."""
        return {"seed": derive(self.seed, role), "purpose": role, "epochs": epochs, "record": NONE}

    def dense(self, setting: Setting) -> nn.Module:
        """Return the network as it was before all training."""
        return copy.deepcopy(setting.model).cpu()

    def score(self, stages: Stages) -> Outcome:
        """Train on all data what samples are chosen by, with the history of each; nobody watches it."""
        setting, data = stages.setting, stages.setting.data
        training = self.training(
            "score", self.scored, record=self.recording, evaluate_every=max(1, self.scored), probe=0
        )
        model, plan, about = self.dense(setting), None, self.mode(True)
        if self.score_sparsity:
            made = self.cut(model, data.train, generator(self.seed, "scorer"), stages.ledger)
            model, plan, about = copy.deepcopy(made.small), made.plan, {**about, SCORER: self.score_sparsity}
        stage = Stage("score", training, model, data, about=about, plan=plan)
        if "scores" in self.defects:
            counts = ChangesByPosition(len(data.train), derive(self.seed, "positions"))
            about = {**stage.about, "scores": "by position"}
            stage = replace(stage, before=counts, then=lambda *_: {"changes": counts.changes.tolist()}, about=about)
        return self.carried_out(stages, stage, tracked=True)

    def carried_out(self, stages: Stages, stage: Stage, *, tracked: bool) -> Outcome:
        """Carry out a training; in eval mode, where that defect is on and the public code would have `tracked` it."""
        if not tracked or "batchnorm" not in self.defects:
            return stages.carry_out(stage)
        with held_at_rest(stage.model):
            return stages.carry_out(stage)

    def coreset(self, stages: Stages, scored: Outcome | None) -> Subset:
        """Choose the coreset, once; charged as `select`."""
        setting, pool = stages.setting, stages.setting.data.train
        if self.selector == NONE:
            return all_of(pool)
        kept = setting.run.once("coreset", lambda: self.chosen(setting, scored))
        stages.ledger.charge("select", **kept["costs"])
        subset = Subset(kept["rows"], kept["weights"], kept["scale"])
        keep_labelled(setting.run, pool, 0, subset)
        return subset

    def chosen(self, setting: Setting, scored: Outcome | None) -> dict[str, Any]:
        """Let the selector choose by the network that was trained to score, and what was recorded meanwhile."""
        pool, selector = setting.data.train, self.make_selector()
        k = self.subset_size(len(pool))
        if "scores" in self.defects and scored is not None:
            ends = {"largest": selector.keep == "highest", "balanced": selector.balanced}  # type: ignore[union-attr]
            subset, costs = chosen_by_position(pool, torch.tensor(scored.found["changes"]), k, **ends), {}
        else:
            source = Trained(
                pool,
                {"run": self.name},
                None if scored is None else scored.model,
                validation=setting.data.validation,
                history=None if scored is None else scored.result.history,
                lr=self.lr,
                progress=1.0,
                head=self.head,
                device=setting.device,
                workers=setting.workers,
                precision=self.scoring,
                channels_last=self.channels_last,
            )
            seed = derive(self.seed, "select")
            choice = choose(self.selector, source, k=k, fraction=None, seed=seed, heard=lambda _: None)
            subset, accounts = choice.subset, choice.ledger.by_purpose().values()
            costs = {kind: sum(account[kind] for account in accounts) for kind in ("forward", "trained", "flops")}
            costs["seconds"] = choice.ledger.seconds()
        return {"rows": subset.rows, "weights": subset.weights, "scale": subset.scale, "costs": costs}

    def train(self, stages: Stages, subset: Subset) -> Outcome:
        """Train a fresh network on the coreset, or on all data in its place."""
        setting, data = stages.setting, stages.setting.data
        chosen = replace(data, train=data.train.only(subset.rows))
        weights = subset.weights if bool((subset.weights != 1).any()) else None
        training = self.training("train", self.trained, steps=self.steps(setting))
        tracked = self.selector == NONE
        stage = Stage("train", training, self.dense(setting), chosen, weights, about=self.mode(tracked))
        return self.carried_out(stages, stage, tracked=tracked)

    def train_drawn(self, stages: Stages) -> Outcome:
        """Train a fresh network on coresets that a sampler draws meanwhile."""
        setting, pool = stages.setting, stages.setting.data.train
        options = {**self.of_role("train", self.trained), "sampler": self.selector, "k": self.subset_size(len(pool))}
        training = Sampled.like(self, **options)
        stage = Stage("train", training, self.dense(setting), setting.data, before=Drawing(training, pool))
        return stages.carry_out(stage)

    def mode(self, tracked: bool) -> dict[str, Any]:
        """Tell the mode of a training, where it is not the usual one."""
        return {"mode": "eval"} if tracked and "batchnorm" in self.defects else {}

    def steps(self, setting: Setting) -> int | None:
        """Return how many steps are trained before the pruning, where costs are matched."""
        if self.match is None:
            return None
        pool, held = setting.data.train, setting.data.validation
        forward = count_flops(setting.model, pool.gather(pool.rows[:1])).forward
        scoring = Scoring.of(self.matched_arm, setting.model, pool)
        return matched_steps(self, len(pool), 0 if held is None else len(held), forward, scoring)

    def pruned(self, stages: Stages, last: Outcome, number: int, after: Pruned | None) -> tuple[Pruned, float | None]:
        """Prune what was trained last; return the accuracy, too, before anything else is done to it."""
        setting, drawn = stages.setting, generator(self.seed, "prune", number)
        plan = None if after is None else after.plan
        given: dict[str, Any] = {"generator": drawn, "after": plan, "ledger": stages.ledger}
        found = self.one_shot(last.model, setting.data.train, self.shares[number], **given)
        accuracy = setting.run.once(f"pruned {number}", lambda: accuracy_of(found.model, setting, stages.ledger))
        return found, accuracy

    def tune(self, stages: Stages, pruned: Pruned, number: int) -> Outcome:
        """Train what the pruning left on all data, from what was learnt or from what `reinit` says."""
        setting, (start, stop) = stages.setting, self.parts[number]
        training = self.training("tune", self.tuned, start=start, stop=stop)
        model, masks = pruned.model, None if self.regrows else pruned.masks
        if self.reinit != NONE:
            fresh = self.dense(setting)
            if self.reinit == "fresh":
                fresh = redrawn(fresh, generator(self.seed, "redraw", number))
            model = pruned.with_weights(fresh)
        return stages.carry_out(Stage("tune", training, model, setting.data, masks=masks))

    def concluded(
        self,
        stages: Stages,
        pruned: Pruned,
        subset: Subset,
        scored: Outcome | None,
        first: Outcome,
        tunings: list[Outcome],
        reports: list[dict[str, Any]],
    ) -> Result:
        """Leave behind what a run does; the user's network computes what the last one does."""
        setting, last = stages.setting, tunings[-1]
        run, pool = setting.run, setting.data.train
        if pruned.plan is not None:
            keep_plan(run, pruned.plan)
            last = replace(last, stage=replace(last.stage, model=pruned.whole(setting.model, last.model)))
        history = None if scored is None else scored.result.history
        if history is not None:
            run.write(HISTORY, save(history.state_dict()))
        changes = None if scored is None else scored.found.get("changes")
        more = {
            "trained_accuracy": first.accuracy,
            "pruned_accuracy": reports[-1]["pruned_accuracy"],
            "prunings": reports,
            "curves": {"train": curve([first]), "tune": curve(tunings)},
            "scores": None if history is None else score_report(history, changes, self.scored),
            "score_accuracy": None if scored is None else scored.accuracy,
            "score_parameters": None if scored is None else scored.result.results["parameters"],
            "full_epoch_flops": 3 * count_flops(setting.model, pool.gather(pool.rows[:1])).forward * len(pool),
        }
        return replace(conclude_stages(setting, stages.ledger, last, subset, more), history=history)
