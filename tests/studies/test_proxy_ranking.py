"""The study of what pruned networks would label: agreement of rankings, networks of equal size, a tiny grid."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sartor.cli.main import main
from sartor.data.formats import digits
from sartor.models.build import build_model
from sartor.recipes import fusing
from sartor.recipes.channel_scores import channel_scores
from sartor.registry import SELECTORS, parse
from sartor.seen import Scan
from sartor.studies.agreement import agreement, overlap, ranking
from sartor.studies.proxy_ranking import Labelled, ProxyRankingStudy, of_such_sizes, size, written
from sartor.studies.proxy_tables import DENSE, MEASURE, Share, alike, findings, pruned

TINY = ("--data", "few(of=digits, samples=120)", "--model", "cnn(width=3)", "--epochs", "2", "--batch-size", "20")
TINY += ("--seeds", "2", "--labels", "0.4", "--sparsities", "0.5", "--tops", "0.1", "0.5")


def seen(logits: torch.Tensor) -> Scan:
    return Scan.from_arrays(logits=logits, features=logits)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(50, 3, generator=torch.Generator().manual_seed(0))


def test_agreement_of_alike_and_of_opposite_rankings(logits: torch.Tensor) -> None:
    margin = SELECTORS.build("margin")
    one = ranking(margin, seen(logits), (0.1, 0.4), 0)
    assert {share: len(rows) for share, rows in one.chosen.items()} == {0.1: 5, 0.4: 20}
    assert agreement(one, one) == pytest.approx({"spearman": 1, "kendall": 1, overlap(0.1): 1, overlap(0.4): 1})
    opposite = ranking(SELECTORS.build("margin(keep=highest)"), seen(logits), (0.1, 0.4), 0)
    assert agreement(one, opposite)[overlap(0.4)] == 0, "choices are the selector's own, not the highest scores"


def test_a_network_without_any_order_agrees_with_none(logits: torch.Tensor) -> None:
    selector = SELECTORS.build("entropy")
    flat, one = (ranking(selector, seen(values), (0.1,), 0) for values in (torch.zeros(50, 3), logits))
    found = agreement(flat, one)
    assert (found["spearman"], found["kendall"]) == (0, 0)


def test_correlations_and_overlap_by_hand() -> None:
    certain = torch.tensor([4.0, 3.0, 2.0, 1.0])
    swapped = torch.tensor([3.0, 4.0, 2.0, 1.0])
    one, other = (
        ranking(SELECTORS.build("least-confidence"), seen(torch.stack([top, -top], 1)), (0.25, 0.5, 0.75), 0)
        for top in (certain, swapped)
    )
    found = agreement(one, other)
    assert found["spearman"] == pytest.approx(0.8)
    assert found["kendall"] == pytest.approx(4 / 6)
    assert [found[overlap(share)] for share in (0.25, 0.5, 0.75)] == pytest.approx([1, 1, 2 / 3])


def test_an_acquisition_without_scores_is_told_by_its_choices(logits: torch.Tensor) -> None:
    one = ranking(SELECTORS.build("k-center"), seen(logits), (0.1,), 0)
    assert agreement(one, one) == {overlap(0.1): 1.0}


def test_a_small_network_of_about_as_many_parameters_is_found_among_the_widths() -> None:
    splits = digits()
    made = {spec: size(build_model(spec, classes=10, input_shape=(1, 8, 8), seed=0)) for spec in ("cnn(width=4)", "fc")}
    found = of_such_sizes(splits, "cnn(width=8, dropout=0.1)", [made["cnn(width=4)"] + 9, made["cnn(width=4)"]])
    assert found == ["cnn(width=4, dropout=0.1)"]
    assert of_such_sizes(splits, "cnn(width=8)", [10**6]) == []
    assert of_such_sizes(splits, "fc(hidden=8)", [200]) == [], "fc has no width"
    assert alike(100, 125)
    assert not alike(100, 126)


def test_options_are_written_as_they_are_read() -> None:
    options = {"stem": "small one", "width": 3, "half": 0.5, "on": True}
    assert parse(written("net", options)) == ("net", options)


def test_pruned_networks_are_cut_out_of_the_dense_one_and_the_measure_is_another(tmp_path: Path) -> None:
    study = ProxyRankingStudy(out=tmp_path, model="cnn(width=4)", sparsities=(0.5,))
    networks = Labelled(study, 0.1, 3).networks(digits(), digits().train)
    assert list(networks) == [DENSE, MEASURE, pruned(0.5), "cnn(width=2)"]
    whole, other, part = ({row.tobytes() for row in networks[name].conv1.weight.detach().numpy()} for name in
                          (DENSE, MEASURE, pruned(0.5)))  # fmt: skip
    assert len(part) == 2
    assert part < whole
    assert not part & other
    assert size(networks[pruned(0.5)]) == size(networks["cnn(width=2)"])


def test_a_tiny_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", "proxy-ranking", *TINY, "--acquisitions", "margin", "k-center(start=labelled)", "--out", "a"]
    words += ["--proxies", "cnn(width=1)", "cnn(width=2)"]
    assert main([*words, "--dry-run"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("10 trainings")
    assert not (tmp_path / "a").exists()
    assert main(words) == 0, capsys.readouterr().err
    folder = tmp_path / "a"
    names = {"results.json", "results.csv", "table.md", "figure.csv", "figure.svg", "figure.png"}
    assert {path.name for path in folder.iterdir() if path.is_file()} == names
    runs = list(folder.glob("labels-0.4/*/seed-*"))
    assert len(runs) == 10
    for seed in (0, 1):
        subsets = [(run / "subsets/epoch-0000.json").read_text() for run in runs if run.name == f"seed-{seed}"]
        assert len(subsets) == 5
        assert len({tuple(json.loads(text)["ids"]) for text in subsets}) == 1, "all learn from the same labels"
    cells = json.loads((folder / "results.json").read_text())["cells"]
    assert [(cell["labels"], cell["seed"]) for cell in cells] == [(0.4, 0), (0.4, 1)]
    by_name = {row["network"]: row for row in cells[0]["networks"]}
    assert by_name[MEASURE]["measure"]["margin"] == pytest.approx(
        {"spearman": 1, "kendall": 1, "overlap at 10 %": 1, "overlap at 50 %": 1}
    )
    assert set(by_name[DENSE]["measure"]["k-center(start=labelled)"]) == {"overlap at 10 %", "overlap at 50 %"}
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert {row["network"] for row in rows} == {DENSE, pruned(0.5), "cnn(width=1)", "cnn(width=2)"}
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main(words) == 0
    assert {path: path.read_bytes() for path in before} == before, "a finished study is read back"


def cell(seed: int, **rho: float) -> dict[str, Any]:
    sizes = {DENSE: 400, MEASURE: 400, pruned(0.5): 100, "small": 110}
    networks = [
        {"network": name, "parameters": sizes[name], "accuracy": 0.5}
        | {side: {"margin": {"spearman": value, "kendall": value, overlap(0.1): value}} for side in ("measure", "own")}
        for name, value in (zip(sizes, rho.values()))
    ]
    return {"labels": 0.1, "seed": seed, "networks": networks}


def test_what_is_said_is_paired_by_seed() -> None:
    results = [cell(0, dense=0.8, other=1, cut=0.5, small=0.6), cell(1, dense=0.6, other=1, cut=0.3, small=0.2)]
    share = Share.of(results, 0.1)
    minus = share.minus(pruned(0.5), DENSE, "margin", "spearman")
    assert minus is not None
    assert (minus.mean, minus.outcome) == (pytest.approx(-0.3), "worse")
    assert share.equal(pruned(0.5)) == "small"
    found = findings(results, ["margin"], [0.1])
    floor, equal = found.tables[1:]
    assert [row["network"] for row in floor.rows] == [pruned(0.5), "small"]
    assert str(floor.rows[0]["overlap at 10 %, %"]) == "**-30.00 (-30.00 to -30.00)**"
    assert [(row["network"], row["minus"]) for row in equal.rows] == [(pruned(0.5), "small")]
    assert "rank correlation of a pruned network minus that of the noise floor: of 1 comparison, 0 above" in found.text
    assert MEASURE not in {row["network"] for row in found.tables[0].rows}


def test_pruned_networks_by_other_criteria_stand_beside_those_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["study", "proxy-ranking", *TINY, "--criteria", "random", "l2", "snip", "--acquisitions", "margin"]
    read: set[str] = set()

    def watched(importance: str, model: Any, pool: Any, **given: Any) -> Any:
        read.update(pool.ids[row] for row in pool.rows.tolist())
        return channel_scores(importance, model, pool, **given)

    monkeypatch.setattr(fusing, "channel_scores", watched)
    assert main([*words, "--out", "a"]) == 0, capsys.readouterr().err
    known = [json.loads(path.read_text())["ids"] for path in Path("a").glob("labels-*/dense/seed-*/subsets/*.json")]
    assert read == {one for ids in known for one in ids}, "labels that are known, no others"
    rows = json.loads(Path("a/results.json").read_text())["cells"][0]["networks"]
    sizes = {row["network"]: row["parameters"] for row in rows}
    made = [pruned(0.5, "random"), pruned(0.5), pruned(0.5, "snip")]
    assert len({sizes[name] for name in made}) == 1, "equal widths"
    table = Path("a/table.md").read_text()
    part = table[table.index("Minus channels pruned by random") :]
    assert "| pruned 0.5 by snip | pruned 0.5 by random |" in part
    assert "| pruned 0.5 | pruned 0.5 by random |" in part
    assert "minus that of one pruned by random" in table


def test_a_criterion_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "proxy-ranking", "--criteria", "snipp"]) == 2
    assert "criteria is 'snipp'; it must be one of" in capsys.readouterr().err


def test_without_a_proxy_that_is_said() -> None:
    results = [cell(seed, dense=0.8, other=1, cut=0.5) for seed in (0, 1)]
    assert "give --proxies" in findings(results, ["margin"], [0.1]).verdict[0]
