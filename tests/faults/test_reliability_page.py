"""docs/reliability.md and the tests of this folder name the same faults, so neither can say what the other does not."""

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
CELLS = 3
"""A fault, what happens, what to do."""


def rows() -> list[list[str]]:
    """The cells of all table rows of the page, without the heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "fault" and not set(row[0]) <= set("-|: ")]


def covered() -> dict[str, list[str]]:
    """What the tests say that they stand behind, and which tests those are."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "covers":
                    for name in map(ast.literal_eval, mark.args):
                        found.setdefault(name, []).append(node.name)
    return found


def test_every_fault_of_the_page_is_tested_and_the_other_way_round() -> None:
    told, tested = [re.sub(r"[`*]", "", row[0]) for row in rows()], covered()
    assert len(told) == len(set(told)), "a fault has two rows"
    assert set(told) == set(tested), (
        f"not on the page: {sorted(set(tested) - set(told))}; no test covers: {sorted(set(told) - set(tested))}"
    )


def test_every_row_says_what_happens_and_what_to_do() -> None:
    assert len(rows()) > 40
    for row in rows():
        assert len(row) == CELLS, row
        assert all(row), row


def test_every_test_of_a_fault_says_which() -> None:
    named = {name for names in covered().values() for name in names}
    for path in sorted(Path(__file__).parent.glob("test_fault_*.py")):
        tests = [
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        ]
        missing = [name for name in tests if name.startswith("test_") and name not in named]
        slow_twins = [name for name in missing if name.endswith("_every_change")]
        assert missing == slow_twins, path.name
