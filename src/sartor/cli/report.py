"""`sartor report FOLDER ...`: tables, figures and one HTML page from run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from sartor.cli.options import parse_options
from sartor.errors import ConfigError
from sartor.report import write_report
from sartor.torchrun import refuse_company


@dataclass(frozen=True, kw_only=True)
class Report:
    """Which runs to report on, and where to."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders above them."""
    out: Path | None = None
    """Where results.csv, results.json, report.html and figures/ go; if not given, the first folder, or report/ in it
    where it is a run's own."""


def run(arguments: Sequence[str]) -> int:
    """Write the report and print what it says."""
    refuse_company("sartor report", "start it without")
    options = parse_options(Report, arguments, prog="sartor report", description="Report on finished runs.")
    if not options.folders:
        raise ConfigError("name at least one run folder: sartor report runs/demo.")
    first = options.folders[0]
    out = options.out or (first / "report" if (first / "config.json").exists() else first)
    report = write_report(list(options.folders), out)
    print("\n".join([str(report.verdict), *(f"note: {warning}" for warning in report.warnings)]))
    print(f"\n{out / 'report.html'}")
    return 0
