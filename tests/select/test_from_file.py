"""The sampler `file`: the rows and weights of a csv file, and refusals where they cannot mean these samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sartor.errors import SelectionError
from sartor.registry import SAMPLERS
from sartor.select.coreset_file import as_csv, pool_digest, read_coreset
from sartor.select.from_file import FromFile, share_for
from sartor.types import Subset

ROWS = torch.tensor([2, 3, 5, 8, 13, 21])
TARGETS = torch.tensor([0, 1, 0, 1, 2, 2])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, **beside: object) -> FromFile:
    Path("c.csv").write_text(text, encoding="utf-8")
    if beside:
        Path("c.json").write_text(json.dumps({"kind": "sartor coreset", **beside}))
    return FromFile("c.csv")


def drawn(sampler: FromFile, k: int, rows=ROWS, targets=TARGETS) -> Subset:
    return sampler.sample(rows, k, generator=torch.Generator(), targets=targets)


def test_what_was_written_is_read_back_to_the_last_bit():
    weights = torch.tensor([0.1, 1 / 3, 2.5666667])
    subset = Subset(torch.tensor([3, 8, 21]), weights / weights.mean())
    ids = ["a,b", 'say "x"', "line\nbreak \udcff"]
    Path("c.csv").write_bytes(as_csv(subset, ids, torch.tensor([0.1, 2.0, torch.inf]), torch.tensor([1, 1, 2])))
    found = read_coreset(Path("c.csv"))
    assert torch.equal(found.subset.rows, subset.rows)
    torch.testing.assert_close(found.subset.weights, subset.weights, rtol=1e-6, atol=0)
    assert found.labels.tolist() == [1, 1, 2]
    assert found.pool is None


def test_it_is_drawn_once_with_its_weights_in_the_order_of_the_rows():
    sampler = write("row,weight,label\n21,3,2\n3,1,1\n")
    assert [sampler.due(epoch) for epoch in range(3)] == [True, False, False]
    subset = drawn(sampler, 2)
    assert subset.rows.tolist() == [3, 21]
    assert subset.weights.tolist() == [0.5, 1.5]
    assert drawn(write("row\n3\n21\n"), 2).weights.tolist() == [1.0, 1.0]
    assert SAMPLERS.build("file(path=c.csv)") == sampler


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^c.csv holds nothing; a column row"),
        ("id,weight\na,1\n", r"holds columns id, weight and 1 lines"),
        ("row\n", r"holds columns row and 0 lines"),
        ("row\n3\nx\n", r"^line 3 of c.csv has row 'x'; it must be a whole number from 0"),
        ("row\n3.5\n", r"line 2 .* row '3.5'"),
        ("row\n-1\n", r"row '-1'"),
        ("row\n3\n21\n3\n", r"^line 4 of c.csv has row 3 again"),
        ("row,weight\n3,0\n", r"weight '0'; it must be a positive number"),
        ("row,weight\n3,nan\n", r"weight 'nan'"),
        ("row,weight\n3\n", r"weight nothing"),
        ("row,label\n3,cat\n", r"label 'cat'; it must be a whole number"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_trained(text, message):
    with pytest.raises(SelectionError, match=message):
        write(text).due(0)


def test_a_missing_file_is_refused_before_anything_is_trained():
    with pytest.raises(SelectionError, match=r"^none.csv cannot be read \(No such file.*make it with sartor select"):
        FromFile("none.csv").due(0)


def test_a_file_of_other_samples_is_refused():
    with pytest.raises(SelectionError, match=r"holds row 4, row 34, which the training data lack; .*--holdout"):
        drawn(write("row\n3\n4\n34\n"), 3)
    with pytest.raises(SelectionError, match=r"tells other labels of row 8; .*--noise"):
        drawn(write("row,label\n3,1\n8,2\n"), 2)
    with pytest.raises(SelectionError, match=r"was chosen from other samples than these 6"):
        drawn(write("row\n3\n", pool=pool_digest(torch.arange(30))), 1)
    assert len(drawn(write("row\n3\n", pool=pool_digest(ROWS)), 1)) == 1


def test_another_k_is_refused_with_the_share_that_fits():
    with pytest.raises(SelectionError, match=r"holds 2 samples, but k is 1 of 6; give --fraction 0\.3\."):
        drawn(write("row\n3\n8\n"), 1)


@pytest.mark.parametrize("n", [1, 7, 1297, 50_000])
def test_a_share_comes_out_as_the_number_that_it_was_made_of(n):
    from sartor.ranking import size_of

    for k in {1, n // 3 or 1, n // 2 or 1, n}:
        share = share_for(k, n)
        assert size_of(float(share), n) == k
        assert 0 < float(share) <= 1
