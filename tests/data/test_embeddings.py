"""Arrays that people bring: mapped where they can be, in the order of the ids, refused where they cannot be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sartor.data.embeddings import ALLOWED, read_embeddings
from sartor.errors import DataError, SelectionError
from sartor.history import History
from sartor.seen import SUPPLIERS

N = 12


def arrays() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(N, 3)).astype(np.float32)
    return {"logits": logits, "features": draws.normal(size=(N, 4)).astype(np.float16), "targets": np.arange(N) % 3}


def folder_of(place: Path, **given: np.ndarray) -> Path:
    place.mkdir()
    for name, array in given.items():
        np.save(place / f"{name}.npy", array)
    return place


def test_every_part_of_a_scan_can_be_brought() -> None:
    assert {name.partition(".")[0] for name in (*ALLOWED, "history.visits")} >= set(SUPPLIERS)


def test_a_folder_stays_on_the_disk(tmp_path: Path) -> None:
    found = read_embeddings(folder_of(tmp_path / "e", **arrays(), ids=np.array([f"{i:02d}" for i in range(N)])))
    assert isinstance(found.arrays["features"], np.memmap)
    seen = found.scan(frozenset({"features", "targets"}))
    assert seen.features.dtype == torch.float16
    assert seen.features.data_ptr() == found.arrays["features"].ctypes.data, "the table is the file, not a copy"
    assert not seen.has("logits"), "what is not needed is not read"
    assert found.ids[3] == "03"


def test_samples_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    given, order = arrays(), np.random.default_rng(1).permutation(N)
    ids = np.array([f"{i:02d}" for i in range(N)])
    members = np.stack([given["logits"], -given["logits"]])
    np.savez(tmp_path / "e.npz", **{n: a[order] for n, a in given.items()}, ids=ids[order], members=members[:, order])
    found = read_embeddings(tmp_path / "e.npz")
    seen = found.scan(frozenset({"logits", "targets", "members"}))
    assert found.ids == tuple(ids)
    assert seen.rows.tolist() == list(range(N))
    assert torch.equal(seen.logits, torch.from_numpy(given["logits"]))
    assert seen.targets.tolist() == given["targets"].tolist()
    assert torch.equal(seen.members[1].logits, -seen.logits)


def test_rows_are_those_of_the_pool_that_the_arrays_come_from(tmp_path: Path) -> None:
    given, rows = arrays(), np.array([40, 7, 8, 9, 1, 2, 3, 4, 5, 6, 50, 60])
    np.savez(tmp_path / "e.npz", **given, rows=rows, members=given["logits"][None])
    found = read_embeddings(tmp_path / "e.npz")
    seen = found.scan(frozenset({"logits", "members"}))
    assert seen.rows.tolist() == sorted(rows.tolist())
    assert torch.equal(seen.logits, torch.from_numpy(given["logits"][rows.argsort()]))
    assert torch.equal(seen.members[0].rows, seen.rows)
    assert found.ids[:3] == ("01", "02", "03")


def test_other_samples_and_numbers_are_brought_too(tmp_path: Path) -> None:
    beside = {"validation.logits": np.zeros((5, 3)), "validation.targets": np.arange(5) % 3}
    np.savez(tmp_path / "e.npz", **arrays(), **beside, lr=0.1, progress=0.5, gradient_norms=np.ones(N))
    needs = frozenset({"logits", "validation", "lr", "progress", "gradient_norms"})
    seen = read_embeddings(tmp_path / "e.npz").scan(needs)
    assert (len(seen.validation), seen.progress) == (5, 0.5)
    assert seen.lr == pytest.approx(0.1)
    assert seen.gradient_norms.tolist() == [1.0] * N


def history(rows: torch.Tensor) -> History:
    found = History(rows)
    for visit in range(3):
        found.visit(rows, torch.eye(3)[(rows + visit) % 3] * rows[:, None], torch.zeros(len(rows), dtype=torch.int64))
    return found


def test_the_history_of_a_run_is_read_by_its_rows(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "e", targets=np.arange(N) % 3, rows=np.arange(N)[::-1] + 2)
    save_file(history(torch.arange(40)).state_dict(), place / "history.safetensors")
    seen = read_embeddings(place).scan(frozenset({"history"}))
    expected = history(torch.arange(2, 2 + N))
    assert torch.equal(seen.history.margin_sum, expected.margin_sum)
    assert torch.equal(seen.history.rows, seen.rows)


def test_a_history_without_rows_is_in_the_order_of_the_arrays(tmp_path: Path) -> None:
    tables = {name: table.numpy() for name, table in history(torch.arange(N)).state_dict().items() if name != "rows"}
    order = np.random.default_rng(2).permutation(N)
    given = {f"history.{name}": table[order] for name, table in tables.items()}
    np.savez(tmp_path / "e.npz", targets=(np.arange(N) % 3)[order], ids=order.astype("U"), **given)
    found = read_embeddings(tmp_path / "e.npz")
    seen = found.scan(frozenset({"history"}))
    expected = history(torch.arange(N)).margin_sum
    assert seen.history.margin_sum.tolist() == [expected[int(name)] for name in found.ids]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": np.eye(N)}, r"holds 'feature'; allowed are logits, .*Did you mean 'features'\?"),
        ({"logits": np.zeros((N - 1, 3))}, r"differ in length \(11 logits, 12 features, 12 targets\)"),
        ({"logits": np.zeros(N)}, r"logits in .* is float64 of 1 dimensions; it must be numbers of 2"),
        ({"targets": np.zeros(N)}, r"targets in .* must be whole numbers of 1"),
        ({"ids": np.zeros(N)}, r"ids in .* must be text or whole numbers of 1"),
        ({"ids": np.array(["a"] * N)}, r"1 ids are given more than once \('a'\)"),
        ({"rows": np.zeros(N, int)}, r"row 0 cannot be used; rows are distinct"),
        ({"members": np.zeros((2, 5, 3))}, r"differ in length .*5 members"),
        ({"history.visits": np.zeros(N, np.int32)}, r"not the tables of a history"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "e.npz", **{**arrays(), **change})
    with pytest.raises(DataError, match=message):
        read_embeddings(tmp_path / "e.npz").scan(frozenset({"logits", "history"}))


def test_values_are_looked_at_as_those_of_any_scan(tmp_path: Path) -> None:
    given = arrays()
    given["logits"][4] = np.nan
    found = read_embeddings(folder_of(tmp_path / "e", **given))
    with pytest.raises(SelectionError, match="logits of row 4 are not finite"):
        found.scan(frozenset({"logits"}))
    assert len(found.scan(frozenset({"features"}))) == N


def test_pickles_and_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"cannot be read.*save plain arrays"):
        read_embeddings(tmp_path / "e.npz")
    place = folder_of(tmp_path / "e", targets=np.arange(3))
    (place / "logits.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"logits.npy cannot be read"):
        read_embeddings(place)
    (place / "logits.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"logits.npy cannot be read"):
        read_embeddings(place)
