"""What a recipe of several trainings leaves behind: the files and results that every run has, over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save

from sartor.costs import Ledger
from sartor.data.pool import Pool
from sartor.digest import digest
from sartor.prune.masks import Masks
from sartor.recipes.outcome import Result, as_tensors, costs_of, subset_file
from sartor.recipes.setup import Data, Setting
from sartor.recipes.staged import LEDGER, Outcome
from sartor.run import Run
from sartor.types import Subset


def keep_labelled(run: Run, pool: Pool, number: int, subset: Subset) -> None:
    """Write which samples are labelled in a round to `subsets/`, and tell of it once."""
    content = {
        "epoch": number,
        "scale": subset.scale,
        "ids": pool.ids_of(subset.rows),
        "weights": subset.weights.tolist(),
    }
    run.write(subset_file(number), content)
    counts = torch.bincount(pool.targets_of(subset.rows), minlength=pool.classes or 0).tolist()
    noise = None if pool.noise is None else pool.noise.ratio(subset.rows)
    line = {"epoch": number, "k": len(subset), "noise_ratio": noise, "class_counts": counts}
    tell_once(run, f"selection {number}", "selection", line)


def tell_once(run: Run, name: str, kind: str, values: Mapping[str, Any]) -> None:
    """Append a line to the metrics, unless the run has told it before it was stopped."""
    run.once(name, lambda: run.log(kind, **values), save=False)


def at_chance(accuracy: float | None, data: Data) -> bool:
    """Tell whether a network is no surer right than one that always says the most frequent class.

    Two standard errors above that count as no better. Of the test set, or else of the held-out samples.
    """
    pool = data.test or data.validation
    if accuracy is None or pool is None:
        return False
    share = float(pool.class_counts().max()) / len(pool)
    return accuracy <= share + 2 * math.sqrt(share * (1 - share) / len(pool))


def conclude_stages(setting: Setting, ledger: Ledger, last: Outcome, subset: Subset, more: Mapping[str, Any]) -> Result:
    """Give the user's network the weights of the last training, write ledger and results; `more` results stand beside.

    Masks come along. Accuracies, steps and weights are those of the last training, costs those of all.
    """
    run, data, model = setting.run, setting.data, setting.model
    state = {name: value.detach().cpu().clone().contiguous() for name, value in last.model.state_dict().items()}
    model.load_state_dict(state)
    run.write("model.safetensors", save(state))
    masks = None if last.result.masks is None else Masks(model, last.result.masks.state_dict())
    if masks is not None:
        run.write("masks.safetensors", save({name: masks[name].cpu().contiguous() for name in masks.names}))
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
        "digest": {
            "beginning": setting.beginning,
            "weights": digest(state),
            "masks": None if masks is None else masks.digest(),
            "subset": digest(as_tensors(subset)),
        },
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
