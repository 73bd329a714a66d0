"""The report: results.csv, results.json, figures/ and one page, report.html, that opens from disk."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sartor.errors import DataError
from sartor.files import make_folder, write_atomic
from sartor.report import markup
from sartor.report.arms import ArmStyle, arm_order, arm_styles
from sartor.report.collect import Collection, collect
from sartor.report.figures import Drawing, draw_figures
from sartor.report.statistics import Interval, paired_difference
from sartor.report.table import Block, Row, Setting, flat, tabulate, write_csv
from sartor.report.verdict import Verdict, judge, seed_range
from sartor.report.wording import counted

FORMAT = 1

_CONVENTIONS = (
    "In the tables, accuracies are means over seeds ± half of their 95 % t-interval, at the last epoch; the best epoch "
    "was picked on the test set, so it flatters every arm. Differences are paired by seed, with their 95 % interval: "
    "▲ better, ▼ worse, no mark: no difference could be shown. Data epochs are samples trained on, over the size of "
    "the training set. FLOPs and time include selection and leave monitoring out; the percentage beside FLOPs is of "
    "dense. Selection's share is of the FLOPs."
)


@dataclass(frozen=True, eq=False)
class Report:
    """What was written: the rows of the table, the verdict (its text is `str(verdict)`), what was left out."""

    rows: tuple[Row, ...]
    verdict: Verdict
    warnings: tuple[str, ...]


def write_report(folders: Sequence[Path], out: Path) -> Report:
    """Report on all finished runs below `folders`, in the folder `out`.

    Writes report.html (one file, nothing loaded from elsewhere), results.csv, results.json and figures/*.svg.
    Raises: DataError: when a folder is missing, no finished run is found, or `out` is a run's own folder, whose
    results.json would be lost. SartorError: without matplotlib.
    """
    if (out / "config.json").exists():
        raise DataError(f"{out} is a run's own folder, whose results.json would be lost; choose another --out.")
    collection = collect(folders)
    blocks = tabulate(collection)
    verdict = judge(blocks)
    rows = tuple(row for block in blocks for row in block.rows)
    given = [arm for comparison in collection.comparisons.values() for arm in comparison.arms]
    styles = arm_styles(arm_order((row.arm for row in rows), given))
    make_folder(out)
    drawings = draw_figures(blocks, styles, out / "figures")
    write_csv(rows, out / "results.csv")
    text = json.dumps(as_json(blocks, verdict, collection.warnings), indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(out / "results.json", text + "\n")
    write_atomic(out / "report.html", render(collection, blocks, verdict, styles, drawings))
    return Report(rows, verdict, collection.warnings)


def as_json(blocks: Sequence[Block], verdict: Verdict, warnings: Sequence[str]) -> dict[str, Any]:
    """Return everything that the page says as plain values; numbers that were not measured are None."""
    rows = [
        {**flat(row), "accuracy_by_seed": {str(seed): value for seed, value in row.by_seed.items()}}
        for block in blocks
        for row in block.rows
    ]
    differences = [
        {**_where(block), "arm": row.arm, "minus": other.arm, **_ends(found)}
        for block in blocks
        for row in block.joint_rows
        for other in block.rows
        if other is not row and (found := paired_difference(row.by_seed, other.by_seed)) is not None
    ]
    return {
        "format": FORMAT,
        "headline": verdict.headline,
        "findings": {title: [finding.text for finding in findings] for title, findings in verdict.sections},
        "reading": list(verdict.reading),
        "rows": rows,
        "differences": differences,
        "warnings": list(warnings),
    }


def _where(block: Block) -> dict[str, Any]:
    setting = block.setting
    where = {"comparison": setting.comparison, "data": setting.data, "model": setting.model, "noise": setting.noise}
    return {**where, "match": block.match, "matched_arm": block.matched_arm}


def _ends(interval: Interval) -> dict[str, Any]:
    known = not math.isnan(interval.low)
    ends = {"low": interval.low if known else None, "high": interval.high if known else None}
    return {"mean": interval.mean, **ends, "n": interval.n, "outcome": interval.outcome}


def render(
    collection: Collection,
    blocks: Sequence[Block],
    verdict: Verdict,
    styles: dict[str, ArmStyle],
    drawings: dict[Block, list[Drawing]],
) -> str:
    """Return the whole page as text: verdict, key, then table and figures of each setting, commands."""
    style = resources.files("sartor.report").joinpath("page.css").read_text(encoding="utf-8")
    settings = list(dict.fromkeys(block.setting for block in blocks))
    several = len({setting.comparison for setting in settings}) > 1
    parts = [
        '<p class="brand">Sartor report</p>',
        f"<h1>{markup.unbroken(verdict.headline)}</h1>",
        f'<p class="lead">{html.escape(_lead(collection, settings))}</p>',
        markup.findings(verdict, [_board(setting, blocks, styles) for setting in settings]),
        markup.notice(collection.warnings),
        "<h2>The arms</h2>",
        markup.key(styles),
        f'<p class="small">{html.escape(_CONVENTIONS)}</p>',
    ]
    for setting in settings:
        own = [block for block in blocks if block.setting == setting]
        where = f"{Path(setting.comparison).name}: " if several and setting.comparison else ""
        parts.append(f"<h2>{html.escape(where + setting.title)}</h2>")
        parts.append(markup.table(own, styles))
        for block in own:
            if block in drawings:
                parts.append(markup.figures(drawings[block], f"n = {seed_range([block])}."))
    parts.append(markup.commands(collection))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sartor report</title><style>{style}</style></head>\n<body><main>"
        f"{chr(10).join(part for part in parts if part)}</main></body></html>\n"
    )


def _board(setting: Setting, blocks: Sequence[Block], styles: dict[str, ArmStyle]) -> str:
    own = [block for block in blocks if block.setting == setting and block.match == "epochs"]
    return "".join(markup.board(block, styles) for block in own)


def _lead(collection: Collection, settings: Sequence[Setting]) -> str:
    seeds = {run.seed for run in collection.runs}
    titles = dict.fromkeys(setting.title for setting in settings)
    return " · ".join([counted(len(collection.runs), "run"), counted(len(seeds), "seed"), *titles])
