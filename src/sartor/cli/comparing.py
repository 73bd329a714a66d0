"""The runs of a comparison: made with a line each, or only forecast."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sartor.cli.display import forecast_lines, outcome_line
from sartor.comparison import Job, load, run_jobs
from sartor.errors import SartorError, Stopped
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.recipe import Recipe


def execute(jobs: Sequence[Job], workers: int) -> int:
    """Make all runs, showing how far they are; return how many failed."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started, failed = time.monotonic(), 0
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        task = progress.add_task("runs", total=len(jobs))
        outcomes = stack.enter_context(contextlib.closing(run_jobs(jobs, workers)))
        for count, (job, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, Stopped):
                raise Stopped(f"{outcome} {count - 1} of {len(jobs)} runs were finished.")
            failed += isinstance(outcome, SartorError)
            text = f"failed: {outcome}" if isinstance(outcome, SartorError) else outcome_line(outcome)
            clock = time.monotonic() - started
            progress.print(f"[{count:>3}/{len(jobs)} {clock:4.0f} s] {job.title}: {text}", markup=False, soft_wrap=True)
            progress.advance(task)
    return failed


def print_forecasts(jobs: Sequence[Job], arms: Sequence[str], base: Recipe, workers: int) -> None:
    """Print what each arm would cost, and all runs, so many at a time."""
    splits = load(jobs[0].data, jobs[0].root)
    networks = dict.fromkeys(job.model for job in jobs)
    seconds = {name: Forecaster(splits, name).seconds_per_sample(base) for name in networks}
    for arm in arms:
        job = next(job for job in jobs if job.labels["arm"] == arm)
        print("\n".join([arm, *(f"  {line}" for line in forecast_lines(job.cost, seconds[job.model]))]))
    total = sum(job.cost.seconds(seconds[job.model]) for job in jobs)
    print(f"all {len(jobs)} runs, {workers} at a time: about {total / workers:.0f} s")
