"""What DropHot's grid leaves beside its runs: the tables as numbers and as text, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sartor.studies.drophot_defects import verdict_of
from sartor.studies.drophot_figures import curve_charts, pruning_charts
from sartor.studies.drophot_overall import overall_table
from sartor.studies.drophot_scores import Scores, scores_chart, scores_table
from sartor.studies.drophot_table import grid_lines, grid_markdown
from sartor.studies.findings import Table, as_list, chart_files, rows_as_csv
from sartor.studies.selector_table import lines_as_csv
from sartor.studies.study import Files


def told_of(results: Sequence[Mapping[str, Any]], scores: Sequence[Scores], classes: int, said: Sequence[str]) -> Files:
    """Return the files that tell of the runs, and of what their coresets were chosen by; table.md ends with `said`."""
    lines = grid_lines(results)
    charts = [*pruning_charts(lines), *curve_charts(results)]
    tables: dict[str, Table] = {"overall.csv": overall_table(results)}
    if scores:
        tables["scores-table.csv"] = scores_table(scores, classes)
        charts.append(scores_chart(scores, classes))
    verdict = verdict_of(results)
    text = [as_list(verdict)] if verdict else []
    text += [*(table.markdown() for table in tables.values()), grid_markdown(lines)]
    text += [as_list(said)] if said else []
    files: dict[str, str | bytes] = {name: rows_as_csv([table]) for name, table in tables.items()}
    return files | {"results.csv": lines_as_csv(lines), "table.md": "\n".join(text)} | dict(chart_files(charts))
