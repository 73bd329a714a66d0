import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_runs import ARMS, results, write_comparison, write_run

from sartor.report import Report, write_report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects text, attributes and unclosed elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("page")
    write_comparison(folder / "c", at_cost=("dense", "coreset-only", "redrawn"), seeds=range(3))
    return write_report([folder / "c"], folder / "report"), folder / "report"


def test_the_folder_holds_what_it_should(written: tuple[Report, Path]) -> None:
    _, out = written
    assert sorted(path.name for path in out.iterdir()) == ["figures", "report.html", "results.csv", "results.json"]


def test_the_page_says_the_verdict_first_and_shows_every_arm(written: tuple[Report, Path]) -> None:
    report, out = written
    reader = Reader()
    reader.feed((out / "report.html").read_text())
    assert reader.open == []
    text = "".join(reader.text)
    assert report.verdict.headline in text
    assert text.index(report.verdict.headline) < text.index("The arms") < text.index("at equal epochs")
    for sentence in report.verdict.reading:
        assert sentence in text
    for arm in ARMS:
        assert arm in text
    assert "at the cost of swast-cut" in text
    assert "sartor compare swast --data digits --seeds 5" in text
    assert text.count("sartor train swast") == len(ARMS) * 6 + 18


def test_the_page_needs_nothing_else(written: tuple[Report, Path]) -> None:
    page = (written[1] / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert not reader.tags & {"script", "link", "img", "iframe", "object"}
    loaded = [value for name, value in reader.attributes if name in ("href", "src", "xlink:href")]
    assert all(value.startswith("#") for value in loaded)
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page


def test_results_json_holds_rows_verdict_and_differences(written: tuple[Report, Path]) -> None:
    report, out = written
    raw = json.loads((out / "results.json").read_text())
    assert raw["headline"] == report.verdict.headline
    assert len(raw["rows"]) == len(report.rows)
    assert raw["rows"][0]["accuracy_by_seed"].keys() == {"0", "1", "2"}
    found = [d for d in raw["differences"] if (d["arm"], d["minus"]) == ("swast-cut", "coreset-only")]
    assert [(d["noise"], d["match"], d["n"]) for d in found] == [
        (0.0, "epochs", 3),
        (0.0, "cost", 3),
        (0.2, "epochs", 3),
        (0.2, "cost", 3),
    ]


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", arms=("coreset-only", "swast-cut"), seeds=(0, 1), noises=(0.2,))
    write_report([folder], tmp_path / "one")
    write_report([folder], tmp_path / "two")
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_report_inside_the_runs_can_be_written_again(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, arms=("coreset-only", "swast-cut"), seeds=(0, 1), noises=(0.0,))
    first = write_report([folder], folder / "report")
    second = write_report([folder], folder / "report")
    assert first.warnings == second.warnings == ()
    assert len(first.rows) == len(second.rows) == 2


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>&'
    run = results("dense", 0, 0.0, model=hostile, command=f"sartor train {hostile}")
    write_run(tmp_path / "a", {**run, "arm": hostile, "data": hostile})
    write_report([tmp_path / "a"], tmp_path / "report")
    reader = Reader()
    reader.feed((tmp_path / "report" / "report.html").read_text())
    assert "script" not in reader.tags
    assert hostile in "".join(reader.text)


def test_one_run_alone_makes_a_page_without_intervals(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("swast-cut", 0, 0.2))
    report = write_report([tmp_path / "a"], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert report.verdict.headline.startswith("Nothing can be said about joint training")
    reader = Reader()
    reader.feed(page)
    assert not re.search(r"\bnan\b", "".join(reader.text), re.IGNORECASE)
    assert report.rows[0].n == 1


def test_what_was_left_out_is_on_the_page(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("dense", 0, 0.0))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{}")
    report = write_report([tmp_path], tmp_path / "report")
    assert len(report.warnings) == 1
    assert "holds an unfinished run" in (tmp_path / "report" / "report.html").read_text()
