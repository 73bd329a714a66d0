"""`sartor study NAME`: a question that much work answers, and the tables and figures that say what was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sartor.cli.options import parse_options
from sartor.comparison import Work, run_jobs
from sartor.errors import ConfigError, SartorError, Stopped
from sartor.files import make_folder, write_atomic
from sartor.registry import STUDIES
from sartor.report.wording import counted
from sartor.studies.known import ReusingStudy
from sartor.studies.study import Study
from sartor.torchrun import refuse_company

PRINTED = "table.md"


def run(arguments: Sequence[str]) -> int:
    """Do all work of a study, then write its tables and figures."""
    refuse_company("sartor study", "start it without, and with --jobs N for N runs at the same time")
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"name a study: sartor study {' | '.join(STUDIES)} ...; --help after it lists its options.")
    study = parse(arguments[0], arguments[1:])
    study.check()
    known = study.recalled()
    if known:
        print(f"{counted(len(known), 'run')} of other places stand for what would be made here", flush=True)
    if study.dry_run:
        print(study.forecast())
        return 0
    outcomes: dict[str, list[dict[str, Any]]] = {}
    failed = 0
    for name, works in study.stages().items():
        new = iter(made([work for work in works if work not in known], study.jobs, name))
        outcomes[name] = [dict(known[work]) if work in known else next(new) for work in works]
        lost = outcomes[name].count({})
        if lost and not study.can_miss(outcomes):
            raise SartorError(f"{lost} of {len(works)} {name} failed, see above; give the same command to try again.")
        failed += lost
    make_folder(study.out)
    if isinstance(study, ReusingStudy):
        study.refuse_unlike(outcomes)
    files = study.files(outcomes)
    for name, content in files.items():
        write_atomic(study.out / name, content)
    places = "\n".join(str(study.out / name) for name in files if name != "results.json")
    print(f"\n{files[PRINTED]!s}\n{places}")
    if failed:
        raise SartorError(
            f"{counted(failed, 'run')} failed, see above; the tables are those of the others. Try them again by the "
            "same command, or all with other options in another --out."
        )
    return 0


def parse(name: str, arguments: Sequence[str]) -> Study:
    """Make a study from flags, which override those that --quick stands for."""
    kind: Any = STUDIES[name]
    small = {"out": Path(f"runs/{name}-quick"), **kind.QUICK}
    options = ", ".join(f"{option.replace('_', '-')} {value}" for option, value in small.items())
    about = f"{kind.__doc__}\n\nThe study in small is --quick, which stands for {options}; other flags override it."
    given = [word for word in arguments if word != "--quick"]
    quick = small if len(given) < len(arguments) else None
    return parse_options(kind, given, prog=f"sartor study {name}", description=about, defaults=quick)


def made(works: Sequence[Work], jobs: int, what: str) -> list[dict[str, Any]]:
    """Do all work, showing how far it is, and return what it came to, in order; {} where it failed."""
    console, found = Console(), {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        task = progress.add_task(what, total=len(works))
        outcomes = stack.enter_context(contextlib.closing(run_jobs(works, jobs)))
        for count, (work, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, Stopped):
                raise Stopped(f"{outcome} {count - 1} of {len(works)} {what} were finished.")
            if not isinstance(outcome, SartorError):
                found[work] = outcome
            clock = time.monotonic() - started
            line = f"[{count:>3}/{len(works)} {clock:4.0f} s] {work.title}: {told(outcome)}"
            progress.print(line, markup=False, soft_wrap=True)
            progress.advance(task)
    return [found.get(work, {}) for work in works]


def told(outcome: dict[str, Any] | SartorError) -> str:
    """Say in a few words what a piece of work came to."""
    if isinstance(outcome, SartorError):
        return f"failed: {outcome}"
    if "test_accuracy" in outcome:
        return f"{100 * outcome['test_accuracy']:.2f} %, {outcome['seconds']:.1f} s"
    return "done"
