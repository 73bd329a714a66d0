"""`sartor compare [FAMILY]`: a method beside its controls, over seeds and noise levels, then the report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from sartor.cli.comparing import execute, print_forecasts
from sartor.cli.comparison_folder import prepare_folder
from sartor.cli.options import command, differing, parse_options
from sartor.comparison import Job, load, plan_jobs
from sartor.errors import ConfigError, SartorError, check_choice, check_range
from sartor.recipes.arms import EQUAL_STEPS, JOINT
from sartor.recipes.families import FAMILIES
from sartor.recipes.family import Family, arm_folder
from sartor.recipes.forecaster import model_for
from sartor.recipes.recipe import Recipe
from sartor.recipes.setup import pick_device, prepare_data
from sartor.registry import parse
from sartor.report import write_report
from sartor.torchrun import refuse_company

MATCHED = "swast-cut"


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
    """Arms to run."""
    seeds: int = 5
    """Number of seeds, 0, 1, ..."""
    noise: tuple[float, ...] = (0.0,)
    """Shares of training labels made wrong, each a table of its own."""
    match: Literal["epochs", "cost"] = "epochs"
    """Give every arm the same epochs, or (swast alone) the length that brings it to the total FLOPs of one arm."""
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


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, run all, report."""
    refuse_company("sartor compare", "start it without, and with --jobs N for N runs at the same time")
    family, words = split_family(arguments)
    program = "sartor compare" if family is JOINT else f"sartor compare {family.name}"
    about = f"{family.what} Families of arms: {', '.join(FAMILIES)}; {JOINT.name} if none is named first."
    parsed: Any = parse_options(kind_of(family), words, prog=program, description=about, recipe=family.name)
    options = Compare(**{option.name: getattr(parsed, option.name) for option in dataclasses.fields(Compare)})
    base = family.base(
        **{option.name: getattr(parsed.recipe, option.name) for option in dataclasses.fields(family.base)}
    )
    arms = arms_of(options, family)
    check(options, family, base, arms)
    jobs = plan(options, base, arms)
    check_jobs(jobs)
    if options.dry_run:
        print_forecasts(jobs, arms, base, options.jobs)
        return 0
    again = command(program, differing(options) | differing(base))
    fixed = {"data": options.data, "model": options.model}
    prepare_folder(
        options.out, family, base, fixed, arms=arms, seeds=range(options.seeds), noises=options.noise, again=again
    )
    failed = execute(jobs, options.jobs)
    if failed == len(jobs):
        raise SartorError(f"{failed} of {len(jobs)} runs failed, see above; nothing is left to report on.")
    report = write_report([options.out], options.out)
    print("\n".join(["", str(report.verdict), *(f"note: {warning}" for warning in report.warnings)]))
    print(f"\n{options.out / 'report.html'}")
    if failed:
        raise SartorError(f"{failed} of {len(jobs)} runs failed, see above; give the same command to try them again.")
    return 0


def split_family(arguments: Sequence[str]) -> tuple[Family, Sequence[str]]:
    """Return the family that is named first, SWaST's if none is, and the flags."""
    if not arguments or arguments[0].startswith("-"):
        return JOINT, arguments
    check_choice("what is compared", arguments[0], FAMILIES)
    return FAMILIES[arguments[0]], arguments[1:]


def kind_of(family: Family) -> type[Any]:
    """Make the dataclass that the flags fill: those of Compare, and the recipe's but for those that are varied."""
    recipe: Any = family.base
    hints = get_type_hints(recipe)
    hidden = [
        (name, Annotated[hints[name], tyro.conf.SuppressFixed, tyro.conf.Fixed], field(default=getattr(recipe, name)))
        for name in family.varied
    ]
    base: Any = dataclasses.make_dataclass("Base", hidden, bases=(recipe,), frozen=True, kw_only=True)
    fields: list[Any] = [
        ("arms", Annotated[tuple[str, ...] | None, tyro.conf.arg(help=arms_in_words(family))], field(default=None)),
        ("recipe", Annotated[base, tyro.conf.OmitArgPrefixes], field(default_factory=base)),
    ]
    return dataclasses.make_dataclass("Compare", fields, bases=(Compare,), frozen=True, kw_only=True)


def arms_in_words(family: Family) -> str:
    """Tell which arms there are, and which of them run where none is named."""
    further = " ".join(arm for arm in family.arms if arm not in family.default)
    beside = f", beside them {further}" if further else ""
    cost = f" (at equal cost without {EQUAL_STEPS})" if family.matches_cost else ""
    example = "swast-cut(sparsity=0.5)" if family is JOINT else f"{family.name}(sparsity=0.6)"
    return (
        f"Arms to run: {' '.join(family.default)} if not given{cost}{beside}; options of an arm go in brackets, such "
        f'as "{example}", its own network as model=.'
    )


def arms_of(options: Compare, family: Family) -> tuple[str, ...]:
    """Return the arms named, or the default ones."""
    if options.arms is not None:
        return options.arms
    return tuple(arm for arm in family.default if options.match == "epochs" or arm != EQUAL_STEPS)


def check(options: Compare, family: Family, base: Recipe, arms: Sequence[str]) -> None:
    """Refuse what no comparison can be made of."""
    check_range("seeds", options.seeds, 1, float("inf"), high_open=True)
    check_range("jobs", options.jobs, 1, float("inf"), high_open=True)
    check_range("threads", options.threads, 1, os.cpu_count() or 1)
    check_range("workers", options.workers, 0, float("inf"), high_open=True)
    for noise in options.noise:
        check_range("noise", noise, 0, 1, high_open=True)
    for option, values in (("arms", arms), ("noise", options.noise)):
        if not values:
            raise ConfigError(f"{option} is empty; name at least one, or leave --{option} out.")
    if options.match == "cost" and not family.matches_cost:
        raise ConfigError(f"--match cost is for {JOINT.name}; the report of {family.name} tells what each arm cost.")
    if options.match_arm is not None and options.match != "cost":
        raise ConfigError("match_arm is for --match cost; leave it out.")
    matched = [options.match_arm or MATCHED] if options.match == "cost" else []
    for name in (*arms, *matched):
        check_choice("arm", parse(name)[0], family.arms)
    if options.match == "cost" and EQUAL_STEPS in [parse(name)[0] for name in arms]:
        raise ConfigError(f"{EQUAL_STEPS} means equal steps; at equal cost leave it out, dense is the control then.")
    if len({arm_folder(arm) for arm in arms}) < len(arms) or len(set(options.noise)) < len(options.noise):
        raise ConfigError("an arm or a noise level is named twice; name each once.")
    family.check_arms([*arms, *matched], base)
    pick_device(options.device)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Refuse, before anything runs, what each of the arms would refuse."""
    for job in {job.labels["arm"]: job for job in jobs if job.recipe.seed == 0}.values():
        splits = load(job.data, job.root)
        data = prepare_data(job.recipe, splits.train, splits.test, splits.augment)
        job.recipe.check_data(model_for(splits, job.model), data)


def plan(options: Compare, base: Recipe, arms: Sequence[str]) -> list[Job]:
    """List the runs."""

    def describe(job: Job) -> str:
        places = {name: getattr(options, name) for name in ("data", "root", "device", "threads", "workers")}
        given = {
            name: value for name, value in ({**places, "model": job.model}).items() if value != getattr(Compare(), name)
        }
        return command(f"sartor train {job.recipe.name}", given | differing(job.recipe) | {"out": job.folder})

    return plan_jobs(
        base,
        data=options.data,
        root=None if options.root is None else str(options.root),
        model=options.model,
        out=options.out,
        arms=arms,
        seeds=range(options.seeds),
        noises=options.noise,
        match=options.match,
        match_arm=options.match_arm or MATCHED,
        device=options.device,
        threads=options.threads,
        workers=options.workers,
        describe=describe,
    )
