"""`sartor study NAME`: a question that many runs answer, and the table that says what was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sartor.cli.options import parse_options
from sartor.comparison import Work, run_jobs
from sartor.errors import ConfigError, SartorError, Stopped, check_choice
from sartor.files import make_folder, to_json, write_atomic
from sartor.studies import SelectorStudy
from sartor.studies.selector_table import as_csv, as_markdown, lines_of
from sartor.torchrun import refuse_company

STUDIES = {"selectors": SelectorStudy}


def run(arguments: Sequence[str]) -> int:
    """Make all runs of a study, then its tables."""
    refuse_company("sartor study", "start it without, and with --jobs N for N runs at the same time")
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"name a study: sartor study {' | '.join(STUDIES)} ...; --help after it lists its options.")
    check_choice("study", arguments[0], STUDIES)
    kind = STUDIES[arguments[0]]
    study = parse_options(kind, arguments[1:], prog=f"sartor study {arguments[0]}", description=kind.__doc__ or "")
    study.check()
    if study.dry_run:
        print(study.forecast())
        return 0
    scorers, cells = study.scorers(), study.cells()
    looked = made(scorers, study.jobs, "networks to choose by")
    results = made(cells, study.jobs, "choices")
    by_place = {(scorer.noise, scorer.seed): found for scorer, found in zip(scorers, looked)}
    lines = lines_of(results, by_place)
    make_folder(study.out)
    write_atomic(study.out / "results.json", to_json({"format": 1, "cells": results}))
    write_atomic(study.out / "results.csv", as_csv(lines))
    write_atomic(study.out / "table.md", as_markdown(lines))
    print(f"\n{as_markdown(lines)}\n{study.out / 'table.md'}\n{study.out / 'results.csv'}")
    return 0


def made(works: Sequence[Work], jobs: int, what: str) -> list[dict[str, Any]]:
    """Make all runs, showing how far they are, and return their results in order.

    Raises: SartorError: where one failed, after all others were made.
    """
    console, found = Console(), {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started, failed = time.monotonic(), 0
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        task = progress.add_task(what, total=len(works))
        outcomes = stack.enter_context(contextlib.closing(run_jobs(works, jobs)))
        for count, (work, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, Stopped):
                raise Stopped(f"{outcome} {count - 1} of {len(works)} {what} were finished.")
            failed += isinstance(outcome, SartorError)
            if isinstance(outcome, SartorError):
                text = f"failed: {outcome}"
            else:
                found[work] = outcome
                text = f"{100 * outcome['test_accuracy']:.2f} %, {outcome['seconds']:.1f} s"
            clock = time.monotonic() - started
            line = f"[{count:>3}/{len(works)} {clock:4.0f} s] {work.title}: {text}"
            progress.print(line, markup=False, soft_wrap=True)
            progress.advance(task)
    if failed:
        raise SartorError(f"{failed} of {len(works)} {what} failed, see above; give the same command to try again.")
    return [found[work] for work in works]
