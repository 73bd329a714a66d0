"""The table of a comparison of ways to ask for labels: a part for each quantity, a column for each budget."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from sartor.report.arms import ArmStyle, is_joint
from sartor.report.budgets import COMPONENTS, Point, budgets_of, points_of
from sartor.report.markup import aside, chip, difference
from sartor.report.table import Block
from sartor.report.wording import NOTHING, flops, plus_minus, seconds

Cell = Callable[[Point], str]


def budget_table(blocks: Sequence[Block], styles: dict[str, ArmStyle]) -> str:
    """Write arms x budgets for each quantity that any of the arms has."""
    block = blocks[0]
    budgets, points = budgets_of(block), {row.arm: points_of(block, row) for row in block.rows}
    body = []
    for title, cell in parts_of_table(block).items():
        lines = []
        for arm, found in points.items():
            cells = {point.labelled: cell(point) for point in found}
            if all(text == EMPTY for text in cells.values()):
                continue
            joint = ' class="joint"' if is_joint(arm) else ""
            name = f"<td>{chip(styles[arm])}{html.escape(arm)}</td>"
            lines.append(f"<tr{joint}>{name}{''.join(cells.get(labelled, EMPTY) for labelled in budgets)}</tr>")
        if lines:
            body += [f'<tr><td class="block" colspan="{len(budgets) + 1}">{html.escape(title)}</td></tr>', *lines]
    head = "".join(f'<th scope="col">{labelled:,} labels</th>' for labelled in budgets)
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">arm</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


EMPTY = f"<td>{NOTHING}</td>"


def parts_of_table(block: Block) -> dict[str, Cell]:
    """Return the parts of the table: title -> what writes the cell of a point."""
    return {
        "test accuracy of the target in its last epoch (%); beside it, in its best": accuracy_cell,
        f"that minus {block.baseline} (pp)": lambda point: difference(point.minus_baseline),
        f"that minus {block.random} (pp)": lambda point: difference(point.minus_random),
        "test accuracy of what chooses (%)": selector_cell,
        "FLOPs of all selectors, choices and targets so far": lambda point: (
            EMPTY if point.flops is None else f"<td>{flops(point.flops, '')}</td>"
        ),
        "cost of the selectors so far, by the paper's convention": lambda point: (
            EMPTY if point.cost_paper is None else f"<td>{flops(point.cost_paper, '')}</td>"
        ),
        f"time of the round: {' / '.join(COMPONENTS)}": seconds_cell,
    }


def accuracy_cell(point: Point) -> str:
    """Write a target's accuracy, and the best of its epochs."""
    if point.accuracy is None:
        return EMPTY
    best = NOTHING if point.best_accuracy is None else f"{point.best_accuracy.mean:.1f}"
    return f'<td><span class="strong">{plus_minus(point.accuracy)}</span>{aside(best)}</td>'


def selector_cell(point: Point) -> str:
    """Write the accuracy of what chooses, and in how many runs it was that of chance."""
    lost = aside(f"chance in {point.at_chance} of {point.n}") if point.at_chance else ""
    if point.selector_accuracy is None:
        return f"<td>{NOTHING}{lost}</td>" if lost else EMPTY
    return f"<td>{plus_minus(point.selector_accuracy)}{lost}</td>"


def seconds_cell(point: Point) -> str:
    """Write the time of each component; what there was none of is left open."""
    if not any(point.seconds.values()):
        return EMPTY
    return f"<td>{' / '.join(seconds(value) if value else NOTHING for value in point.seconds.values())}</td>"
