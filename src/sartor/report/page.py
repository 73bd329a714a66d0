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
from sartor.report.budget_table import budget_table
from sartor.report.budgets import ASKING, budgets_of, difference_at, flat_points
from sartor.report.collect import Collection, collect
from sartor.report.figures import Drawing, draw_figures
from sartor.report.kinds import KINDS
from sartor.report.statistics import Interval, paired_difference
from sartor.report.table import Block, Row, Setting, flat, tabulate, write_csv
from sartor.report.verdict import Verdict, judge, seed_range
from sartor.report.wording import counted

FORMAT = 1


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
    styles = styles_of(collection, blocks)
    make_folder(out)
    drawings: dict[Block, list[Drawing]] = {}
    for kind, own in styles.items():
        drawings |= draw_figures([block for block in blocks if block.setting.kind == kind], own, out / "figures")
    write_csv([line for block in blocks for line in lines_of(block)], out / "results.csv")
    text = json.dumps(as_json(blocks, verdict, collection.warnings), indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(out / "results.json", text + "\n")
    write_atomic(out / "report.html", render(collection, blocks, verdict, styles, drawings))
    return Report(rows, verdict, collection.warnings)


def styles_of(collection: Collection, blocks: Sequence[Block]) -> dict[str, dict[str, ArmStyle]]:
    """Return the looks of all arms, by kind of comparison: a name that two kinds have means two things."""
    given = [arm for comparison in collection.comparisons.values() for arm in comparison.arms]
    styles = {}
    for kind in dict.fromkeys(block.setting.kind for block in blocks):
        arms = [row.arm for block in blocks if block.setting.kind == kind for row in block.rows]
        styles[kind] = arm_styles(arm_order(arms, given, kind), kind)
    return styles


def lines_of(block: Block) -> list[dict[str, Any]]:
    """Return the lines of results.csv: one an arm, or one an arm and budget where labels are asked for."""
    if block.setting.kind == ASKING:
        return [line for row in block.rows for line in flat_points(block, row)]
    return [flat(row) for row in block.rows]


def as_json(blocks: Sequence[Block], verdict: Verdict, warnings: Sequence[str]) -> dict[str, Any]:
    """Return everything that the page says as plain values; numbers that were not measured are None."""
    rows = [
        {**flat(row), "accuracy_by_seed": {str(seed): value for seed, value in row.by_seed.items()}}
        for block in blocks
        for row in block.rows
    ]
    asked = [line for block in blocks if block.setting.kind == ASKING for line in lines_of(block)]
    return {
        "format": FORMAT,
        "headline": verdict.headline,
        "findings": {title: [finding.text for finding in findings] for title, findings in verdict.sections},
        "reading": list(verdict.reading),
        "rows": rows,
        **({"budgets": asked} if asked else {}),
        "differences": [line for block in blocks for line in differences(block)],
        "warnings": list(warnings),
    }


def differences(block: Block) -> list[dict[str, Any]]:
    """Return the joint arms minus each other arm, paired by seed; at each budget, where labels are asked for."""
    lines = []
    for row in block.joint_rows:
        for other in block.rows:
            if other is row:
                continue
            places: dict[int | None, Interval | None] = {None: paired_difference(row.by_seed, other.by_seed)}
            if block.setting.kind == ASKING:
                places = {size: difference_at(block, row.arm, other.arm, size) for size in budgets_of(block)}
            about = {**_where(block), "arm": row.arm, "minus": other.arm}
            for size, found in places.items():
                if found is not None:
                    lines.append(about | ({} if size is None else {"labelled": size}) | _ends(found))
    return lines


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
    styles: dict[str, dict[str, ArmStyle]],
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
    ]
    for kind, own_styles in styles.items():
        parts += [markup.key(own_styles), f'<p class="small">{html.escape(KINDS[kind].reading)}</p>']
    for setting in settings:
        own = [block for block in blocks if block.setting == setting]
        where = f"{Path(setting.comparison).name}: " if several and setting.comparison else ""
        parts.append(f"<h2>{html.escape(where + setting.title)}</h2>")
        written = budget_table if setting.kind == ASKING else markup.table
        parts.append(written(own, styles[setting.kind]))
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


def _board(setting: Setting, blocks: Sequence[Block], styles: dict[str, dict[str, ArmStyle]]) -> str:
    own = [block for block in blocks if block.setting == setting and block.match == "epochs"]
    return "".join(markup.board(block, styles[setting.kind]) for block in own if setting.kind != ASKING)


def _lead(collection: Collection, settings: Sequence[Setting]) -> str:
    seeds = {run.seed for run in collection.runs}
    titles = dict.fromkeys(setting.title for setting in settings)
    return " · ".join([counted(len(collection.runs), "run"), counted(len(seeds), "seed"), *titles])
