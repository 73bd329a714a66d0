"""Tables, effects and sentences: what an interval shows, and nothing more."""

from __future__ import annotations

import csv
import io

import pytest
from matplotlib.figure import Figure

from sartor.report.charts import Chart, Panel, Series, as_csv, draw, series_of
from sartor.report.statistics import mean_interval
from sartor.studies.findings import (
    Effect,
    Findings,
    Table,
    bounded,
    compared,
    flat,
    rows_as_csv,
    shown,
    standing,
    tally,
)

UP, DOWN, UNCLEAR, ONE = (mean_interval(v) for v in ([1.0, 1.2, 1.1], [-1.0, -1.2, -1.1], [-1.0, 1.2, 0.1], [2.0]))


def test_an_effect_is_bold_where_it_leaves_out_0() -> None:
    assert str(Effect(UP)) == "**+1.10 (+0.85 to +1.35)**"
    assert str(Effect(UNCLEAR)).startswith("+0.10 (-")
    assert str(Effect(ONE, 1)) == "+2.0"
    assert str(Effect(None)) == ""


def test_sentences_say_no_more_than_the_interval() -> None:
    assert compared("a", "b", UP).startswith("a is better than b (+1.10 points, +0.85 to +1.35, n = 3)")
    assert compared("a", "b", DOWN).startswith("a is worse than b")
    assert compared("a", "b", UNCLEAR).startswith("Between a and b no difference could be shown")
    assert "shows nothing" in compared("a", "b", ONE)
    assert "Nothing stands beside a" in compared("a", "b", None)
    assert "of 3 comparisons, 1 above 0, 1 below 0, 1 where none" in tally("it", [UP, DOWN, UNCLEAR, None])
    assert "of 1 comparison, 1 above 0, 0 below 0" in tally("it", [UP, ONE])
    assert "1 more of one seed left out" in tally("it", [UP, ONE])
    assert "left out" not in tally("it", [UP, UP])
    assert "nothing is shown" in tally("it", [ONE, ONE])
    assert "nothing is shown" in tally("it", [])


def test_values_of_all_kinds() -> None:
    assert [shown(v) for v in (None, "a", 3, 0.123456, UP, ONE)] == ["", "a", "3", "0.1235", "1.10 ± 0.25", "2.00"]
    assert flat({"a": Effect(None), "b": 2}) == {"a_mean": None, "a_low": None, "a_high": None, "a_n": None, "b": 2}
    assert flat({"a": ONE}) == {"a_mean": 2.0, "a_low": None, "a_high": None, "a_n": 1}


def test_rows_of_several_tables_share_one_csv() -> None:
    tables = [Table("one", [{"x": 1, "y": UP}]), Table("two", [{"x": 2, "z": "c"}])]
    rows = list(csv.DictReader(io.StringIO(rows_as_csv(tables))))
    assert [row["table"] for row in rows] == ["one", "two"]
    assert (rows[0]["y_n"], rows[0]["z"], rows[1]["y_n"], rows[1]["z"]) == ("3", "", "", "c")
    assert tables[0].markdown().splitlines()[2:4] == ["| x | y |", "|---|---|"]
    assert Findings(tables, ["First.", "Second."]).text.startswith("- First.\n- Second.\n\n### one\n")


def test_a_figure_is_data_and_a_picture() -> None:
    line = series_of("a", [(1.0, UP), (2.0, ONE)], shift=0.5)
    assert (line.x, line.y, line.low, line.high) == ([1.5, 2.5], [UP.mean, 2.0], [UP.low, 2.0], [UP.high, 2.0])
    names = Panel("names", "", "y", [Series("b", [0, 1], [3, 4], line=False)], names=("one", "two"), level=0.0)
    chart = Chart("figure", [Panel("numbers", "x", "y", [line], log=True, limits=(0.1, 10)), names])
    rows = list(csv.reader(io.StringIO(as_csv(chart))))
    assert rows[1] == ["numbers", "a", "1.5", str(UP.mean), str(UP.low), str(UP.high)]
    assert rows[-1] == ["names", "b", "1", "4", "", ""]
    assert draw(chart, "png").startswith(b"\x89PNG")
    svg = draw(chart, "svg")
    assert svg == draw(chart, "svg")
    assert all(text in svg for text in (b">numbers<", b">two<"))
    with pytest.raises(ValueError, match="gif"):
        draw(chart, "gif")


def test_where_a_difference_stands() -> None:
    assert standing(UP, 0.5) == "above 0"
    assert standing(UP, 2.0) == "above 0, within 2"
    assert standing(UNCLEAR, 0.5) == "undecided"
    assert standing(mean_interval([0.1, -0.1, 0.05]), 0.5) == "within 0.5"
    assert standing(ONE, 0.5) == standing(None, 0.5) == "unknown"


def test_a_bound_holds_over_the_grid_only_where_it_holds_everywhere() -> None:
    small = mean_interval([0.1, -0.1, 0.05])
    assert "all of them, so over the whole grid; 0 stay undecided" in bounded("it", {"a": small, "b": small}, 0.5)
    mixed = bounded("it", {"a": small, "b": UNCLEAR, "c": DOWN}, 0.5)
    assert "of 3 differences, within 0.5 points of 0 (two one-sided tests, 5 %) are 1 of them; 1 stay" in mixed
    assert ". Shown are c: -1.10 (" in mixed
    assert "nothing is shown" in bounded("it", {"a": ONE}, 0.5)
    partly = bounded("it", {"a": small, "b": ONE}, 0.5)
    assert "of 1 difference, within 0.5 points of 0 (two one-sided tests, 5 %; 1 more of one seed left out)" in partly
    assert "are 1 of them" in partly, "the whole grid is not known"
    lacking = bounded("it", {"a": small, "b": None}, 0.5)
    assert "of 1 difference, within 0.5 points of 0 (two one-sided tests, 5 %) are 1 of them" in lacking
    assert "nothing is shown" in bounded("it", {"a": None}, 0.5)


@pytest.mark.parametrize(("letters", "beside"), [(5, 4), (30, 2), (200, 1)])
def test_a_shared_legend_has_as_many_columns_as_fit(monkeypatch: pytest.MonkeyPatch, letters: int, beside: int) -> None:
    seen: list[int] = []
    original = Figure.legend
    monkeypatch.setattr(Figure, "legend", lambda self, *a, **k: seen.append(k["ncols"]) or original(self, *a, **k))
    lines = [Series(name * letters, [0.0, 1.0], [0.0, 1.0]) for name in "abcd"]
    draw(Chart("figure", [Panel("one", "x", "y", lines), Panel("two", "x", "y", lines)]), "png")
    assert seen == [beside]
