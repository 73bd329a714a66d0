"""What came of a recipe that asks for labels, round by round: told as it goes, and in the results."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from sartor.costs_paper import scalars_in
from sartor.recipes.concluding import at_chance, note_chance, tell_once
from sartor.recipes.round_plan import Round
from sartor.recipes.staged import Outcome, Stages


class RoundReports:
    """Reports of the rounds so far, and of the targets, and what had been spent after each round."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.rounds: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []
        self.spent = [stages.ledger.by_purpose()]

    def selector(self, now: Round, outcome: Outcome | None) -> None:
        """Tell of a round and of the training of what chooses, if there was one; warn where it learnt nothing."""
        report: dict[str, Any] = {"round": now.number, "labelled": now.size, "asked": now.asked}
        if outcome is not None:
            lost = at_chance(outcome)
            parameters = outcome.result.results["parameters"]
            report |= {"selector_accuracy": outcome.accuracy, "at_chance": lost, "selector_parameters": parameters}
            if lost:
                note_chance(f"selector of round {now.number}", outcome)
        self.rounds.append(report)
        self._tell("round", now, report | {"flops": self.stages.ledger.flops()})

    def target(self, now: Round, outcome: Outcome) -> None:
        """Tell of a target: its last and its best epoch, and all FLOPs up to its end."""
        results = outcome.result.results
        names = ("test_accuracy", "best_test_accuracy", "validation_accuracy", "parameters")
        told = {"labelled": now.size, **{name: results[name] for name in names}, "flops": self.stages.ledger.flops()}
        self.targets.append(told)
        self._tell("target", now, told)

    def end_round(self) -> None:
        """Note what has been spent."""
        self.spent.append(self.stages.ledger.by_purpose())

    def results(self, paper_costs: Callable[[int, int, int, int], dict[str, Any]]) -> dict[str, Any]:
        """Return all of it; `paper_costs` of the parameters of network and selector, scalars of an input, samples."""
        setting = self.stages.setting
        dense = sum(parameter.numel() for parameter in setting.model.parameters())
        chooser = max((report.get("selector_parameters", 0) for report in self.rounds), default=0)
        pool = setting.data.train
        return {
            "rounds": self.rounds,
            "targets": self.targets,
            "cost_paper": paper_costs(dense, chooser, scalars_in(pool.inputs), len(pool)),
            "seconds_by_round": seconds_by_round(self.spent),
        }

    def _tell(self, kind: str, now: Round, told: dict[str, Any]) -> None:
        tell_once(self.stages.setting.run, f"{kind} {now.number}", kind, told)


def seconds_by_round(spent: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the seconds of each round by purpose, of all costs before the first and after each.

    >>> seconds_by_round([{}, {"select": {"seconds": 2.0}}, {"select": {"seconds": 2.0}, "train": {"seconds": 3.0}}])
    {'0': {'select': 2.0}, '1': {'train': 3.0}}
    """
    sums = [{purpose: account["seconds"] for purpose, account in costs.items()} for costs in spent]
    return {
        str(number): {
            name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)
        }
        for number, (before, after) in enumerate(pairwise(sums))
    }
