"""Lines for people: epochs, forecasts, progress of many runs."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from sartor.dist import World
from sartor.recipes.forecast import Forecast


@contextlib.contextmanager
def printed_by(world: World) -> Iterator[None]:
    """Let only the first of several processes print and warn."""
    if world.first:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def epoch_line(line: dict[str, Any], seconds: float) -> str:
    """Return one line for an epoch, a selection, or for where a run goes on."""
    if line["kind"] == "continued":
        return f"going on from {line['checkpoint']}: {line['epoch']} epochs and {line['step']} steps are done"
    if line["kind"] == "settled":
        test = f", test {100 * line['test_accuracy']:.2f} %" if "test_accuracy" in line else ""
        return f"        masks settled, {100 * line['density']:.1f} % of their weights live{test}"
    if line["kind"] == "selection":
        noise = "" if line["noise_ratio"] is None else f", {100 * line['noise_ratio']:.1f} % of its labels wrong"
        return f"        selected {line['k']} samples{noise}{told_words(line.get('told', {}))}"
    if line["kind"] in ("round", "target"):
        return round_line(line)
    if line["kind"] == "pruned":
        shown = "".join(
            f", {name} {100 * line[key]:.2f} %"
            for name, key in (("before", "accuracy"), ("pruned", "pruned_accuracy"), ("tuned", "tuned_accuracy"))
            if line[key] is not None
        )
        return f"        pruned to sparsity {line['sparsity']:g}{shown}"
    parts = [f"epoch {line['epoch'] + 1:4d}", f"loss {line['train_loss'] or 0:.4f}", f"{line['steps']} steps"]
    if "test_accuracy" in line:
        parts.append(f"test {100 * line['test_accuracy']:.2f} %")
    if "stage" in line:
        parts.append(line["stage"])
    return "  ".join([*parts, f"{seconds:.0f} s"])


def told_words(told: Mapping[str, Any]) -> str:
    """Write what a sampler tells of a draw; what is None, or does not hold, is left out."""
    known = {name.replace("_", " "): value for name, value in told.items() if value is not None and value is not False}
    words = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in known.items()}
    return "".join(f", {name}" if known[name] is True else f", {name} {word}" for name, word in words.items())


def round_line(line: dict[str, Any]) -> str:
    """Return one line for a round in which labels are asked for, or for a target that is trained."""
    if line["kind"] == "target":
        last, best = line["test_accuracy"], line["best_test_accuracy"]
        shown = "" if last is None else f": test {100 * last:.2f} % in the last epoch, {100 * best:.2f} % in the best"
        return f"        target of {line['labelled']} labels{shown}"
    accuracy = line.get("selector_accuracy")
    shown = "" if accuracy is None else f"; the selector is right in {100 * accuracy:.2f} %"
    asked = f", {line['asked']} more are asked for" if line["asked"] else ""
    lost = "; the selector has learnt nothing" if accuracy is None else ", which is chance"
    chance = lost if line.get("at_chance") else ""
    return f"round {line['round']:2d}  {line['labelled']} labels{asked}{shown}{chance}"


def forecast_lines(cost: Forecast, seconds: float) -> list[str]:
    """Return what a dry run prints; `seconds` are those of one trained sample (forward and backward).

    Where sizes are settled while training, it is the most that there can be.
    """
    shares = ", ".join(f"{name} {flops:.3g}" for name, flops in cost.flops_by_purpose.items())
    kept, most = 100 * cost.kept_weights / max(1, cost.parameters), "at most " if cost.bounded else ""
    return [
        f"training pool    {cost.n:,} samples; a subset holds {most}{cost.k:,}",
        f"weights kept     {cost.kept_weights:,} of {cost.parameters:,} ({kept:.1f} %)",
        f"epochs, steps    {cost.epochs:,} epochs, {most}{cost.steps:,} steps, {cost.selections} selections",
        f"masks            move {cost.moves:,} times"
        if cost.kept_weights < cost.parameters
        else "masks            none",
        f"samples          {most}{cost.trained:,} trained on, {cost.scanned:,} scanned",
        f"FLOPs            {most}{cost.flops:.3g} ({shares}); masked ones theoretical, 2 per multiply-add",
        f"seconds          {most or 'about '}{cost.seconds(seconds):.0f}, "
        "from a few batches timed on this CPU; no evaluation",
    ]


def outcome_line(results: dict[str, Any]) -> str:
    """Return one line for a finished run."""
    accuracy = results["test_accuracy"]
    shown = "no test set" if accuracy is None else f"{100 * accuracy:.2f} %"
    return f"{shown}, {results['steps']} steps, {results['flops']:.3g} FLOPs, {results['seconds']:.1f} s"
