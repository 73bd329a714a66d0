"""`sartor compare`: SWaST beside its controls, over seeds and noise levels, then the report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sartor.cli.display import forecast_lines, outcome_line
from sartor.cli.options import command, differing, parse_options
from sartor.comparison import Job, load, model_for, plan_jobs, run_jobs
from sartor.errors import ConfigError, ResumeError, SartorError, Stopped, check_choice, check_range
from sartor.files import make_folder, read_object, set_aside, write_json
from sartor.recipes.arms import ARMS, DEFAULT_ARMS, EQUAL_STEPS, arm_folder, check_arms
from sartor.recipes.forecast import seconds_per_sample
from sartor.recipes.setup import pick_device, prepare_data
from sartor.recipes.swast import SWaST
from sartor.registry import parse
from sartor.report import write_report
from sartor.run_folder import refuse_other_configuration
from sartor.torchrun import refuse_company

MATCHED = "swast-cut"
REPORTED = ("report.html", "results.", "figures", "compare.json")
"""How the names begin of what a report, or a damaged compare.json, leaves beside the runs."""


@dataclass(frozen=True, kw_only=True)
class Base(SWaST):
    """SWaST's options, but for those that a comparison varies."""

    seed: tyro.conf.Suppress[int] = 0
    noise: tyro.conf.Suppress[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Compare:
    """What to compare, on what, and where to keep it."""

    data: str = "digits"
    """Data set (sartor list datasets), or a folder of pictures, a .csv, .jsonl or .npz file."""
    root: Path | None = None
    """Folder that holds the files of a data set given by name, or its one file."""
    model: str = "cnn"
    """Network, with options: cnn(width=16), timm:NAME, torchvision:NAME; your own as package.module:factory or
    file.py:factory (sartor list models)."""
    out: Path = Path("runs/compare")
    """Folder of all runs and of the report; the same command goes on where it stopped, another one adds its runs."""
    arms: tuple[str, ...] | None = None
    """Arms to run: dense dense-steps random redrawn coreset-only prune-only swast-trim swast-cut if not given (at equal
    cost without dense-steps), beside them coreset-only+preserve and prune-only+preserve; options of an arm go in
    brackets, such as "swast-cut(sparsity=0.5)"."""
    seeds: int = 5
    """Number of seeds, 0, 1, ..."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong, each a table of its own."""
    match: Literal["epochs", "cost"] = "epochs"
    """Give every arm the same epochs, or the length that brings it to the total FLOPs of one arm."""
    match_arm: str | None = None
    """The arm whose FLOPs are met by --match cost; swast-cut, if not given."""
    jobs: int = 1
    """Runs at the same time, one process each."""
    threads: int = 1
    """CPU threads of each run."""
    workers: int = 0
    """Processes of each run that read streamed data ahead; their number changes no result."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dry_run: bool = False
    """Print what each arm would cost, and stop."""
    recipe: tyro.conf.OmitArgPrefixes[Base] = field(default_factory=Base)


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, run all, report."""
    refuse_company("sartor compare", "start it without, and with --jobs N for N runs at the same time")
    about: dict[str, Any] = {"prog": "sartor compare", "description": "Run SWaST beside its controls."}
    options = parse_options(Compare, arguments, **about, recipe=SWaST.name)
    base = SWaST(**{f.name: getattr(options.recipe, f.name) for f in dataclasses.fields(SWaST)})
    check(options, base)
    jobs = plan(options, base)
    check_jobs(jobs)
    if options.dry_run:
        print_forecasts(options, base, jobs)
        return 0
    prepare_folder(options, base)
    failed = execute(jobs, options.jobs)
    if failed == len(jobs):
        raise SartorError(f"{failed} of {len(jobs)} runs failed, see above; nothing is left to report on.")
    report = write_report([options.out], options.out)
    print("\n".join(["", str(report.verdict), *(f"note: {warning}" for warning in report.warnings)]))
    print(f"\n{options.out / 'report.html'}")
    if failed:
        raise SartorError(f"{failed} of {len(jobs)} runs failed, see above; give the same command to try them again.")
    return 0


def arms_of(options: Compare) -> tuple[str, ...]:
    """Return the arms named, or the default ones."""
    if options.arms is not None:
        return options.arms
    return DEFAULT_ARMS if options.match == "epochs" else tuple(arm for arm in DEFAULT_ARMS if arm != EQUAL_STEPS)


def check(options: Compare, base: SWaST) -> None:
    """Refuse what no comparison can be made of."""
    check_range("seeds", options.seeds, 1, float("inf"), high_open=True)
    check_range("jobs", options.jobs, 1, float("inf"), high_open=True)
    check_range("threads", options.threads, 1, os.cpu_count() or 1)
    check_range("workers", options.workers, 0, float("inf"), high_open=True)
    for noise in options.noise:
        check_range("noise", noise, 0, 1, high_open=True)
    arms = arms_of(options)
    for option, values in (("arms", arms), ("noise", options.noise)):
        if not values:
            raise ConfigError(f"{option} is empty; name at least one, or leave --{option} out.")
    if options.match_arm is not None and options.match != "cost":
        raise ConfigError("match_arm is for --match cost; leave it out.")
    for name in (*arms, options.match_arm or MATCHED):
        check_choice("arm", parse(name)[0], ARMS)
    if options.match == "cost" and EQUAL_STEPS in [parse(name)[0] for name in arms]:
        raise ConfigError(f"{EQUAL_STEPS} means equal steps; at equal cost leave it out, dense is the control then.")
    if len({arm_folder(arm) for arm in arms}) < len(arms) or len(set(options.noise)) < len(options.noise):
        raise ConfigError("an arm or a noise level is named twice; name each once.")
    check_arms(arms, base)
    pick_device(options.device)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse, before anything runs, what each of the arms would refuse."""
    for job in {job.labels["arm"]: job for job in jobs if job.recipe.seed == 0}.values():
        splits = load(job.data, job.root)
        data = prepare_data(job.recipe, splits.train, splits.test, splits.augment)
        job.recipe.check_data(model_for(splits, job.model), data)


def plan(options: Compare, base: SWaST) -> list[Job]:
    """List the runs."""

    def describe(job: Job) -> str:
        places = {name: getattr(options, name) for name in ("data", "root", "model", "device", "threads", "workers")}
        given = {name: value for name, value in places.items() if value != getattr(Compare(), name)}
        return command(f"sartor train {job.recipe.name}", given | differing(job.recipe) | {"out": job.folder})

    return plan_jobs(
        base,
        data=options.data,
        root=None if options.root is None else str(options.root),
        model=options.model,
        out=options.out,
        arms=arms_of(options),
        seeds=range(options.seeds),
        noises=options.noise,
        match=options.match,
        match_arm=options.match_arm or MATCHED,
        device=options.device,
        threads=options.threads,
        workers=options.workers,
        describe=describe,
    )


def prepare_folder(options: Compare, base: SWaST) -> None:
    """Write compare.json; a folder that holds a comparison already keeps its arms, seeds and noise levels too."""
    path = options.out / "compare.json"
    if options.out.exists() and not path.exists():
        places = options.out.iterdir() if options.out.is_dir() else [options.out]
        ours = REPORTED if any(options.out.glob("noise-*/*/seed-*/config.json")) else ()
        strangers = [place.name for place in places if not place.name.startswith((".", "noise-", *ours))]
        if strangers:
            raise ResumeError(
                f"{options.out} exists and holds {strangers[0]}, but no comparison; choose another --out."
            )
    known = known_of(path)
    make_folder(options.out)
    again = command("sartor compare", differing(options, leave_out=("recipe",)) | differing(base))
    arms = set(known.get("arms", [])) | set(arms_of(options))
    fixed = {"data": options.data, "model": options.model} | dataclasses.asdict(base)
    if "options" in known:
        refuse_other_configuration(options.out, known["options"], json.loads(json.dumps(fixed)), SWaST.defaults())
    merged = {
        "options": fixed,
        "arms": sorted(arms, key=lambda name: (list(ARMS).index(parse(name)[0]), name)),
        "baseline": "coreset-only",
        "random": "redrawn",
        "seeds": sorted({*known.get("seeds", []), *range(options.seeds)}),
        "noises": sorted({*known.get("noises", []), *options.noise}),
        "command": again,
        "commands": list(dict.fromkeys([*known.get("commands", []), again])),
    }
    write_json(path, merged)


def known_of(path: Path) -> dict[str, Any]:
    """Read compare.json, {} where there is none. One that is damaged is set aside; only its list of runs is lost."""
    if not path.exists():
        return {}
    try:
        known = read_object(path)
    except SartorError:
        known = {}
    lists = [known.get(name) for name in ("arms", "seeds", "noises", "commands")]
    sound = isinstance(known.get("options"), dict) and all(isinstance(each, list) for each in lists)
    if sound and all(str(arm).partition("(")[0] in ARMS for arm in known["arms"]):
        return known
    warnings.warn(
        f"{path} is damaged and written anew for this command; the runs are untouched. If other commands added arms, "
        "seeds or noise levels here, give them again to list those.",
        stacklevel=2,
    )
    set_aside(path)
    return {}


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


def print_forecasts(options: Compare, base: SWaST, jobs: Sequence[Job]) -> None:
    """Print what each arm would cost."""
    splits = load(options.data, None if options.root is None else str(options.root))
    seconds = seconds_per_sample(base, model_for(splits, options.model), splits.train)
    total = 0.0
    for arm in arms_of(options):
        job = next(job for job in jobs if job.labels["arm"] == arm)
        print("\n".join([arm, *(f"  {line}" for line in forecast_lines(job.cost, seconds))]))
        total += job.cost.seconds(seconds) * options.seeds * len(options.noise)
    print(f"all {len(jobs)} runs, {options.jobs} at a time: about {total / options.jobs:.0f} s")
