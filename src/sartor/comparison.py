"""Many runs side by side: arms x seeds x noise levels, in worker processes, each in a folder of its own."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from sartor.costs import Flops, count_flops
from sartor.data.formats import Splits
from sartor.errors import SartorError, Stopped
from sartor.models.build import build_model
from sartor.ranking import size_of
from sartor.recipes.arms import arm_folder, make_arm
from sartor.recipes.forecast import Forecast, forecast, mask_densities, match_cost
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import SWaST
from sartor.registry import DATASETS


@dataclass(frozen=True)
class Job:
    """One run to be made: what, on what, where, and what to call it."""

    recipe: Recipe
    data: str
    root: str | None
    model: str
    folder: Path
    device: str
    threads: int
    labels: dict[str, Any]
    cost: Forecast

    @property
    def title(self) -> str:
        """Name the job in a line of progress."""
        matched = " at equal cost" if self.labels["match"] == "cost" else ""
        return f"{self.labels['arm']}{matched}, noise {self.recipe.noise:g}, seed {self.recipe.seed}"


class Killed(SartorError):
    """A worker process that ended without a word; its pool takes no more runs."""


@functools.lru_cache(maxsize=2)
def load(data: str, root: str | None) -> Splits:
    """Read a data set by name, once per process."""
    return DATASETS.build(data, root=root)


def training_size(splits: Splits, recipe: Recipe) -> int:
    """Return the size of the training pool after the hold-out."""
    return len(splits.train) - size_of(recipe.holdout, len(splits.train))


def model_for(splits: Splits, spec: str, seed: int = 0) -> nn.Module:
    """Make the network that `spec` names for a data set's classes and input shape."""
    train = splits.train
    return build_model(spec, classes=train.classes or 0, input_shape=train.input_shape, seed=seed)


class Forecaster:
    """Forecasts recipes on one data set and model; the network is counted once, masks once per pruner."""

    def __init__(self, splits: Splits, model: str) -> None:
        self.splits = splits
        train = splits.train
        self.model = model_for(splits, model)
        self.flops: Flops = count_flops(self.model, train.gather(train.rows[:1]))
        self._densities: dict[str, tuple[dict[str, float], int]] = {}

    def densities(self, recipe: Recipe) -> tuple[dict[str, float], int]:
        """Return densities by parameter and the number of weights removed."""
        key = repr(recipe.make_pruner())
        if key not in self._densities:
            self._densities[key] = mask_densities(recipe, self.model)
        return self._densities[key]

    def __call__(self, recipe: Recipe) -> Forecast:
        """Forecast a recipe."""
        densities, removed = self.densities(recipe)
        n = training_size(self.splits, recipe)
        parameters = sum(p.numel() for p in self.model.parameters())
        return forecast(recipe, n, self.flops, densities, parameters=parameters, removed=removed)

    def matched(self, recipe: Recipe, target: float) -> Recipe:
        """Return the recipe with the length that brings it nearest to `target` FLOPs."""
        n = training_size(self.splits, recipe)
        return match_cost(recipe, n, self.flops, self.densities(recipe)[0], target)


def plan_jobs(
    base: SWaST,
    *,
    data: str,
    root: str | None,
    model: str,
    out: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    noises: Sequence[float],
    match: str = "epochs",
    match_arm: str = "swast-cut",
    device: str = "cpu",
    threads: int = 1,
    describe: Callable[[Job], str] = lambda job: "",
) -> list[Job]:
    """List the runs of a comparison, dearest first; with `match="cost"` each arm's epochs meet `match_arm`'s FLOPs."""
    forecaster = Forecaster(load(data, root), model)
    n = training_size(forecaster.splits, base)
    target = forecaster(make_arm(match_arm, base, n)).flops if match == "cost" else 0.0
    jobs = []
    for arm in arms:
        recipe = make_arm(arm, base, n)
        if match == "cost":
            recipe = forecaster.matched(recipe, target)
        cost = forecaster(recipe)
        for noise in noises:
            for seed in seeds:
                place = arm_folder(arm) if match == "epochs" else f"{arm_folder(arm)}@cost"
                labels = {"arm": arm, "match": match, "data": data, "model": model}
                if match == "cost":
                    labels["matched_arm"] = match_arm
                job = Job(
                    recipe=recipe.with_options(seed=seed, noise=noise),
                    data=data,
                    root=root,
                    model=model,
                    folder=out / f"noise-{noise:g}" / place / f"seed-{seed}",
                    device=device,
                    threads=threads,
                    labels=labels,
                    cost=cost,
                )
                labels["command"] = describe(job)
                jobs.append(job)
    return sorted(jobs, key=lambda job: -job.cost.trained)


def run_job(job: Job) -> dict[str, Any]:
    """Make one run (or read it, where it is finished) and return its results."""
    torch.set_num_threads(job.threads)
    splits = load(job.data, job.root)
    result = job.recipe.fit(
        model_for(splits, job.model, job.recipe.seed),
        splits.train,
        splits.test,
        out=job.folder,
        device=job.device,
        augment=splits.augment,
        labels=job.labels,
        stopping=None if _stop is None else _stop.is_set,
    )
    return result.results


def run_jobs(jobs: Sequence[Job], workers: int) -> Generator[tuple[Job, dict[str, Any] | SartorError], None, None]:
    """Make all runs and yield each with its results, or with the error that ended it, as they come.

    The others go on when one fails. After a SIGINT or SIGTERM, or when the generator is closed, those under way save
    their state and are yielded as Stopped, and no other is begun; a second signal quits at once.
    """
    if workers <= 1:
        with signals(interrupt, signal.SIGTERM):  # between two runs; within one it saves
            for job in jobs:
                yield job, attempt(job)
        return
    context = multiprocessing.get_context("spawn")
    stop, left = context.Event(), iter(jobs)

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with signals(signal.SIG_IGN, signal.SIGINT):  # new processes take this over: only `stop` stops a worker
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker, initargs=(stop,))
        running = {pool.submit(attempt, job): job for job in islice(left, workers)}
    try:
        with signals(handle, signal.SIGINT, signal.SIGTERM):
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, came_to = running.pop(future), outcome(future)
                    yield job, came_to
                    if not isinstance(came_to, Killed):
                        running |= {pool.submit(attempt, job): job for job in islice(left, 1)}
        for job in left:
            yield job, Killed("not begun, since a process before it was killed; give the same command again.")
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a signal as Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def signals(handler: Any, *numbers: int) -> Iterator[None]:
    """Handle signals in another way for a while; only the main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


_stop: Event | None = None
"""In a worker process: set when it shall save its state and end."""


def begin_worker(stop: Event) -> None:
    """Prepare a worker process: outside of a run, signals are for the first process, which sets `stop`."""
    global _stop  # noqa: PLW0603
    _stop = stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def outcome(future: Future[dict[str, Any] | SartorError]) -> dict[str, Any] | SartorError:
    """Return what a run came to; a worker that was killed counts as a failed run."""
    try:
        return future.result()
    except BrokenProcessPool:
        return Killed("its process was killed, for lack of memory perhaps; give the command again, with fewer --jobs.")


def attempt(job: Job) -> dict[str, Any] | SartorError:
    """Make one run; an error that Sartor understands is returned, so that the other runs go on."""
    if _stop is not None and _stop.is_set():
        return Stopped("stopped before it began.")
    try:
        return run_job(job)
    except SartorError as error:
        return error
    except Exception as error:
        return SartorError(f"{type(error).__name__}: {error}; run its own command with --debug to see where.")
