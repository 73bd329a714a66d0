"""What a recipe of several trainings leaves behind: the files and results that every run has, over all of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.prune.channels import ChannelPlan
from sartor.prune.channels.saving import PLAN
from sartor.prune.masks import Masks
from sartor.recipes.outcome import Result, costs_of, digests, selection_line, write_network, write_subset
from sartor.recipes.setup import Setting
from sartor.recipes.staged import LEDGER, Outcome
from sartor.run import Run
from sartor.types import Subset


def keep_labelled(run: Run, pool: Pool, number: int, subset: Subset) -> None:
    """Write which samples are labelled in a round to `subsets/`, and tell of it once."""
    write_subset(run, pool, number, subset)
    tell_once(run, f"selection {number}", "selection", selection_line(pool, number, subset))


def keep_plan(run: Run, plan: ChannelPlan) -> None:
    """Write which channels stayed to `plan.json`."""
    if run.folder is not None:
        run.write(PLAN, plan.to_bytes())


def tell_once(run: Run, name: str, kind: str, values: Mapping[str, Any]) -> None:
    """Append a line to the metrics, unless the run has told it before it was stopped."""
    run.once(name, lambda: run.log(kind, **values), save=False)


def at_chance(outcome: Outcome) -> bool:
    """Tell whether a network is no surer right than one that always says the most frequent class.

    Two standard errors above that count as no better, all of several classes right never do. Of the test set, or else
    of the held-out samples, or of those that it has learnt from.
    """
    pool, accuracy, _ = judged(outcome)
    if accuracy is None:
        return False
    share = float(pool.class_counts().max()) / len(pool)
    return accuracy <= share + 2 * math.sqrt(share * (1 - share) / len(pool)) and not share < accuracy == 1


def judged(outcome: Outcome) -> tuple[Pool, float | None, str]:
    """Return the samples that tell whether a network has learnt anything, its accuracy there, and what they are.

    The accuracy is None where the training is one of an earlier version that did not tell it.
    """
    data = outcome.stage.data
    if data.test is not None:
        return data.test, outcome.accuracy, "test samples"
    if data.validation is not None:
        return data.validation, outcome.accuracy, "held-out samples"
    return data.train, outcome.train_accuracy, "samples that it learnt from, for there are no others with labels"


def note_chance(who: str, outcome: Outcome) -> None:
    """Warn of a network that chooses and has learnt nothing."""
    pool, accuracy, which = judged(outcome)
    warnings.warn(
        f"the {who} has learnt nothing: its accuracy, {100 * (accuracy or 0):.1f} %, is that of chance (by {len(pool)} "
        f"{which}). What it chooses is no better than a random draw, and may be worse; give it more epochs, another "
        "lr, or a lower sparsity.",
        stacklevel=3,
    )


def conclude_stages(setting: Setting, ledger: Ledger, last: Outcome, subset: Subset, more: Mapping[str, Any]) -> Result:
    """Give the user's network the weights of the last training, write ledger and results; `more` results stand beside.

    Masks come along. Accuracies, steps and weights are those of the last training, costs those of all.
    """
    run, data, model = setting.run, setting.data, setting.model
    model.load_state_dict(last.model.state_dict())
    masks = None if last.result.masks is None else Masks(model, last.result.masks.state_dict())
    state = write_network(run, model, masks)
    run.write(LEDGER, ledger.to_json())
    run.once("curve", lambda: copy_curve(run, last), save=False)
    noise = data.train.noise
    results = {
        **last.result.results,
        **setting.labels,
        "n": len(data.train),
        "k": len(subset),
        "noise_ratio": None if noise is None else noise.ratio(subset.rows),
        **costs_of(ledger, len(data.train)),
        "digest": digests(setting.beginning, state, masks, subset),
        **more,
    }
    results = run.world.broadcast(results)
    run.finish(results)
    return Result(model.eval(), masks, subset, run.metrics, results)


def copy_curve(run: Run, last: Outcome) -> None:
    """Append the epochs of the last training to the run's own metrics, without telling the listener again."""
    heard, run.listener = run.listener, None
    for line in last.result.metrics:
        if line["kind"] == "epoch":
            run.log(**line)
    run.listener = heard
