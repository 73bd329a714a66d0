"""Labels asked for in rounds: a network chooses, the labels come, and in the end a target learns from all of them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sartor.costs import count_flops
from sartor.costs_paper import selector_cost, training_cost
from sartor.data.augment import Augment
from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError, check_choice, check_effects, check_range
from sartor.head import needs_linear_head, no_linear_head
from sartor.randomness import derive
from sartor.recipes.asking import Session
from sartor.recipes.concluding import conclude_stages, keep_labelled
from sartor.recipes.drawing import note_scattered, redrawn
from sartor.recipes.labels import Labels, read_budgets
from sartor.recipes.one_choice import choose_at_end
from sartor.recipes.outcome import Result, state_of
from sartor.recipes.recipe import Recipe
from sartor.recipes.round_plan import Planned, Prices, Round
from sartor.recipes.round_reports import RoundReports
from sartor.recipes.setup import Data, Setting
from sartor.recipes.staged import Outcome, Stages, Training
from sartor.recipes.supplies import Snapshots, glance, members_of
from sartor.recipes.timetable import Slot, everything
from sartor.registry import SELECTORS
from sartor.schedules import STEPS
from sartor.seen import Scan
from sartor.train import Trainer
from sartor.types import Selector, Subset

LOOKS, SECOND = "an acquisition that looks at a network", "a second budget"
"""What some options need, in the words of their refusal."""
UNSEEN = {"targets", "history", "gradients", "gradient_norms"}
"""Parts of a scan that samples without a label have not."""


@dataclass(frozen=True, kw_only=True)
class Rounds(Recipe):
    """What recipes that ask for labels share: budgets, acquisition, targets; the training is PruneFuse's for CIFAR."""

    epochs: int = 181
    """Epochs of a training; each round has one at least."""
    lr: float = 0.1
    """Initial learning rate; for one-cycle and steps, the highest."""
    schedule: Literal["cosine", "one-cycle", "constant", "steps"] = "steps"
    """How the learning rate moves: by the steps of steps_shape; down by a cosine, epoch by epoch; up and down by two
    lines, step by step; or not."""
    budgets: str = "0.02,0.1,0.2,0.3,0.4,0.5"
    """Labels that there are, round by round, the first drawn at random: shares of the pool, or whole numbers."""
    acquisition: str = "least-confidence"
    """What chooses the samples to be labelled: a selector that needs no labels, options in brackets."""
    head: str | None = None
    """Name of the classifier, the Linear that makes the logits; if not given, it is found by its output."""
    targets: str = "last"
    """Budgets at which a target is trained: last, all, or some of the budgets."""
    fresh: Literal["redraw", "same"] = "redraw"
    """Whether each round draws all initial weights anew, which scatters those of a trained network, or begins from the
    same ones, which keeps them."""
    stop_after: int | None = None
    """Epochs after which a training ends, its schedule unchanged, unless its epochs are an option of their own; if not
    given, all."""

    def check(self) -> None:
        """Raise ConfigError for options out of range."""
        super().check()
        read_budgets(self.budgets)
        check_choice("fresh", self.fresh, ("redraw", "same"))
        self.target_numbers()
        if self.stop_after is not None:
            check_range("stop_after", self.stop_after, 1, self.epochs)
        lacking = sorted(UNSEEN & self.make_selector().needs)
        if lacking:
            raise ConfigError(
                f"{self.acquisition} needs {', '.join(lacking)}, which samples without a label have not; choose an "
                "acquisition that needs no labels, such as least-confidence, entropy, badge or k-center."
            )
        without = {
            LOOKS: (self.looks_at_network, ("head",)),
            SECOND: (self.number_of_rounds > 1, ("head", "fresh")),
        }
        check_effects(self, without)
        if self.record != "none":
            raise ConfigError("record has no effect where several networks are trained; leave it out.")
        self.refuse_weighting()

    def make_selector(self) -> Selector:
        """Make what chooses the samples to be labelled."""
        selector: Selector = SELECTORS.build(self.acquisition)
        return selector

    @property
    def looks_at_network(self) -> bool:
        """Whether the acquisition asks a network at all."""
        return bool(self.make_selector().needs)

    @property
    def number_of_rounds(self) -> int:
        """How many rounds there are."""
        return len(read_budgets(self.budgets))

    def target_numbers(self) -> set[int]:
        """Return the rounds after which a target is trained. Raises: ConfigError: for a budget that there is not."""
        budgets = read_budgets(self.budgets)
        if self.targets in ("last", "all"):
            return {len(budgets) - 1} if self.targets == "last" else set(range(len(budgets)))
        found = set()
        for value in read_budgets(self.targets, option="targets"):
            if value not in budgets:
                raise ConfigError(f"targets names {value:g}, which is none of the budgets {self.budgets}.")
            found.add([float(budget) for budget in budgets].index(value))
        if max(found) != len(budgets) - 1:
            raise ConfigError(
                f"targets are {self.targets}; the last budget must be among them, or budgets end earlier."
            )
        return found

    @abstractmethod
    def round_of(self, number: int, size: int, asked: int, *, target: bool) -> Round:
        """Say what is trained in a round."""

    def drawn(self, setting: Setting, number: int) -> nn.Module:
        """Return the dense network as a round begins with it."""
        if self.fresh == "same" or number == 0:
            return copy.deepcopy(setting.model).cpu()
        return redrawn(setting.model, setting.run.generator("draw", number))

    @property
    def draws_anew(self) -> bool:
        """Whether a round after the first begins with another draw of the dense network."""
        return self.fresh == "redraw" and self.number_of_rounds > 1

    @abstractmethod
    def train_selector(self, stages: Stages, now: Round, labels: Labels, before: Any, ask: Mapping[str, Any]) -> Any:
        """Train what chooses (and asks, if `ask` tells a stage to); return what later rounds and targets need of it."""

    def outcome_of(self, selector: Any) -> Outcome:
        """Return the training that made what chooses, given what `train_selector` returned."""
        found: Outcome = selector
        return found

    @abstractmethod
    def train_target(self, stages: Stages, now: Round, labels: Labels, selector: Any) -> Outcome:
        """Train the network that all this is for."""

    @abstractmethod
    def selector_network(self, model: nn.Module, pool: Pool) -> nn.Module:
        """Return a network such as those that choose."""

    @abstractmethod
    def planned(self, now: Round, prices: Prices) -> list[Planned]:
        """Return the trainings of a round, for a forecast of what they cost."""

    def prices(self, model: nn.Module, pool: Pool) -> Prices:
        """Count the FLOPs of the networks that take part."""
        example, chooser = pool.gather(pool.rows[:1]), self.selector_network(model, pool)
        return Prices(count_flops(model, example).forward, count_flops(chooser, example).forward)

    @property
    def length(self) -> int:
        """Epochs of a training, where nothing else is said."""
        return self.stop_after or self.epochs

    @abstractmethod
    def paper_costs(self, dense: int, selector: int, inputs: int, n: int) -> dict[str, Any]:
        """Return costs by the paper's convention, of networks with so many parameters."""

    def convention(
        self, chooser: int, target: int, inputs: int, n: int, *, target_epochs: int, **given: Any
    ) -> dict[str, Any]:
        """Return what selectors and target cost by the paper's convention; `given` is of synchronisation."""
        rounds, members = self.agenda(n), members_of(self.make_selector())[1]
        passes = max(1, members) if self.looks_at_network else 0
        sizes, epochs = [now.size for now in rounds], self.length
        given["trained"] = {now.number for now in rounds if now.selects}
        costs = selector_cost(chooser, inputs, n, sizes, epochs, passes=passes, **given)
        last = training_cost(target, inputs, sizes[-1], target_epochs)
        by_size = {str(size): cost for size, cost in zip(sizes, costs, strict=True)}
        return {"selector": by_size, "target": last, "total": costs[-1] + last}

    def agenda(self, n: int) -> list[Round]:
        """Return what happens round by round, for a pool of n samples."""
        return self.rounds_of([int(size) for size in read_budgets(self.budgets, n)])

    @property
    def outline(self) -> list[Round]:
        """What happens round by round in a pool of any size, the numbers of labels put as 1, 2, ..."""
        return self.rounds_of(range(1, self.number_of_rounds + 1))

    def rounds_of(self, sizes: Sequence[int]) -> list[Round]:
        """Return what happens round by round, given how many labels there are."""
        asked = [later - size for size, later in zip(sizes, [*sizes[1:], sizes[-1]], strict=True)]
        aims = self.target_numbers()
        return [self.round_of(i, size, k, target=i in aims) for i, (size, k) in enumerate(zip(sizes, asked))]

    def timetable(self, n: int) -> list[Slot]:
        """What the last target trains on."""
        return everything(self.agenda(n)[-1].size, self.epochs)

    def check_batches(self, model: nn.Module, n: int, processes: int = 1) -> None:
        """Refuse mini-batches of one sample in any round."""
        for now in self.agenda(n):
            Training.like(self, epochs=1, **PLAIN).check_batches(model, now.size, processes)

    def check_data(self, model: nn.Module, data: Data) -> None:
        """Refuse budgets that the pool has not, and what a selection would lack."""
        super().check_data(model, data)
        self.agenda(len(data.train))
        selector = self.make_selector()
        if "validation" in selector.needs and data.validation is None:
            raise ConfigError(f"{self.acquisition} needs held-out samples, but holdout is 0; give --holdout 0.1, say.")

    def check_chooser(self, chooser: nn.Module, data: Data) -> None:
        """Refuse a network with which the acquisition cannot work."""
        selector = self.make_selector()
        if selector.needs and self.number_of_rounds > 1:
            seen = glance(selector, chooser, data, head=self.head, scoring=self.scoring)
            if seen.bias is None and needs_linear_head(selector):
                raise no_linear_head()

    def training(self, role: str, **options: Any) -> Training:
        """Return the options of a training; its draws depend on the seed and its role alone."""
        stop = {"stop": self.stop_after} if "epochs" not in options else {}
        return Training.like(self, seed=derive(self.seed, role), **{**stop, **options})

    def selector_training(self, role: str, **options: Any) -> Training:
        """Return the options of a selector's training: nobody watches it, its accuracy in the end is enough."""
        watched = {"evaluate_every": max(self.epochs, int(options.get("epochs", 1))), "probe": 0}
        return self.training(role, **{"purpose": "selector", **watched, **options})

    def carry_out(self, setting: Setting) -> Result:
        """Ask, label, train, round by round; a run that goes on reads finished trainings back."""
        run, model = setting.run, setting.model
        model.load_state_dict(run.once("start", lambda: state_of(model)))
        if self.draws_anew:
            note_scattered(run, model, setting.labels.get("model"))
        stages, labels = Stages(setting), Labels(setting.data)
        reports, selector, rows = RoundReports(stages), None, self.first_labels(setting)
        for now in self.agenda(len(setting.data.train)):
            labels.tell(rows)
            keep_labelled(run, setting.data.train, now.number, Subset.of(labels.rows))
            if now.selects:
                selector = self.train_selector(stages, now, labels, selector, self.asking(now, labels))
            reports.selector(now, self.outcome_of(selector) if now.selects else None)
            if now.target:
                last = self.train_target(stages, now, labels, selector)
                reports.target(now, last)
            if now.asked:
                rows = self.chosen(setting, stages, now, labels)
            reports.end_round()
        return conclude_stages(setting, stages.ledger, last, Subset.of(labels.rows), reports.results(self.paper_costs))

    def session(
        self,
        model: nn.Module,
        pool: Pool,
        test: object | None = None,
        *,
        out: str | Path,
        device: str = "auto",
        augment: Augment | None = None,
    ) -> Session:
        """Open a run folder in which labels are asked of people, and told. See `Session`."""
        return Session(self, model, pool, test, Path(out), device, augment)

    def first_labels(self, setting: Setting) -> Tensor:
        """Return the rows that are labelled first, drawn at random."""
        pool = setting.data.train
        order = torch.randperm(len(pool), generator=setting.run.generator("first labels"))
        return pool.rows[order[: self.agenda(len(pool))[0].size]]

    def asking(self, now: Round, labels: Labels) -> dict[str, Any]:
        """Return what makes a stage choose with its trained network; nothing where it need not."""
        if not now.asked or not self.looks_at_network:
            return {}
        known, unknown, selector = labels.known(), labels.unknown(), self.make_selector()
        source, count = members_of(selector)

        def then(trainer: Trainer, ends: Snapshots | None) -> dict[str, Any]:
            given: dict[str, Any] = {"head": self.head, "labelled": known.train}
            subset = choose_at_end(trainer, selector, unknown, ends, now.asked, **given)
            return {"asked": unknown.train.ids_of(subset.rows)}

        about = {"acquisition": self.acquisition, "asked": now.asked, "unlabelled": unknown.train.fingerprint()}
        about |= {} if self.head is None else {"head": self.head}
        return {"then": then, "snapshots": count if source == "snapshots" else 0, "about": about}

    def chosen(self, setting: Setting, stages: Stages, now: Round, labels: Labels) -> Tensor:
        """Return the rows that the round asks for. Raises: SelectionError: where they are not so many new ones."""
        pool = labels.unknown().train
        if self.looks_at_network:
            places = {name: row for row, name in enumerate(pool.ids)}
            asked = next(outcome.found["asked"] for outcome in reversed(stages.done) if "asked" in outcome.found)
            rows = torch.tensor([places[name] for name in asked])
        else:
            generator = setting.run.generator("select", now.number)
            rows = self.make_selector().select(Scan(pool.rows, {}), now.asked, generator=generator).rows
        if len(rows.unique()) != now.asked or bool(torch.isin(rows, labels.rows).any()):
            raise SelectionError(
                f"{self.acquisition} chose {len(rows.unique())} samples, of which some may have labels; asked were "
                f"{now.asked} that have none. Choose another acquisition."
            )
        return rows


PLAIN: dict[str, Any] = {"schedule": "constant", "steps_shape": STEPS, "peak_at": Recipe.peak_at}
"""Options of the schedule for a training whose schedule does not matter."""
