"""Parts of the page: table, key of arms, findings, figures, commands."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence

from sartor.report.arms import ArmStyle, is_joint
from sartor.report.collect import Collection
from sartor.report.figures import Drawing
from sartor.report.statistics import Interval, paired_difference
from sartor.report.table import Block, Row
from sartor.report.verdict import Verdict
from sartor.report.wording import NOTHING, brief_percent, flops, plus_minus, seconds, short, signed, span

_SIGNS = {"better": "▲", "worse": "▼"}


def unbroken(text: str) -> str:
    """Escape a sentence and keep names with hyphens on one line."""
    return re.sub(r"[\w+]+(?:-[\w+]+)+", r'<span class="whole">\g<0></span>', html.escape(text))


def findings(verdict: Verdict, boards: Sequence[str]) -> str:
    """Write one card per setting: the claim, its board of differences, then the other findings under their topics."""
    cards = []
    for (title, found), board in zip(verdict.sections, boards):
        parts = []
        shown = [finding for finding in found if not finding.tabled]
        for number, (topic, group) in enumerate(itertools.groupby(shown, key=lambda finding: finding.topic)):
            texts = "".join(f"<p>{unbroken(finding.text)}</p>" for finding in group)
            claim = ' class="claim"' if number == 0 else ""
            parts.append(f"<dt>{html.escape(topic)}</dt><dd{claim}>{texts}</dd>{board if number == 0 else ''}")
        cards.append(f'<section class="card"><h3>{html.escape(title)}</h3><dl>{"".join(parts)}</dl></section>')
    reading = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in verdict.reading)
    return f'<div class="findings">{"".join(cards)}</div><ul class="reading small">{reading}</ul>'


def board(block: Block, styles: dict[str, ArmStyle]) -> str:
    """Write the differences of the joint arms and the baseline (columns) to the other arms (rows)."""
    joint = block.joint_rows
    columns = [*joint, *(row for row in block.rows if row.arm == block.baseline)]
    others = [row for row in block.rows if row not in joint]
    if not joint or not others:
        return ""
    head = "".join(f"<th>{chip(styles[row.arm])}{unbroken(short(row.arm))}</th>" for row in columns)
    lines = []
    for other in others:
        cells = (difference(None if row is other else paired_difference(row.by_seed, other.by_seed)) for row in columns)
        lines.append(f"<tr><td>{html.escape(other.arm)}</td>{''.join(cells)}</tr>")
    text = "minus this arm (pp)"
    table = f"<thead><tr><th>{text}</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<dt>Differences</dt><dd class="wide"><table class="board">{table}</table></dd>'


def notice(warnings: Sequence[str]) -> str:
    """Write what was left out, or nothing."""
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return f'<aside class="notice"><b>Left out or missing</b><ul>{items}</ul></aside>' if items else ""


def key(styles: dict[str, ArmStyle]) -> str:
    """Write the key of colours with each arm in words."""
    items = (
        f"<li>{chip(style)}<b>{html.escape(arm)}</b> <span>{html.escape(style.text)}</span></li>"
        for arm, style in styles.items()
    )
    return f'<ul class="key">{"".join(items)}</ul>'


def table(blocks: Sequence[Block], styles: dict[str, ArmStyle]) -> str:
    """Write the blocks of one setting as one table: equal epochs first, then each block at equal cost."""
    columns = columns_of(blocks[0])
    body = []
    for block in blocks:
        if block.match == "cost":
            text = f"at the cost of {block.matched_arm}: differences are to the arms of this part"
            text = text if block.matched_arm else "at matched cost"
            body.append(f'<tr><td class="block" colspan="{len(columns)}">{html.escape(text)}</td></tr>')
        elif len(blocks) > 1:
            body.append(f'<tr><td class="block" colspan="{len(columns)}">at equal epochs</td></tr>')
        for row in block.rows:
            joint = ' class="joint"' if is_joint(row.arm) else ""
            cells = "".join(cell(row, styles[row.arm]) for cell in columns.values())
            body.append(f"<tr{joint}>{cells}</tr>")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def columns_of(block: Block) -> dict[str, Callable[[Row, ArmStyle], str]]:
    """Return the columns of a table: heading -> what writes a row's cell."""
    before: dict[str, Callable[[Row, ArmStyle], str]] = {}
    if block.setting.kind == "pruning":
        before = {
            "before pruning (%)": lambda row, _: f"<td>{plus_minus(row.trained_accuracy)}</td>",
            "after pruning (%)": lambda row, _: f"<td>{plus_minus(row.pruned_accuracy)}</td>",
        }
    columns = {
        "arm": lambda row, style: f"<td>{chip(style)}{html.escape(row.arm)}</td>",
        **before,
        "after tuning (%)" if before else "accuracy (%)": lambda row, _: (
            f'<td class="main">{plus_minus(row.accuracy)}</td>'
        ),
        "best epoch (%)": lambda row, _: (
            f"<td>{NOTHING if row.best_accuracy is None else f'{row.best_accuracy.mean:.1f}'}</td>"
        ),
        f"minus {block.baseline} (pp)": lambda row, _: difference(row.minus_baseline),
        f"minus {block.random} (pp)": lambda row, _: difference(row.minus_random),
        "FLOPs": lambda row, _: f"<td>{flops(row.flops, '')}{aside(brief_percent(row.flops_relative))}</td>",
        "time": lambda row, _: f"<td>{seconds(row.seconds)}</td>",
        "data epochs": lambda row, _: (
            f"<td>{NOTHING if row.epoch_equivalents is None else f'{row.epoch_equivalents:.1f}'}</td>"
        ),
        "selection's share": lambda row, _: (
            f"<td>{brief_percent(row.selection_share) if row.selection_share else NOTHING}</td>"
        ),
        "weights kept": lambda row, _: f"<td>{brief_percent(row.kept_weights)}</td>",
        "wrong labels in coreset": lambda row, _: f"<td>{brief_percent(row.noise_ratio)}</td>",
    }
    left_out = {"selection's share"} if before else set()
    left_out |= {"wrong labels in coreset"} if before and not block.setting.noise else set()
    return {name: cell for name, cell in columns.items() if name not in left_out}


def figures(drawings: Iterable[Drawing], measured: str) -> str:
    """Write the figures as a grid of cards; `measured` ends every caption."""
    cards = (
        f'<figure class="card"><h3>{html.escape(drawing.title)}</h3>{drawing.svg}'
        f"<figcaption>{html.escape(drawing.caption)} {html.escape(measured)}</figcaption></figure>"
        for drawing in drawings
    )
    return f'<div class="figures">{"".join(cards)}</div>'


def commands(collection: Collection) -> str:
    """Write the commands that repeat the comparisons and, folded, every single run."""
    whole = [comparison.command for comparison in collection.comparisons.values() if comparison.command]
    single = [run.command for run in collection.runs if run.command]
    parts = [f"<pre>{html.escape(chr(10).join(whole))}</pre>"] if whole else []
    if single:
        lines = html.escape("\n".join(single))
        parts.append(f"<details><summary>Each run by itself ({len(single)})</summary><pre>{lines}</pre></details>")
    return f"<h2>Repeat it</h2>{''.join(parts)}" if parts else ""


def difference(interval: Interval | None) -> str:
    """Write a difference as a cell: its sign, the points, the ends of its interval."""
    if interval is None:
        return f"<td>{NOTHING}</td>"
    ends = "" if math.isnan(interval.low) else aside(span(interval))
    sign = _SIGNS.get(interval.outcome, "")
    return f'<td><span class="{interval.outcome}">{sign} {signed(interval.mean)}</span>{ends}</td>'


def aside(text: str) -> str:
    """Write what stands beside a number, smaller."""
    return f'<span class="aside">{text}</span>'


def chip(style: ArmStyle) -> str:
    """Write the coloured mark of an arm."""
    hollow = " hollow" if style.hollow else ""
    return f'<span class="chip{hollow}" style="--arm:{style.colour}"></span>'
