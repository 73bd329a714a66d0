"""Figures and score values of DropHot's grid: against counts made by hand, and from a small grid that was run."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sartor.cli.main import main
from sartor.comparison import load
from sartor.data.noise import corrupt
from sartor.errors import SartorError
from sartor.history import History
from sartor.report.charts import as_csv
from sartor.studies.drophot_figures import curve_charts, pruning_charts
from sartor.studies.drophot_grid import DropHotStudy
from sartor.studies.drophot_scores import Scores, binomial, by_count, found_of, pairs, scores_chart, scores_table
from sartor.studies.drophot_table import grid_lines, grid_markdown


def run(arm: str, seed: int, final: float, **place: Any) -> dict[str, Any]:
    """What came of a made-up run whose accuracies follow from its last one."""
    where = {"arm": arm, "fraction": 0.1, "sparsity": 0.5, "defects": "none", "noise": 0.0, "seed": seed} | place
    curves = {"train": [0.1, 0.2], "tune": [final - 0.1, final]}
    accuracies = {"test_accuracy": final, "trained_accuracy": 0.2, "pruned_accuracy": 0.15}
    where["spoilt_by"] = where["defects"]
    return where | accuracies | {"flops": 1.0, "seconds": 1.0, "curves": curves, "scores": None}


GRID = [
    run(arm, seed, 0.5 + 0.1 * (arm == "highest") + 0.01 * seed, sparsity=sparsity, **place)
    for place in ({}, {"defects": "scores", "noise": 0.2}, {"fraction": 0.3})
    for sparsity in (0.2, 0.5, 0.6, 0.8)
    for arm in ("highest", "random")
    for seed in (0, 1)
]


def values(text: str) -> dict[tuple[str, str, float], float]:
    """The y of a chart's csv by panel, series and x."""
    rows = csv.DictReader(io.StringIO(text))
    return {(row["panel"], row["series"], round(float(row["x"]), 1)): float(row["y"]) for row in rows}


def test_before_and_after_the_pruning_stand_by_sparsity_with_what_a_control_has_not() -> None:
    charts = {chart.name: chart for chart in pruning_charts(grid_lines(GRID))}
    assert list(charts) == ["pruning", "pruning-scores-noise-0.2"]
    assert len(charts["pruning"].panels) == 2 * 3
    found = values(as_csv(charts["pruning"]))
    assert found["10 % of the data: right after pruning", "highest", 0.0] == pytest.approx(20), "before it"
    assert found["10 % of the data: right after pruning", "highest", 0.5] == pytest.approx(15)
    assert found["30 % of the data: tuned", "highest", 0.5] == pytest.approx(60.5)
    assert found["10 % of the data: tuned, minus a random coreset", "highest", 0.8] == pytest.approx(10)
    assert not any(panel.endswith("coreset") and series == "random" for panel, series, _ in found)


def test_without_a_random_coreset_another_control_is_shown_and_without_any_none() -> None:
    other = [one | {"arm": "baseline" if one["arm"] == "random" else one["arm"]} for one in GRID[:16]]
    (chart,) = pruning_charts(grid_lines(other))
    assert chart.panels[2].title == "10 % of the data: tuned, minus all data"
    (chart,) = pruning_charts(grid_lines([one for one in GRID[:16] if one["arm"] == "highest"]))
    assert (len(chart.panels), chart.columns) == (2, 2)


def test_equal_cost_is_told_of_equal_costs_alone() -> None:
    arms = {"highest": (10.4, 0.7), "random": (7.0, 0.6), "random-matched": (9.5, 0.65), "baseline-matched": (10, 0.6)}
    arms["crest"] = (13.0, 0.6)
    made = [run(a, s, final + 0.01 * s) | {"flops": flops} for a, (flops, final) in arms.items() for s in (0, 1)]
    lines = {line.arm: line for line in grid_lines(made)}
    assert {arm for arm, line in lines.items() if line.minus_matched} == {"highest", "random-matched"}
    assert {arm for arm, line in lines.items() if line.minus_random_matched} == {"highest", "baseline-matched"}
    assert all(line.minus_random is not None for arm, line in lines.items() if arm != "random")
    fair, cheap, all_data = (
        getattr(lines["highest"], name) for name in ("minus_random_matched", "minus_random", "minus_matched")
    )
    assert (fair.mean, cheap.mean, all_data.mean) == pytest.approx((5, 10, 10))
    assert lines["baseline-matched"].minus_random_matched.mean == pytest.approx(-5)
    text = grid_markdown(list(lines.values()))
    assert "| minus random | minus random at equal cost |" in text
    assert text.splitlines()[4].count("|") == text.splitlines()[2].count("|")
    (chart,) = pruning_charts(grid_lines([one for one in made if one["arm"] in ("highest", "random-matched")]))
    assert chart.panels[2].title == "10 % of the data: tuned, minus a random coreset at equal cost"


def test_curves_go_through_training_pruning_and_tuning_at_three_sparsities() -> None:
    charts = {chart.name: chart for chart in curve_charts(GRID)}
    assert list(charts) == ["curves", "curves-scores-noise-0.2"]
    titles = [panel.title for panel in charts["curves"].panels]
    assert titles[:3] == [f"10 % of the data, {share} pruned" for share in ("0.2", "0.6", "0.8")]
    found = values(as_csv(charts["curves"]))
    line = [found[titles[0], "random", float(x)] for x in (-2, -1, 0, 1, 2)]
    assert line == pytest.approx([10, 20, 15, 40.5, 50.5])


def history(forgotten: list[int], right: list[int], visits: int = 4) -> History:
    found = History(torch.arange(len(forgotten)))
    found.visits.fill_(visits)
    found.forgotten, found.times_right = (torch.tensor(v, dtype=torch.int32) for v in (forgotten, right))
    return found


EVENTS = [
    Scores("none", 0.0, 0, 5, history([0, 1, 2, 0], [4, 2, 1, 0]), None),
    Scores("none", 0.0, 1, 5, history([0, 1, 1, 0], [4, 3, 1, 2]), None),
]
CHANGES = [
    Scores("scores", 0.0, seed, 5, one.history, torch.tensor(changes))
    for seed, (one, changes) in enumerate(zip(EVENTS, ([4, 3, 4, 3], [4, 4, 2, 3]), strict=True))
]


def test_score_values_by_hand() -> None:
    right, spoilt = scores_table([*CHANGES, *EVENTS], classes=10).rows
    assert (right["scores"], spoilt["scores"]) == ("counted right", "defects scores")
    assert right["at the highest count, %"].mean == pytest.approx(37.5), "one that was never right, two forgotten once"
    assert right["never right, %"].mean == pytest.approx(12.5)
    assert right["change rate, %"] is None
    assert spoilt["change rate, %"].mean == pytest.approx(100 * (14 + 13) / 2 / 16)
    assert spoilt["1 - 1/c, %"] == pytest.approx(90)
    assert spoilt["at the highest count, %"].mean == pytest.approx(50)
    assert spoilt["expected, %"] == pytest.approx(100 * 0.9**4)
    expected = float(torch.corrcoef(torch.tensor([[0.0, 1, 2, 3], [0.0, 1, 1, 0]]))[0, 1])
    assert pairs(EVENTS, lambda one: one.events) == pytest.approx([expected])
    assert right["correlation between seeds"] == f"{expected:.3f}"
    assert "(" in spoilt["with the true counts"], "one for each seed, with their range"


def test_the_highest_count_of_true_counts_is_told_where_none_was_never_right() -> None:
    rows = scores_table([EVENTS[1]], classes=10).rows
    assert rows[0]["at the highest count, %"].mean == pytest.approx(50)
    assert rows[0]["correlation between seeds"] == "", "of one seed there is none"


def test_independent_draws_are_binomial() -> None:
    series = binomial(9, 0.9)
    assert math.fsum(series.y) == pytest.approx(100)
    assert series.y[9] == pytest.approx(100 * 0.9**9)
    assert series.y[8] == pytest.approx(100 * 9 * 0.9**8 * 0.1)


def test_who_is_right_is_judged_by_another_seed() -> None:
    series = by_count("events", EVENTS, [one.events for one in EVENTS])
    found = dict(zip(series.x, series.y))
    assert found[0] == pytest.approx((100 * 4 / 4 + 100 * (4 / 4 + 0) / 2) / 2)
    assert found[2] == pytest.approx(25)
    assert found[3] == pytest.approx(50), "never right in seed 0, right at 2 of 4 visits in seed 1"
    assert by_count("events", EVENTS[:1], [EVENTS[0].events]).x == []


def test_seeds_are_compared_over_labels_that_are_right_in_both(tmp_path: Path) -> None:
    spoilt = [
        Scores("none", 0.2, seed, 5, history([0, 1, 2, 3, 9 * seed, 9 - 9 * seed], [4, 3, 2, 1, 1, 1]), None, wrong)
        for seed, wrong in enumerate(torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0]], dtype=torch.bool))
    ]
    assert pairs(spoilt, lambda one: one.events) == pytest.approx([1.0]), "the last two are wrong in one of them"
    series = by_count("events", spoilt, [one.events for one in spoilt])
    assert dict(zip(series.x, series.y)) == pytest.approx({0: 100, 1: 75, 2: 50, 3: 25})
    grid = DropHotStudy(
        data="few(of=digits, samples=60)",
        model="fc(hidden=4)",
        out=tmp_path,
        arms=("highest",),
        fractions=(0.5,),
        sparsities=(0.5,),
        epochs=2,
        noise=(0.2,),
        seeds=1,
    )
    grid.cells()[0].run()
    (found,) = grid.scores(grid.cells())
    assert found.wrong is not None
    train = load(grid.data, None).train
    assert torch.equal(found.wrong, corrupt(train, 0.2, seed=0).noise.flags[train.rows])


def test_the_scores_figure_has_counts_agreement_and_accuracy_for_each_setting() -> None:
    chart = scores_chart([*CHANGES, *EVENTS], classes=10)
    assert len(chart.panels) == 6
    counts, agreement, judged = chart.panels[3:]
    assert [series.label for series in counts.series] == ["changes by position", "independent draws"]
    assert list(agreement.names) == ["changes, two seeds", "events, two seeds", "changes and events"]
    assert [series.label for series in judged.series] == ["changes by position", "forgetting events"]
    shares = chart.panels[0].series[0]
    assert shares.bars
    assert list(shares.x) == [0, 1, 2, 3]
    assert list(shares.y) == pytest.approx([37.5, 37.5, 12.5, 12.5]), "never right is 3 for both seeds"
    assert scores_chart(EVENTS[:1], classes=10).panels[1].series[0].x == []


def test_a_small_grid_leaves_its_figures_and_its_values(tmp_path: Path) -> None:
    flags = ["--data", "digits", "--model", "fc(hidden=8)", "--epochs", "2", "--batch-size", "256", "--seeds", "2"]
    flags += ["--fractions", "0.2", "--sparsities", "0.8", "--arms", "highest", "random", "--defects", "none", "scores"]
    assert main(["study", "drophot", *flags, "--out", str(tmp_path)]) == 0
    names = ["pruning", "pruning-scores", "curves", "curves-scores", "scores"]
    for name in names:
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len(list(csv.reader((tmp_path / f"{name}.csv").open()))) > 4
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text.index("What coresets by forgetting are chosen by") < text.index("### 20 % of the data")
    rows = list(csv.DictReader((tmp_path / "scores-table.csv").open()))
    assert [row["scores"] for row in rows] == ["counted right", "defects scores"]
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    told = [cell["scores"]["change_rate"] for cell in cells if cell["defects"] == "scores" and cell["arm"] == "highest"]
    assert float(rows[1]["change rate, %_mean"]) == pytest.approx(50 * sum(told))


def test_counts_of_a_pruned_network_stand_beside_those_of_the_whole_one_of_their_seed() -> None:
    pruned = [
        Scores("none", 0.0, 0, 5, history([0, 2, 1, 0], [4, 2, 1, 3]), None, scorer=0.5),
        Scores("none", 0.0, 2, 5, history([1, 1, 2, 0], [4, 3, 1, 2]), None, scorer=0.5),
    ]
    whole, cut = scores_table([*pruned, *EVENTS], classes=10).rows
    assert cut["scores"] == "counted right, by a network without 50 % of its channels"
    expected = float(torch.corrcoef(torch.tensor([[0.0, 1, 2, 3], [0.0, 2, 1, 0]]))[0, 1])
    assert cut["with those of the whole network"] == f"{expected:.3f}", "of seed 2 there is no whole one"
    assert whole["with those of the whole network"] is None


def test_a_grid_with_a_pruned_scorer_reads_each_score_from_its_own_training(tmp_path: Path) -> None:
    flags = ["--data", "digits", "--model", "fc(hidden=8)", "--epochs", "2", "--batch-size", "256", "--seeds", "1"]
    flags += ["--fractions", "0.2", "--sparsities", "0.8", "--arms", "highest", "highest-pruned", "--score-sparsity"]
    flags += ["0.75", "--defects", "none", "scores", "--out", str(tmp_path)]
    assert main(["study", "drophot", *flags]) == 0
    rows = list(csv.DictReader((tmp_path / "scores-table.csv").open()))
    by = " by a network without 75 % of its channels"
    assert [row["scores"] for row in rows] == [
        "counted right",
        "defects scores",
        f"counted right,{by}",
        f"defects scores,{by}",
    ]
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    rates = {cell["arm"]: cell["scores"]["change_rate"] for cell in cells if cell["defects"] == "scores"}
    for row, arm in ((rows[1], "highest"), (rows[3], "highest-pruned")):
        assert float(row["change rate, %_mean"]) == pytest.approx(100 * rates[arm])
    assert rates["highest"] != rates["highest-pruned"]
    cost = {cell["arm"]: cell["flops"] for cell in cells if cell["defects"] == "none"}
    assert cost["highest-pruned"] < cost["highest"]


def test_a_grid_without_forgetting_has_no_scores(tmp_path: Path) -> None:
    grid = DropHotStudy(data="digits", out=tmp_path, arms=("random", "baseline"))
    assert grid.scores(grid.cells()) == []


def test_scores_that_are_gone_are_said(tmp_path: Path) -> None:
    with pytest.raises(SartorError, match="does not hold the training that scored for a run of seed 3"):
        found_of(tmp_path, {"seed": 3})
