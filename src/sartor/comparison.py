"""Many runs side by side: arms x seeds x noise levels, in worker processes, each in a folder of its own."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from sartor.data.formats import Splits
from sartor.data.opening import open_data
from sartor.errors import SartorError, Stopped, show_note
from sartor.recipes.families import FAMILIES
from sartor.recipes.family import arm_folder, network_of
from sartor.recipes.forecast import Forecast, unknown_cost
from sartor.recipes.forecaster import Forecaster, model_for, training_size
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.signals import interrupt, signals


class Work(Protocol):
    """Something that a process can do by itself: it can be pickled, and done again it goes on where it was."""

    @property
    def title(self) -> str:
        """Name it in a line of progress."""
        ...

    def run(self) -> dict[str, Any]:
        """Do it, and return what came of it."""
        ...


W = TypeVar("W", bound=Work)


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
    workers: int = 0

    @property
    def title(self) -> str:
        """Name the job in a line of progress."""
        matched = " at equal cost" if self.labels["match"] == "cost" else ""
        return f"{self.labels['arm']}{matched}, noise {self.recipe.noise:g}, seed {self.recipe.seed}"

    def run(self) -> dict[str, Any]:
        """Make the run (or read it, where it is finished) and return its results."""
        return run_job(self)


@functools.lru_cache(maxsize=2)
def load(data: str, root: str | None) -> Splits:
    """Open a data set by its name or path, once per process."""
    return open_data(data, root)


def plan_jobs(
    base: Recipe,
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
    workers: int = 0,
    describe: Callable[[Job], str] = lambda job: "",
) -> list[Job]:
    """List the runs of a comparison, dearest first; the arms are those of the family of `base`.

    With `match="cost"` each arm's epochs meet `match_arm`'s FLOPs.
    """
    family, splits = FAMILIES[base.name], load(data, root)
    networks = dict.fromkeys(network_of(arm, model) for arm in (*arms, match_arm))
    forecasters = {network: Forecaster(splits, network) for network in networks}
    n = training_size(splits, base)
    target = None
    if match == "cost":
        aim = quiet(family.make(match_arm, base, n))
        if aim.bounded:
            raise unknown_cost(aim)
        target = forecasters[network_of(match_arm, model)](aim).flops
    jobs = []
    for arm in arms:
        made, network = family.make(arm, base, n), network_of(arm, model)
        recipe = quiet(made)
        if target is not None:
            recipe = forecasters[network].matched(recipe, target)
        cost = forecasters[network](recipe)
        for noise in noises:
            kind = made.noise_kind if noise or not any(noises) else Recipe.noise_kind
            for seed in seeds:
                place = arm_folder(arm) if match == "epochs" else f"{arm_folder(arm)}@cost"
                labels = {"arm": arm, "match": match, "data": data, "model": network}
                if match == "cost":
                    labels["matched_arm"] = match_arm
                job = Job(
                    recipe=recipe.with_options(seed=seed, noise=noise, noise_kind=kind),
                    data=data,
                    root=root,
                    model=network,
                    folder=out / f"noise-{noise:g}" / place / f"seed-{seed}",
                    device=device,
                    threads=threads,
                    labels=labels,
                    cost=cost,
                    workers=workers,
                )
                labels["command"] = describe(job)
                jobs.append(job)
    return sorted(jobs, key=lambda job: -job.cost.trained)


def quiet(recipe: Recipe) -> Recipe:
    """Return a recipe as forecasts take it, whose noise is still to come."""
    return recipe.with_options(noise_kind=Recipe.noise_kind)


def run_job(job: Job) -> dict[str, Any]:
    """Make one run (or read it, where it is finished) and return its results."""
    result = fit_fresh(
        job.recipe,
        job.data,
        job.root,
        job.model,
        job.folder,
        device=job.device,
        threads=job.threads,
        labels=job.labels,
        workers=job.workers,
    )
    return result.results


def fit_fresh(
    recipe: Recipe,
    data: str,
    root: str | None,
    model: str,
    folder: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    labels: dict[str, Any],
    workers: int = 0,
    shared: Path | None = None,
    listener: Callable[[nn.Module, dict[str, Any]], None] | None = None,
) -> Result:
    """Train a fresh network in a folder (or read it back); a listener hears every line, with the network."""
    torch.set_num_threads(threads)
    splits = load(data, root)
    network = model_for(splits, model, recipe.seed)
    return recipe.fit(
        network,
        splits.train,
        splits.test,
        out=folder,
        device=device,
        augment=splits.augment,
        labels=labels,
        stopping=stopped,
        workers=workers,
        shared=shared,
        listener=None if listener is None else functools.partial(listener, network),
    )


def run_jobs(jobs: Sequence[W], workers: int) -> Generator[tuple[W, dict[str, Any] | SartorError], None, None]:
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
    stop, left = context.Event(), deque(jobs)
    running: dict[Future[dict[str, Any] | SartorError], W] = {}
    others = set(multiprocessing.active_children())

    def begin() -> None:
        with suppress(BrokenProcessPool):
            while left and len(running) < workers:
                running[pool.submit(attempt, left[0])] = left[0]
                left.popleft()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with signals(signal.SIG_IGN, signal.SIGINT):  # new processes take this over: only `stop` stops a worker
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker, initargs=(stop,))
        begin()
    try:
        with signals(handle, signal.SIGINT, signal.SIGTERM):
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, came_to = running.pop(future), outcome(future)
                    yield job, came_to
                    begin()
        for job in left:
            yield job, SartorError("not begun, since a process before it was killed; give the same command again.")
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_stop: Event | None = None
"""In a worker process: set when it shall save its state and end."""


def begin_worker(stop: Event) -> None:
    """Prepare a worker process: outside of a run, signals are for the first process, which sets `stop`."""
    global _stop  # noqa: PLW0603
    _stop = stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.showwarning = show_note


def stopped() -> bool:
    """Tell whether this process shall save its state and end: it is told so, or the one that would is gone."""
    first = multiprocessing.parent_process()
    return _stop is not None and (_stop.is_set() or (first is not None and not first.is_alive()))


def outcome(future: Future[dict[str, Any] | SartorError]) -> dict[str, Any] | SartorError:
    """Return what a run came to; a worker that was killed counts as a failed run."""
    try:
        return future.result()
    except BrokenProcessPool:
        return SartorError(
            "its process was killed, or one beside it, for lack of memory perhaps; give the same command again, with "
            "fewer --jobs if need be."
        )


def attempt(job: Work) -> dict[str, Any] | SartorError:
    """Make one run; an error that Sartor understands is returned, so that the other runs go on."""
    if stopped():
        return Stopped("stopped before it began.")
    try:
        return job.run()
    except SartorError as error:
        return error
    except Exception as error:
        return SartorError(f"{type(error).__name__}: {error}; run its own command with --debug to see where.")
